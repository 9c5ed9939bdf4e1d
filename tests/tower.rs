//! A pool behind tower's layers.
#![cfg(feature = "tower")]

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "permits are not needed here")]
mod gate;
mod support;

use std::time::Duration;

use futures::FutureExt;
use gate::Gate;
use procpool::{TaskError, TaskService};
use support::{PROMPTLY, builder, everywhere, pool, soon};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

fn mark_and_pass(at: (String, u32)) -> u32 {
    gate::mark(&at.0, &at.1.to_string());
    gate::pass(at.0);
    at.1
}

#[test]
fn a_service_is_ready_while_there_is_room_in_the_queue() {
    everywhere(async |method| {
        let pool = builder(1, method).max_pending(1).build().unwrap();
        let gate = Gate::new();
        let mut service = TaskService::new(pool.task(mark_and_pass));
        let first = service.ready().await.unwrap().call((gate.path(), 1));
        let second = service.ready().await.unwrap().call((gate.path(), 2));
        assert!(
            service.ready().now_or_never().is_none(),
            "one runs, one waits"
        );
        let mut other = service.clone();
        assert!(other.ready().now_or_never().is_none());
        gate.open();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
        let third = service.ready().await.unwrap().call((gate.path(), 3));
        assert_eq!(third.await.unwrap(), 3);
        pool.shutdown().await;
        let refused: TaskError = service.ready().await.unwrap_err();
        assert!(refused.is_shut_down());
    });
}

#[test]
fn room_that_is_taken_and_not_used_is_given_back() {
    everywhere(async |method| {
        let pool = builder(1, method).max_pending(1).build().unwrap();
        let service = TaskService::new(pool.task(|n: u32| n));
        let mut takers: Vec<_> = (0..2).map(|_| service.clone()).collect();
        for taker in &mut takers {
            taker.ready().await.unwrap();
        }
        let mut late = service.clone();
        assert!(late.ready().now_or_never().is_none());
        drop(takers);
        assert_eq!(late.ready().await.unwrap().call(5).await.unwrap(), 5);
        pool.shutdown().await;
    });
}

#[test]
fn a_layer_s_timeout_ends_the_work() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let gate = Gate::new();
        let mut service = ServiceBuilder::new()
            .timeout(Duration::from_millis(100))
            .service(TaskService::new(pool.task(mark_and_pass)));
        let late = service.ready().await.unwrap().call((gate.path(), 1));
        let error: BoxError = late.await.unwrap_err();
        assert!(error.is::<tower::timeout::error::Elapsed>());
        // The gate stays closed: only the end of the work makes room for this.
        let next = pool.submit(|n: u32| n, 2);
        assert_eq!(next.await.unwrap(), 2);
        assert_eq!(pool.stats().cancelled, 1);
        pool.shutdown().await;
    });
}

#[test]
fn a_pool_that_ends_wakes_those_who_wait_for_room() {
    everywhere(async |method| {
        let pool = builder(1, method).max_pending(1).build().unwrap();
        let gate = Gate::new();
        let mut service = TaskService::new(pool.task(mark_and_pass));
        let held: Vec<_> = [
            service.ready().await.unwrap().call((gate.path(), 1)),
            service.ready().await.unwrap().call((gate.path(), 2)),
        ]
        .into();
        assert!(soon(PROMPTLY, || gate.marks() == ["1"]).await);
        let (refused, ()) = tokio::join!(service.ready(), pool.terminate());
        assert!(refused.map(|_| ()).unwrap_err().is_shut_down());
        for response in held {
            assert!(response.await.unwrap_err().is_shut_down());
        }
    });
}
