//! What programs and systems do to a launcher: servers that are killed or hang,
//! statuses that are stolen, descriptors that run out, a terminal's ^C.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};

use super::script::Step;
use super::support::{
    LIMIT, Seen, alone, children_of, exit_within_limit, group_of, is_stopped, launch, launcher,
    order, wait_until,
};
use crate::process::StartMethod;
use crate::sys::{pidfd, signal, wait};

/// CF-292: a lost server costs no launch; its workers are told to be orphans.
#[tokio::test]
async fn a_server_that_is_killed_is_replaced() {
    let launcher = launcher(StartMethod::ForkServer);
    let mut before = 0;
    for _ in 0..5 {
        let (child, report) = launch(&launcher, &[Step::Report, Step::Hang])
            .await
            .unwrap();
        assert_ne!(report.parent, before);
        before = report.parent;
        Seen::new(report.parent).signal(Signal::KILL);
        tokio::time::timeout(LIMIT, child.orphaned())
            .await
            .expect("an orphan");
        assert!(!Seen::new(report.pid).has_ended_within(Duration::ZERO));
        child.kill_group();
        let exit = exit_within_limit(&child).await;
        assert!(
            exit.signal() == Some(libc::SIGKILL) || exit.is_unknown(),
            "{exit}"
        );
    }
    launcher.close().await;
}

/// The same with launches under way: every one has its worker, and no worker is
/// there that nobody knows of.
#[tokio::test]
async fn a_server_that_is_killed_costs_no_launch() {
    let launcher = launcher(StartMethod::ForkServer);
    for round in 0..8 {
        let (first, report) = launch(&launcher, &[Step::Report, Step::Hang])
            .await
            .unwrap();
        let server = Seen::new(report.parent);
        let killer = async {
            tokio::time::sleep(Duration::from_micros(round * 250)).await;
            server.signal(Signal::KILL);
        };
        let launches = (0..20).map(|_| launch(&launcher, &[Step::Report, Step::Exit(5)]));
        let (children, ()) =
            futures::future::join(futures::future::join_all(launches), killer).await;
        for child in children {
            let (child, report) = child.unwrap();
            assert_eq!(child.pid(), report.pid, "the channel has one worker");
            let exit = exit_within_limit(&child).await;
            assert!(exit.code() == Some(5) || exit.is_unknown(), "{exit}");
        }
        first.kill_group();
        exit_within_limit(&first).await;
    }
    launcher.close().await;
}

/// CF-291, CF-292; row 38.
#[tokio::test]
async fn a_server_shrugs_off_the_signals_that_end_programs() {
    let launcher = launcher(StartMethod::ForkServer);
    let (child, report) = launch(&launcher, &[Step::Report, Step::Hang])
        .await
        .unwrap();
    let server = Seen::new(report.parent);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        server.signal(signal);
    }
    let (second, report) = launch(&launcher, &[Step::Report, Step::Hang])
        .await
        .unwrap();
    assert_eq!(report.parent, server.0);
    // Nobody below is in the group that a terminal would signal.
    let own = rustix::process::getpgrp()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    for pid in [child.pid(), second.pid(), server.0] {
        assert_ne!(super::support::group_of(pid), Some(own));
    }
    for child in [child, second] {
        child.kill_group();
        exit_within_limit(&child).await;
    }
    launcher.close().await;
}

/// Row 38, with the signal itself.
#[test]
fn an_interrupt_to_the_group_is_the_programs_alone() {
    alone(
        "process::tests::faults::an_interrupt_to_the_group_is_the_programs_alone",
        async {
            rustix::process::setpgid(None, None).unwrap();
            signal::ignore(libc::SIGINT);
            for &method in StartMethod::available() {
                let launcher = launcher(method);
                let (child, report) = launch(&launcher, &[Step::Report, Step::Hang])
                    .await
                    .unwrap();
                assert_eq!(report.ignored & 1 << (libc::SIGINT - 1), 0);
                kill_process_group(rustix::process::getpgrp(), Signal::INT).unwrap();
                let (second, _) = launch(&launcher, &[Step::Report, Step::Exit(1)])
                    .await
                    .unwrap();
                assert_eq!(exit_within_limit(&second).await.code(), Some(1));
                assert!(!Seen::new(child.pid()).has_ended_within(Duration::ZERO));
                child.kill_group();
                exit_within_limit(&child).await;
                launcher.close().await;
            }
        },
    );
}

/// A server that somebody has stopped goes on when it is needed: to report an end, and to fork.
#[tokio::test]
async fn a_server_that_is_stopped_is_woken() {
    let launcher = launcher(StartMethod::ForkServer);
    let steps = [Step::Report, Step::Hang];
    let (mut child, report) = launch(&launcher, &steps).await.unwrap();
    let server = Seen::new(report.parent);
    let stop = || {
        server.signal(Signal::STOP);
        wait_until("the server to stop", || is_stopped(server.0));
    };
    for _ in 0..3 {
        stop();
        child.kill_group();
        let exit = exit_within_limit(&child).await;
        assert_eq!(exit.signal(), Some(libc::SIGKILL));
        stop();
        let (next, report) = launch(&launcher, &steps).await.unwrap();
        assert_eq!(report.parent, server.0);
        child = next;
    }
    child.kill_group();
    launcher.close().await;
}

