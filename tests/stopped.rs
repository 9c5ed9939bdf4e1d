//! Workers and fork servers that somebody stops (SIGSTOP), who neither run nor die.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::future::poll_fn;
use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};

use deeds::{Misdeed, Scratch, commit, hang, own_pid, send, state_of, touch, wait_for};
use procpool::{ProcessPool, StartMethod, Stdio, TaskHandle};
use support::{PROMPTLY, builder, children, everywhere, is_alive, pool, runtime, scene, soon};

async fn is_running<R: Send + 'static>(handle: &TaskHandle<R>) -> bool {
    soon(PROMPTLY, || handle.is_running()).await
}

async fn stop(pid: u32) {
    assert!(send(pid, libc::SIGSTOP));
    assert!(soon(PROMPTLY, || state_of(pid) == Some('T')).await);
}

/// CF-298; row 39.
#[test]
fn a_stopped_worker_keeps_its_time_limit_and_goes_on_when_it_is_continued() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let pool = pool(2, method);
        let patient = pool.submit(wait_for, scratch.at("gate"));
        assert!(is_running(&patient).await);
        let stopped = patient.worker_pid().unwrap();
        assert!(send(stopped, libc::SIGSTOP));

        let limited = pool.task(wait_for).timeout(Duration::from_millis(200));
        let limited = limited.submit(scratch.at("never"));
        assert!(is_running(&limited).await);
        let pid = limited.worker_pid().unwrap();
        assert!(send(pid, libc::SIGSTOP));
        let error = limited.await.unwrap_err();
        assert!(error.is_timeout() && error.maybe_executed(), "{error}");
        assert!(soon(PROMPTLY, || !is_alive(pid)).await);
        pool.submit(own_pid, ()).await.unwrap();

        touch(scratch.at("gate"));
        assert!(!patient.is_done());
        assert!(send(stopped, libc::SIGCONT));
        assert_eq!(patient.await.unwrap(), stopped);
        pool.shutdown().await;
    });
}

/// Row 39.
#[test]
fn a_worker_that_was_stopped_while_idle_holds_no_call_for_ever() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = pool(1, *method);
            let stopped = pool.submit(own_pid, ()).await.unwrap();
            stop(stopped).await;
            let begun = Instant::now();
            let pid = pool.submit(own_pid, ()).await.unwrap();
            assert!(pid != stopped && begun.elapsed() < PROMPTLY);
            assert!(soon(PROMPTLY, || !is_alive(stopped)).await);
            pool.shutdown().await;
        });
    }
}

/// Stops itself once, as a bystander with bad timing might.
fn stop_yourself(_: ()) {
    assert!(send(own_pid(()), libc::SIGSTOP));
}

/// Whether a child is past `execve`: until then whoever starts it waits for it in the kernel.
fn is_executed(pid: u32) -> bool {
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ"));
    environment.is_ok_and(|variables| variables.contains("PROCPOOL_BOOT"))
}

/// Row 39.
#[test]
fn a_worker_that_is_stopped_while_it_starts_goes_on() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let begun = Instant::now();
            let pool = builder(1, *method).initializer(stop_yourself, ());
            let pool = pool.build().unwrap();
            pool.ready().await.unwrap();
            pool.submit(own_pid, ()).await.unwrap();
            pool.shutdown().await;

            // Whatever it does just then.
            let pool = support::pool(1, *method);
            let patient = pool.submit(own_pid, ());
            let mut executed = None;
            let is_there = || {
                executed = children().into_iter().find(|pid| is_executed(*pid));
                executed.is_some()
            };
            assert!(soon(PROMPTLY, is_there).await);
            let executed = executed.unwrap();
            let _ = send(executed, libc::SIGSTOP);
            let has_started = || patient.is_running() || patient.is_done();
            assert!(soon(PROMPTLY, has_started).await);
            // It may have been too late, and have stopped a call, which is nobody's to wake.
            let _ = send(executed, libc::SIGCONT);
            let answered = tokio::time::timeout(PROMPTLY, patient).await.unwrap();
            assert!(answered.is_ok() && begun.elapsed() < 2 * PROMPTLY);
            pool.shutdown().await;
        });
    }
}

