//! The shortest way through everything.

mod support;

use procpool::ProcessPool;
use support::everywhere;

#[test]
fn a_call_is_run_in_another_process_and_its_result_comes_back() {
    everywhere(|method| async move {
        let pool = ProcessPool::builder()
            .workers(2)
            .start_method(method)
            .build()
            .unwrap();
        let (value, pid) = pool
            .submit(|n: u64| (n.pow(8), std::process::id()), 2)
            .await
            .unwrap();
        assert_eq!(value, 256);
        assert_ne!(pid, std::process::id());
        pool.shutdown().await;
    });
}
