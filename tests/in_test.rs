//! A pool in a test, under the standard harness, with and without tokio's attribute: nothing needs
//! to be set up there, and no worker runs the tests again.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use procpool::StartMethod;
use support::{everywhere, pool, scene};

/// How many tests of this binary were begun in this process, as a worker sees it.
static BEGUN: AtomicU32 = AtomicU32::new(0);

fn begun(_: ()) -> u32 {
    BEGUN.load(Ordering::Relaxed)
}

#[test]
fn a_plain_test_has_a_pool_without_a_runtime() {
    let _scene = scene();
    BEGUN.fetch_add(1, Ordering::Relaxed);
    for method in StartMethod::available() {
        let pool = pool(1, *method);
        let sum = pool
            .submit(|(a, b): (u8, u8)| a + b, (1, 2))
            .blocking_wait(None);
        assert_eq!(sum.unwrap(), 3);
        assert_eq!(pool.submit(begun, ()).blocking_wait(None).unwrap(), 0);
    }
}

/// A blocking wait that lasts calls the crate's own thread for help, which drives this pool already.
#[test]
fn a_long_wait_without_a_runtime_costs_no_worker() {
    let _scene = scene();
    for method in StartMethod::available() {
        let pool = pool(1, *method);
        let sleep = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
        let slept = pool.submit(sleep, 100).blocking_wait(None);
        assert!(slept.is_ok(), "{slept:?}");
    }
}

#[tokio::test]
async fn a_tokio_test_has_a_pool() {
    BEGUN.fetch_add(1, Ordering::Relaxed);
    for method in StartMethod::available() {
        let pool = pool(1, *method);
        assert_eq!(pool.submit(begun, ()).await.unwrap(), 0);
        pool.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tokio_test_with_threads_has_a_pool() {
    BEGUN.fetch_add(1, Ordering::Relaxed);
    for method in StartMethod::available() {
        let pool = pool(1, *method);
        assert_eq!(pool.submit(begun, ()).await.unwrap(), 0);
        pool.shutdown().await;
    }
}

/// CF-270.
#[test]
fn a_task_sees_the_arguments_and_the_environment_of_the_test() {
    type Given = (Vec<String>, Vec<(String, String)>);
    fn given(_: ()) -> Given {
        let mut variables: Vec<_> = std::env::vars().collect();
        variables.sort_unstable();
        (std::env::args().collect(), variables)
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(pool.submit(given, ()).await.unwrap(), given(()));
        pool.shutdown().await;
    });
}