/// Leaves something behind that stops the worker when an async task is let in there and that file
/// exists, before the task is begun.
async fn lay_a_trap(file: String) -> u32 {
    tokio::task::spawn_local(poll_fn(move |cx| {
        if Path::new(&file).exists() {
            send(std::process::id(), libc::SIGSTOP);
        }
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    std::process::id()
}

async fn own_pid_too(_: ()) -> u32 {
    std::process::id()
}

/// Row 39. It can be told from one that runs a task, since nobody is in its room.
#[test]
fn a_worker_that_is_stopped_where_it_waits_for_async_tasks_holds_none_for_ever() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let scratch = Scratch::new();
            let pool = pool(1, *method);
            let stopped = pool
                .submit_async(lay_a_trap, scratch.at("trap"))
                .await
                .unwrap();
            touch(scratch.at("trap"));
            let begun = Instant::now();
            let late = pool.submit_async(own_pid_too, ());
            assert!(soon(PROMPTLY, || state_of(stopped) == Some('T')).await);
            let behind = pool.submit(own_pid, ());
            assert!(late.await.unwrap() != stopped && behind.await.unwrap() != stopped);
            assert!(begun.elapsed() < PROMPTLY);
            assert!(soon(PROMPTLY, || !is_alive(stopped)).await);
            pool.shutdown().await;
        });
    }
}

/// Row 39; decision 4.
#[test]
fn a_fork_server_that_is_stopped_goes_on_when_it_is_needed() {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = ProcessPool::builder().workers(2).stderr(Stdio::null());
        let pool = pool.build().unwrap();
        pool.submit(own_pid, ()).await.unwrap();
        let [server] = children()[..] else {
            panic!("{:?}", children())
        };
        // To start a worker: there has been no need of a second one.
        stop(server).await;
        pool.ready().await.unwrap();
        // To tell how one has ended, which nobody else could.
        stop(server).await;
        let error = pool.submit(commit, Misdeed::Exit(3)).await.unwrap_err();
        assert_eq!(error.worker_exit().unwrap().exit().code(), Some(3));
        pool.ready().await.unwrap();
        assert_eq!(children(), [server]);
        // To end.
        stop(server).await;
        let hangs = pool.submit(hang, ());
        let begun = Instant::now();
        pool.terminate().await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(hangs.await.unwrap_err().is_shut_down());
    });
}

/// Row 39; decision 4.
#[test]
fn a_worker_stopped_after_its_fork_server_died_can_still_be_ended() {
    let _scene = scene();
    runtime(2).block_on(async {
        let scratch = Scratch::new();
        let pool = ProcessPool::builder().workers(3).build().unwrap();
        pool.ready().await.unwrap();
        let patient = pool.submit(wait_for, scratch.at("gate"));
        let limited = pool.task(hang).timeout(Duration::from_secs(1)).submit(());
        let endless = pool.submit(hang, ());
        assert!(is_running(&patient).await && is_running(&endless).await);
        assert!(is_running(&limited).await);
        let kept = patient.worker_pid().unwrap();
        let late = limited.worker_pid().unwrap();
        let last = endless.worker_pid().unwrap();
        let [server] = children()[..] else {
            panic!("{:?}", children())
        };
        assert!(send(server, libc::SIGKILL));
        assert!(soon(PROMPTLY, || !is_alive(server)).await);
        for pid in [kept, late, last] {
            stop(pid).await;
        }
        assert!(limited.await.unwrap_err().is_timeout());
        assert!(soon(PROMPTLY, || !is_alive(late)).await);
        touch(scratch.at("gate"));
        assert!(send(kept, libc::SIGCONT));
        assert_eq!(patient.await.unwrap(), kept);
        let begun = Instant::now();
        pool.terminate().await;
        assert!(begun.elapsed() < Duration::from_secs(5) && !is_alive(last));
        assert!(endless.await.unwrap_err().is_shut_down());
    });
}
