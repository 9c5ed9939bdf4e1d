//! The ends of workers, and of launchers and the keeper.

use std::time::Duration;

use rustix::process::Signal;

use super::script::Step;
use super::support::{
    LIMIT, Seen, alone, children_of, exit_within_limit, group_of, has_thread, in_a_copy,
    is_stopped, launch, launcher, open_descriptors, order, wait_until,
};
use crate::process::{Keeper, StartMethod};

#[tokio::test]
async fn every_end_is_reported_as_it_was() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let aborted = launcher.launch(order(&[Step::Abort])).await.unwrap();
        let exit = exit_within_limit(&aborted).await;
        assert_eq!(exit.signal(), Some(libc::SIGABRT), "{method}");
        for signal in [Signal::KILL, Signal::TERM, Signal::SEGV] {
            let (child, _) = launch(&launcher, &[Step::Report, Step::Hang])
                .await
                .unwrap();
            child.signal(signal).unwrap();
            let exit = exit_within_limit(&child).await;
            assert_eq!(exit.signal(), Some(signal.as_raw()), "{method}");
            // Row 17: again, and after it was reaped.
            child.signal(signal).unwrap();
            child.kill_group();
            child.kill_group();
            assert_eq!(child.exited().await, exit, "{method}");
        }
        launcher.close().await;
    }
}

/// Row 15.
#[tokio::test]
async fn a_kill_takes_what_the_worker_has_started() {
    let steps = [Step::Grandchild, Step::Grandchild, Step::Report, Step::Hang];
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let (child, report) = launch(&launcher, &steps).await.unwrap();
        let started: Vec<_> = report.started.into_iter().map(Seen::new).collect();
        assert_eq!(started.len(), 2);
        child.kill_group();
        assert_eq!(
            exit_within_limit(&child).await.signal(),
            Some(libc::SIGKILL)
        );
        for process in started {
            assert!(process.has_ended_within(LIMIT), "{method}");
        }
        launcher.close().await;
    }
}

/// As above, for a worker that ends by itself.
#[tokio::test]
async fn an_end_takes_what_the_worker_has_started() {
    let steps = [Step::Grandchild, Step::Report, Step::Stop, Step::Exit(3)];
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let (child, report) = launch(&launcher, &steps).await.unwrap();
        let started = Seen::new(report.started[0]);
        wait_until("the worker to stop", || is_stopped(report.pid));
        child.signal(Signal::CONT).unwrap();
        assert_eq!(exit_within_limit(&child).await.code(), Some(3), "{method}");
        assert!(started.has_ended_within(LIMIT), "{method}");
        launcher.close().await;
    }
}

/// CF-298: a stopped worker can be killed.
#[tokio::test]
async fn a_stopped_worker_can_be_killed() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let (child, report) = launch(&launcher, &[Step::Report, Step::Stop])
            .await
            .unwrap();
        wait_until("the worker to stop", || is_stopped(report.pid));
        child.kill_group();
        assert_eq!(
            exit_within_limit(&child).await.signal(),
            Some(libc::SIGKILL)
        );
        launcher.close().await;
    }
}

/// What escaped from a worker's group goes with the launcher, where the fork
/// server is its adoptive parent.
#[tokio::test]
async fn closing_a_fork_server_takes_what_escaped_from_its_workers() {
    let launcher = launcher(StartMethod::ForkServer);
    let steps = [Step::Escapee, Step::Report, Step::Stop, Step::Exit(0)];
    let (child, report) = launch(&launcher, &steps).await.unwrap();
    let escaped = Seen::new(report.started[0]);
    wait_until("the escape", || group_of(escaped.0) == Some(escaped.0));
    wait_until("the worker to stop", || is_stopped(report.pid));
    child.signal(Signal::CONT).unwrap();
    assert!(exit_within_limit(&child).await.success());
    assert!(!escaped.has_ended_within(Duration::ZERO));
    launcher.close().await;
    assert!(escaped.has_ended_within(Duration::ZERO));
}

/// CF-290; rows 7 and 35.
#[test]
fn nothing_is_left_after_a_thousand_launches() {
    alone(
        "process::tests::ending::nothing_is_left_after_a_thousand_launches",
        async {
            for &method in StartMethod::available() {
                let before = open_descriptors();
                let launcher = launcher(method);
                for round in 0..50 {
                    let launches = (0..20).map(|_| launcher.launch(order(&[Step::Hang])));
                    let children = futures::future::join_all(launches).await;
                    for child in &children {
                        child.as_ref().unwrap().kill_group();
                    }
                    for child in children {
                        let exit = exit_within_limit(&child.unwrap()).await;
                        assert_eq!(exit.signal(), Some(libc::SIGKILL), "{method} {round}");
                    }
                }
                launcher.close().await;
                assert_eq!(children_of(std::process::id()), [0; 0], "{method}");
                drop(launcher);
                wait_until("the keeper to end", || !has_thread("procpool-keeper"));
                assert_eq!(open_descriptors(), before, "{method}");
            }
        },
    );
}