/// It is woken for that as well, and takes with it what escaped from its workers.
#[tokio::test]
async fn a_server_that_is_stopped_does_not_hold_up_the_close() {
    let launcher = launcher(StartMethod::ForkServer);
    let steps = [Step::Escapee, Step::Report, Step::Stop];
    let (child, report) = launch(&launcher, &steps).await.unwrap();
    let escaped = Seen::new(report.started[0]);
    wait_until("the escape", || group_of(escaped.0) == Some(escaped.0));
    wait_until("the worker to stop", || is_stopped(report.pid));
    child.signal(Signal::CONT).unwrap();
    exit_within_limit(&child).await;
    Seen::new(report.parent).signal(Signal::STOP);
    wait_until("the server to stop", || is_stopped(report.parent));
    tokio::time::timeout(Duration::from_secs(4), launcher.close())
        .await
        .expect("an end");
    assert!(escaped.has_ended_within(Duration::ZERO));
}

/// Row 6: something in the program waits for all children.
#[test]
fn stolen_statuses_hang_nothing() {
    alone(
        "process::tests::faults::stolen_statuses_hang_nothing",
        async {
            std::thread::spawn(|| {
                loop {
                    let _ = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
            outlive_a_hundred_ends().await;
        },
    );
}

/// Row 6: children are reaped by the kernel.
#[test]
fn ignored_statuses_hang_nothing() {
    alone(
        "process::tests::faults::ignored_statuses_hang_nothing",
        async {
            signal::ignore(libc::SIGCHLD);
            outlive_a_hundred_ends().await;
        },
    );
}

async fn outlive_a_hundred_ends() {
    let kernel_tells = kernel_keeps_statuses();
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        for _ in 0..100 {
            let child = launcher.launch(order(&[Step::Exit(9)])).await.unwrap();
            let exit = exit_within_limit(&child).await;
            // A fork server's workers are not the program's children, and the
            // server is the program's copy but not its victim.
            let known = method == StartMethod::ForkServer || kernel_tells;
            assert_eq!(exit.code() == Some(9), known, "{method}: {exit}");
        }
        tokio::time::timeout(LIMIT, launcher.close())
            .await
            .expect("an end");
    }
}

fn kernel_keeps_statuses() -> bool {
    let own = pidfd::open_own().expect("a pidfd");
    pidfd::wait_status(own.as_fd()).is_ok()
}

/// CF-299; row 27.
#[test]
fn a_want_of_descriptors_is_an_error_that_passes() {
    alone(
        "process::tests::faults::a_want_of_descriptors_is_an_error_that_passes",
        async {
            let roomy = getrlimit(Resource::Nofile);
            for &method in StartMethod::available() {
                let launcher = launcher(method);
                let (first, _) = launch(&launcher, &[Step::Report, Step::Hang])
                    .await
                    .unwrap();
                let mut scarce = 0;
                // From no descriptor too many to none too few, one by one.
                for spare in 0..12 {
                    let mut hoard = Vec::new();
                    let order = order(&[Step::Exit(4)]);
                    let tight = Rlimit {
                        current: Some(256),
                        ..roomy
                    };
                    setrlimit(Resource::Nofile, tight).unwrap();
                    while let Ok(one) = std::fs::File::open("/dev/null") {
                        hoard.push(one);
                    }
                    hoard.truncate(hoard.len() - spare);
                    let launched = launcher.launch(order).await;
                    drop(hoard);
                    setrlimit(Resource::Nofile, roomy).unwrap();
                    match launched {
                        Ok(child) => assert_eq!(exit_within_limit(&child).await.code(), Some(4)),
                        Err(error) => {
                            assert!(error.is_resource(), "{method} {spare}: {error}");
                            scarce += 1;
                        }
                    }
                }
                assert!((1..12).contains(&scarce), "{method}: {scarce}");
                let (child, _) = launch(&launcher, &[Step::Report, Step::Exit(4)])
                    .await
                    .unwrap();
                assert_eq!(exit_within_limit(&child).await.code(), Some(4));
                assert!(!Seen::new(first.pid()).has_ended_within(Duration::ZERO));
                first.kill_group();
                exit_within_limit(&first).await;
                launcher.close().await;
                assert_eq!(children_of(std::process::id()), [0; 0], "{method}");
            }
        },
    );
}

#[tokio::test]
async fn a_way_without_group_pidfds_kills_the_group_too() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let steps = [Step::Grandchild, Step::Report, Step::Hang];
        let (child, report) = launch(&launcher, &steps).await.unwrap();
        let started = Seen::new(report.started[0]);
        child.kill_group_as_old_kernels_do();
        assert_eq!(
            exit_within_limit(&child).await.signal(),
            Some(libc::SIGKILL)
        );
        assert!(started.has_ended_within(LIMIT), "{method}");
        // Nothing to kill any more, nobody else's group.
        child.kill_group_as_old_kernels_do();
        launcher.close().await;
    }
}

#[test]
fn a_reaped_child_is_not_ours_to_kill_by_number() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let pidfd = pidfd::open(pid).unwrap();
    assert!(wait::is_unreaped_child(pidfd.as_fd()));
    child.wait().unwrap();
    assert!(!wait::is_unreaped_child(pidfd.as_fd()));
}
