//! Values and arrays in shared memory whose users end: those who die with the lock, those who drop them, and
//! all at once.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::time::{Duration, Instant};

use deeds::send;
use futures::FutureExt;
use procpool::{Array, Event, RawValue, StartMethod, Value};
use support::{PROMPTLY, everywhere, is_alive, on_each_runtime, pool, scene, soon};

/// Row 12: within a second, in a task and on a thread, with what it has left.
#[test]
fn the_death_of_a_holder_is_an_error_with_the_value_in_it() {
    fn die_halfway(array: Array<u32>) {
        let mut array = array.blocking_lock(None).unwrap();
        array[0] = 7;
        send(std::process::id(), libc::SIGKILL);
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let array = Array::new(&[1, 1]).unwrap();
        assert!(
            pool.submit(die_halfway, array.clone())
                .await
                .unwrap_err()
                .is_worker_lost()
        );
        let error = array.lock().await.unwrap_err();
        assert!(error.is_owner_died(), "{error}");
        assert!(
            error.to_string().contains("a process that has died"),
            "{error}"
        );
        assert_eq!(format!("{error:?}"), "LockError(OwnerDied(..))");
        let mut guard = error.into_guard().unwrap();
        assert_eq!(guard[..], [7, 1]);
        guard[1] = 7;
        drop(guard);

        let waits = array.clone();
        let on_a_thread = tokio::task::spawn_blocking(move || {
            let guard = waits.blocking_lock(None).unwrap_err().into_guard().unwrap();
            guard.mark_sound();
        });
        on_a_thread.await.unwrap();
        assert_eq!(array.lock().await.unwrap()[..], [7, 7]);
        pool.shutdown().await;
    });
}

/// The same for those who were waiting already.
#[test]
fn who_waits_for_a_value_is_told_that_its_holder_died() {
    fn hold((value, held): (Value<u32>, Event)) {
        let _guard = value.blocking_lock(None).unwrap();
        held.set();
        loop {
            std::thread::park();
        }
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (value, held) = (Value::new(0).unwrap(), Event::new().unwrap());
        let holds = pool.submit(hold, (value.clone(), held.clone()));
        held.wait().await.unwrap();
        assert!(
            value
                .lock_timeout(Duration::from_millis(20))
                .await
                .unwrap_err()
                .is_timeout()
        );
        let mut get = std::pin::pin!(value.get());
        assert!((&mut get).now_or_never().is_none());
        let begun = Instant::now();
        send(holds.worker_pid().unwrap(), libc::SIGKILL);
        let error = get.await.unwrap_err();
        assert!(error.is_owner_died() && begun.elapsed() < Duration::from_secs(1));
        drop(error);
        // It is not changed.
        assert!(
            value
                .set(9)
                .await
                .unwrap_err()
                .into_guard()
                .is_ok_and(|guard| *guard == 0)
        );
        pool.shutdown().await;
    });
}

/// CF-231: on several threads at once, and one within another.
#[test]
fn values_are_dropped_from_odd_places() {
    struct Nested {
        value: Value<u64>,
        inner: Option<Box<Nested>>,
    }
    impl Drop for Nested {
        fn drop(&mut self) {
            *self.value.blocking_lock(None).unwrap() += 1;
            drop(self.inner.take());
            drop(RawValue::new(1_u8).unwrap());
        }
    }

    let _scene = scene();
    let shared = Value::new(0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let nested = |inner| Nested {
                        value: shared.clone(),
                        inner,
                    };
                    let inner = nested(None);
                    drop(nested(Some(Box::new(inner))));
                    drop(Array::new(&[1_u16, 2]).unwrap());
                }
            });
        }
    });
    assert_eq!(*shared.try_lock().unwrap(), 5_000);
}

/// Nothing of a value is named, and nothing is left when all are killed that had it.
#[test]
fn nothing_is_left_when_everybody_is_killed_who_has_a_value() {
    use procpool::{Connection, Process, ProcessError, pipe};
    use std::os::unix::fs::MetadataExt;

    /// The files of a process that are the memory of values.
    fn files(pid: u32) -> Vec<u64> {
        let all = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let all = all
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let named = |path: &std::path::PathBuf| {
            let target = std::fs::read_link(path).unwrap_or_default();
            target.to_string_lossy().contains("memfd:procpool-value")
        };
        let files = all
            .filter(named)
            .filter_map(|path| std::fs::metadata(path).ok());
        files.map(|file| file.ino()).collect()
    }
    fn holders(file: u64) -> Vec<u32> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all.filter(|pid| files(*pid).contains(&file)).collect()
    }
    fn wait_with(told: (Value<u64>, Connection<u32, ()>)) {
        let (value, mut told) = told;
        *value.blocking_lock(None).unwrap() += 1;
        told.blocking_send(&std::process::id(), None).unwrap();
        let _ = told.blocking_recv(None);
    }
    fn make_and_pass_on(mut told: Connection<(u32, u32), ()>) {
        let value = Value::new(0_u64).unwrap();
        let (mut here, there) = pipe().unwrap();
        let other = Process::spawn(wait_with, (value.clone(), there));
        let _other = other.blocking_wait().unwrap();
        let other: u32 = here.blocking_recv(None).unwrap();
        assert_eq!(value.blocking_get(None).unwrap(), 1);
        told.blocking_send(&(std::process::id(), other), None)
            .unwrap();
        let _ = told.blocking_recv(None);
    }

    on_each_runtime(|| async {
        let (mut here, there) = pipe().unwrap();
        let maker = Process::builder().start_method(StartMethod::Spawn);
        let maker = maker.spawn(make_and_pass_on, there).await.unwrap();
        let (maker_pid, other) = here.recv().await.unwrap();
        let [file] = files(maker_pid)[..] else {
            panic!("{:?}", files(maker_pid))
        };
        let mut have = holders(file);
        have.sort_unstable();
        let mut expected = [maker_pid, other];
        expected.sort_unstable();
        assert_eq!(have, expected);
        // None of them has a chance to tidy up.
        expected
            .iter()
            .for_each(|pid| assert!(send(*pid, libc::SIGKILL)));
        let ended: Result<(), ProcessError> = maker.join().await;
        assert_eq!(ended.unwrap_err().exit().unwrap().signal(), Some(9));
        let gone = || !is_alive(other) && holders(file).is_empty();
        assert!(soon(PROMPTLY, gone).await);
    });
}