/// Row 35: at whatever moment a launch is given up, no process is left.
#[test]
fn a_launch_that_is_dropped_leaves_nothing() {
    alone(
        "process::tests::ending::a_launch_that_is_dropped_leaves_nothing",
        async {
            for &method in StartMethod::available() {
                for micros in (0..6_000).step_by(100) {
                    let launcher = launcher(method);
                    let launch = launcher.launch(order(&[Step::Hang]));
                    let patience = Duration::from_micros(micros);
                    if let Ok(child) = tokio::time::timeout(patience, launch).await {
                        child.unwrap().kill_group();
                    }
                    tokio::time::timeout(LIMIT, launcher.close())
                        .await
                        .expect("an end");
                    assert_eq!(children_of(std::process::id()), [0; 0], "{method} {micros}");
                }
            }
        },
    );
}

#[test]
fn a_launch_may_meet_a_close_at_any_moment() {
    alone(
        "process::tests::ending::a_launch_may_meet_a_close_at_any_moment",
        async {
            for &method in StartMethod::available() {
                for micros in (0..6_000).step_by(100) {
                    let launcher = launcher(method);
                    let launch = async {
                        match launcher.launch(order(&[Step::Hang])).await {
                            Ok(child) => child.kill_group(),
                            Err(error) => assert!(error.is_shutting_down(), "{error}"),
                        }
                    };
                    let close = async {
                        tokio::time::sleep(Duration::from_micros(micros)).await;
                        launcher.close().await;
                    };
                    let both = futures::future::join(launch, close);
                    tokio::time::timeout(LIMIT, both).await.expect("an end");
                    let late = launcher.launch(order(&[])).await.unwrap_err();
                    assert!(late.is_shutting_down());
                    assert_eq!(children_of(std::process::id()), [0; 0], "{method} {micros}");
                }
            }
        },
    );
}

#[test]
fn a_dropped_launcher_ends_by_itself_and_the_keeper_with_it() {
    alone(
        "process::tests::ending::a_dropped_launcher_ends_by_itself_and_the_keeper_with_it",
        async {
            for &method in StartMethod::available() {
                let launcher = launcher(method);
                let child = launcher.launch(order(&[Step::Hang])).await.unwrap();
                drop(launcher);
                assert!(has_thread("procpool-keeper"));
                child.kill_group();
                assert_eq!(child.exited().await.signal(), Some(libc::SIGKILL));
                wait_until("the keeper to end", || !has_thread("procpool-keeper"));
                assert_eq!(children_of(std::process::id()), [0; 0], "{method}");
            }
        },
    );
}

#[test]
fn there_is_one_keeper_at_a_time_and_always_another() {
    alone(
        "process::tests::ending::there_is_one_keeper_at_a_time_and_always_another",
        async {
            for _ in 0..50 {
                let keeper = Keeper::get().unwrap();
                assert!(std::sync::Arc::ptr_eq(&keeper, &Keeper::get().unwrap()));
                // The last share may go on its own thread.
                let last = std::sync::Arc::clone(&keeper);
                keeper.handle().spawn(async move { drop(last) });
                drop(keeper);
            }
            wait_until("the keeper to end", || !has_thread("procpool-keeper"));
        },
    );
}

/// A program may fork by itself: the keeper is not in the copy.
#[test]
fn a_forked_copy_gets_a_keeper_of_its_own() {
    alone(
        "process::tests::ending::a_forked_copy_gets_a_keeper_of_its_own",
        async {
            let launcher = launcher(StartMethod::ForkServer);
            let child = launcher.launch(order(&[Step::Hang])).await.unwrap();
            let copy = in_a_copy(|| {
                let keeper = Keeper::get().expect("a keeper of the copy");
                let (done, wait) = std::sync::mpsc::channel();
                keeper.handle().spawn(async move {
                    let _ = done.send(());
                });
                wait.recv_timeout(LIMIT).expect("a thread that runs it");
                drop(launcher);
            });
            assert_eq!(copy.code(), Some(0), "{copy}");
            child.kill_group();
            assert_eq!(
                exit_within_limit(&child).await.signal(),
                Some(libc::SIGKILL)
            );
        },
    );
}
