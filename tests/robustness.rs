//! What tasks and outsiders do to workers, and what it may cost: the one call that was running.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deeds::{
    Misdeed, Scratch, commit, group_of, own_pid, pid_in, send, start_a_sleeper_and_hang, state_of,
    status_line, touch, wait_for,
};
use procpool::{ProcessPool, Restart, StartMethod, Stdio, TaskHandle, WorkerExit};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, builder, children, everywhere, is_alive, pool, runtime, scene, soon};

/// The same with what workers complain about out of the way.
fn quiet(method: StartMethod, workers: usize) -> ProcessPool {
    let pool = builder(workers, method).stderr(Stdio::null());
    pool.build().unwrap()
}

async fn is_running<R: Send + 'static>(handle: &TaskHandle<R>) -> bool {
    soon(PROMPTLY, || handle.is_running()).await
}

/// As [`everywhere`], for what takes seconds: on one kind of runtime.
fn with_each_method<F: Future<Output = ()>>(test: impl Fn(StartMethod) -> F) {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let test = tokio::time::timeout(support::HANG, test(*method));
            assert!(test.await.is_ok(), "hangs with {method}");
        });
    }
}

/// CF-032, CF-282, CF-283; rows 20 and 21.
#[test]
fn a_task_that_ends_its_process_fails_with_the_exact_exit_and_the_pool_goes_on() {
    let cases = [
        (Misdeed::Exit(0), Ok(0)),
        (Misdeed::Exit(3), Ok(3)),
        (Misdeed::ExitAtOnce(0), Ok(0)),
        (Misdeed::ExitAtOnce(99), Ok(99)),
        (Misdeed::Abort, Err(libc::SIGABRT)),
        (Misdeed::WriteNowhere, Err(libc::SIGSEGV)),
        (Misdeed::IllegalInstruction, Err(libc::SIGILL)),
        (Misdeed::Overflow, Err(libc::SIGABRT)),
        (Misdeed::Signal(libc::SIGKILL), Err(libc::SIGKILL)),
        (Misdeed::Signal(libc::SIGTERM), Err(libc::SIGTERM)),
    ];
    everywhere(|method| async move {
        let pool = quiet(method, 1);
        for (misdeed, end) in cases {
            let pid = pool.submit(own_pid, ()).await.unwrap();
            let error = pool.submit(commit, misdeed).await.unwrap_err();
            assert!(error.is_worker_lost() && !error.is_panic() && error.maybe_executed());
            let exit = error.worker_exit().unwrap();
            assert_eq!(exit.exit().code(), end.ok(), "{misdeed:?}: {error}");
            assert_eq!(exit.exit().signal(), end.err(), "{misdeed:?}: {error}");
            assert_eq!(exit.pid(), pid);
            assert!(exit.ran_for().is_some() && !exit.oom_suspected());
            let said = match end {
                Ok(code) => format!("exit code {code}"),
                Err(signal) => format!("signal {signal}"),
            };
            assert!(format!("{error:#}").contains(&said), "{error:#}");
            assert_ne!(pool.submit(own_pid, ()).await.unwrap(), pid);
        }
        let stats = pool.stats();
        assert_eq!((stats.lost, stats.workers_ended), (10, 10));
        pool.shutdown().await;
    });
}

/// Row 21.
#[test]
fn a_stack_overflow_is_reported_in_the_tail_of_the_workers_stderr() {
    everywhere(|method| async move {
        let pool = builder(1, method).stderr(Stdio::capture()).build().unwrap();
        let error = pool.submit(commit, Misdeed::Overflow).await.unwrap_err();
        let tail = error.worker_exit().unwrap().stderr_tail().unwrap();
        assert!(tail.contains("overflow"), "{tail:?}");
        pool.shutdown().await;
    });
}

/// CF-033; row 29.
#[test]
fn of_a_hundred_calls_only_the_one_fails_whose_worker_dies() {
    everywhere(|method| async move {
        let pool = quiet(method, 3);
        let handles: Vec<_> = (0..100)
            .map(|n| {
                pool.submit(
                    |n: u32| {
                        if n == 42 {
                            std::process::exit(1)
                        }
                        n
                    },
                    n,
                )
            })
            .collect();
        for (n, handle) in (0..).zip(handles) {
            match handle.await {
                Ok(value) => assert_eq!(value, n),
                Err(error) => {
                    assert_eq!(n, 42, "{error}");
                    assert_eq!(error.worker_exit().unwrap().exit().code(), Some(1));
                }
            }
        }
        assert_eq!(pool.stats().lost, 1);
        pool.shutdown().await;
    });
}

/// CF-031: the policy of who asks for it.
#[test]
fn where_nothing_is_restarted_a_killed_worker_breaks_the_pool() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let pool = builder(2, method).restart(Restart::Never).build().unwrap();
        let handles: Vec<_> = (0..6)
            .map(|_| pool.submit(wait_for, scratch.at("never")))
            .collect();
        assert!(is_running(&handles[0]).await && is_running(&handles[1]).await);
        assert!(send(handles[0].worker_pid().unwrap(), libc::SIGTERM));
        for (number, handle) in handles.into_iter().enumerate() {
            let error = handle.await.unwrap_err();
            assert!(error.is_broken(), "{error}");
            assert_eq!(error.maybe_executed(), number < 2, "{number}");
            assert!(format!("{error:#}").contains("SIGTERM"), "{error:#}");
        }
        let late = pool.submit(own_pid, ()).await.unwrap_err();
        assert!(late.is_broken() && format!("{late:#}").contains("SIGTERM"));
        assert!(!late.maybe_executed());
        pool.shutdown().await;
    });
}

/// CF-284; row 20.
#[test]
fn a_panic_is_the_tasks_error_and_the_worker_lives_on() {
    everywhere(|method| async move {
        let pool = quiet(method, 1);
        let pid = pool.submit(own_pid, ()).await.unwrap();
        let error = pool.submit(|n: i32| assert_eq!(n, 2, "no two"), 1).await;
        let error = error.unwrap_err();
        assert!(error.is_panic() && !error.is_worker_lost());
        let panic = error.panic().unwrap();
        assert!(panic.message().contains("no two"), "{}", panic.message());
        let file = panic.location().unwrap().split(':').next().unwrap();
        assert_eq!(file, file!());

        let odd: fn(()) = |()| std::panic::panic_any(7_u8);
        assert!(pool.submit(odd, ()).await.unwrap_err().is_panic());

        #[derive(Serialize, Deserialize)]
        struct Prickly {
            home: u32,
        }
        impl Drop for Prickly {
            fn drop(&mut self) {
                assert_eq!(self.home, std::process::id(), "dropped abroad");
            }
        }
        let home = std::process::id();
        let ignore: fn(Prickly) = drop;
        let error = pool.submit(ignore, Prickly { home }).await.unwrap_err();
        assert!(error.panic().unwrap().message().contains("dropped abroad"));

        let value = pool.submit(|n: i32| (n < 0).then_some(n).ok_or("err".to_owned()), 1);
        assert_eq!(value.await.unwrap(), Err("err".to_owned()));
        assert_eq!(pool.submit(own_pid, ()).await.unwrap(), pid);
        pool.shutdown().await;
    });
}

/// A value whose encoding or decoding fails.
#[derive(Debug)]
struct Fails {
    encode: bool,
}

impl Serialize for Fails {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.encode {
            return Err(serde::ser::Error::custom("message raised in encode"));
        }
        to.serialize_u8(0)
    }
}

impl<'de> Deserialize<'de> for Fails {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u8::deserialize(from)?;
        Err(serde::de::Error::custom("message raised in child"))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(chain).unwrap_or_default();
    format!("{error}: {source}")
}

/// CF-278, CF-281, CF-285; row 25.
#[test]
fn a_value_that_cannot_travel_fails_its_own_call_in_the_same_worker() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let pid = pool.submit(own_pid, ()).await.unwrap();
        let ignore: fn(Fails) = drop;
        let handles = [
            pool.submit(ignore, Fails { encode: true }),
            pool.submit(ignore, Fails { encode: false }),
        ];
        let give: fn(bool) -> Fails = |encode| Fails { encode };
        let given = [pool.submit(give, true), pool.submit(give, false)];
        let [unencodable, undecodable] = handles;
        let error = unencodable.await.unwrap_err();
        assert!(error.is_encode() && !error.maybe_executed());
        assert!(chain(&error).contains("message raised in encode"));
        let error = undecodable.await.unwrap_err();
        assert!(error.is_decode() && !error.maybe_executed());
        assert!(chain(&error).contains("message raised in child"));

        let [unencodable, undecodable] = given;
        let error = unencodable.await.unwrap_err();
        assert!(error.is_encode() && error.maybe_executed());
        assert!(chain(&error).contains("message raised in encode"));
        let error = undecodable.await.unwrap_err();
        assert!(error.is_decode() && error.maybe_executed());
        assert!(chain(&error).contains("message raised in child"));
        assert_eq!(pool.submit(own_pid, ()).await.unwrap(), pid);
        pool.shutdown().await;
    });
}

/// CF-279, CF-280.
#[test]
fn an_argument_that_cannot_be_encoded_holds_up_no_end_of_a_pool() {
    everywhere(|method| async move {
        for _ in 0..5 {
            let pool = pool(4, method);
            pool.submit(own_pid, ()).await.unwrap();
            let handle = pool.submit(|_: Fails| (), Fails { encode: true });
            pool.close();
            assert!(handle.await.unwrap_err().is_encode());
        }
    });
}

/// CF-286.
#[test]
fn a_worker_that_crashes_after_shutdown_was_requested_does_not_hold_it_up() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let pool = quiet(method, 2);
        let crash: fn(String) = |gate| {
            wait_for(gate);
            commit(Misdeed::WriteNowhere);
        };
        let doomed = pool.submit(crash, scratch.at("gate"));
        let neighbour = pool.submit(wait_for, scratch.at("gate"));
        assert!(is_running(&doomed).await && is_running(&neighbour).await);
        pool.close();
        touch(scratch.at("gate"));
        pool.shutdown().await;
        let error = doomed.await.unwrap_err();
        let exit = error.worker_exit().unwrap().exit();
        assert_eq!(exit.signal(), Some(libc::SIGSEGV));
        neighbour.await.unwrap();
    });
}

/// CF-287; rows 5 and 11.
#[test]
fn half_a_result_of_a_killed_worker_is_never_delivered() {
    const NUMBERS: usize = 300_000;
    let give: fn(String) -> Vec<u64> = |path| {
        touch(path);
        vec![u64::MAX; NUMBERS]
    };
    for method in StartMethod::available() {
        let _scene = scene();
        let scratch = Scratch::new();
        runtime(1).block_on(async {
            let pool = pool(1, *method);
            for round in 0.. {
                let pid = pool.submit(own_pid, ()).await.unwrap();
                let called = scratch.at(&format!("called {round}"));
                let handle = pool.submit(give, called.clone());
                // While this thread waits here hardly anybody reads what the worker writes, so that it
                // sleeps when it has filled the pipe.
                let mut asleep = 0;
                let is_stuck = support::eventually(PROMPTLY, || {
                    let sleeps = Path::new(&called).exists() && state_of(pid) == Some('S');
                    asleep = if sleeps { asleep + 1 } else { 0 };
                    asleep == 5
                });
                assert!(is_stuck);
                assert!(send(pid, libc::SIGKILL));
                assert!(support::eventually(PROMPTLY, || !is_alive(pid)));
                match handle.await {
                    Err(error) => {
                        let exit = error.worker_exit().unwrap().exit();
                        assert_eq!(exit.signal(), Some(libc::SIGKILL));
                        break;
                    }
                    // The pool has looked after its workers just then, and so there was room for all
                    // of it.
                    Ok(whole) => {
                        assert!(round < 10 && whole.len() == NUMBERS);
                        assert!(whole.iter().all(|number| *number == u64::MAX));
                    }
                }
            }
            pool.submit(own_pid, ()).await.unwrap();
            pool.shutdown().await;
        });
    }
}

/// CF-288.
#[test]
fn a_result_that_was_sent_stands_even_if_dropping_it_kills_the_worker() {
    #[derive(Serialize, Deserialize)]
    struct Bomb {
        at_home_in: u32,
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.at_home_in == std::process::id() {
                std::process::exit(0);
            }
        }
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        for _ in 0..10 {
            let give: fn(()) -> Bomb = |()| Bomb {
                at_home_in: std::process::id(),
            };
            let first = pool.submit(give, ()).await.unwrap().at_home_in;
            // The next one was not running when its worker died, if it was sent there at all.
            assert_ne!(pool.submit(own_pid, ()).await.unwrap(), first);
        }
        pool.shutdown().await;
    });
}

/// Runs until its worker ends.
async fn stay(_: ()) {
    std::future::pending().await
}

/// Writes what is no frame into the worker's first pipe that it has open for this ('0' to read, '1'
/// to write).
fn write_garbage(pid: u32, mode: char) {
    let is_meant = |path: &PathBuf| {
        let target = fs::read_link(path).unwrap_or_default();
        let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let flags = status_line(&format!("/proc/{pid}/fdinfo/{number}"), "flags");
        let bits = i32::from_str_radix(&flags, 8).unwrap();
        // The lifeline of a forked worker is a pipe that nobody reads.
        let talks = target.to_string_lossy().starts_with("pipe:") && bits & libc::O_ASYNC == 0;
        number > 2 && talks && flags.ends_with(mode)
    };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut pipes = open.map(|entry| entry.unwrap().path()).filter(is_meant);
    let pipe = pipes.next().expect("each worker has two");
    let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
    pipe.write_all(&[0xff; 64]).unwrap();
}

/// Whichever way the bytes go, who is asked to make sense of them does not.
#[test]
fn a_strangers_bytes_in_a_workers_pipes_cost_that_worker_and_what_it_runs() {
    everywhere(|method| async move {
        // What is read there, and what is written.
        for end in ['0', '1'] {
            let pool = quiet(method, 1);
            let calls: Vec<_> = (0..3).map(|_| pool.submit_async(stay, ())).collect();
            assert!(is_running(&calls[2]).await);
            let pid = calls[0].worker_pid().unwrap();
            write_garbage(pid, end);
            for call in calls {
                let error = call.await.unwrap_err();
                assert!(error.is_worker_lost(), "{method}, {end}: {error}");
                assert_eq!(error.worker_exit().map(WorkerExit::pid), Some(pid));
            }
            assert_ne!(pool.submit(own_pid, ()).await.unwrap(), pid);
            pool.shutdown().await;
        }
    });
}

/// CF-292; decision 4.
#[test]
fn a_fork_server_that_is_killed_costs_no_call() {
    for threads in [1, 2] {
        let _scene = scene();
        runtime(threads).block_on(async {
            let scratch = Scratch::new();
            let pool = ProcessPool::builder().workers(2).build().unwrap();
            pool.ready().await.unwrap();
            let [server] = children()[..] else {
                panic!("{:?}", children())
            };
            // What usually ends a process does not end this one.
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
                assert!(send(server, signal));
            }
            let mut pids: Vec<_> = pool.stats().workers.iter().map(|one| one.pid).collect();
            let running = pool.submit(wait_for, scratch.at("gate"));
            assert!(is_running(&running).await && is_alive(server));
            let busy = running.worker_pid().unwrap();
            pids.retain(|pid| *pid != busy);
            assert!(send(server, libc::SIGKILL));
            // The idle one is replaced; what runs comes to its end first.
            assert!(soon(PROMPTLY, || !is_alive(pids[0])).await);
            for _ in 0..20 {
                let pid = pool.submit(own_pid, ()).await.unwrap();
                assert!(pid != pids[0] && pid != busy);
            }
            assert!(!running.is_done());
            touch(scratch.at("gate"));
            assert_eq!(running.await.unwrap(), busy);
            assert!(soon(PROMPTLY, || !is_alive(busy)).await);
            assert!(soon(PROMPTLY, || pool.stats().workers.len() == 2).await);
            assert_eq!((pool.stats().lost, children().len()), (0, 1));
            pool.shutdown().await;
        });
    }
}

/// Row 15; decision 10.
#[test]
fn what_a_task_has_started_goes_with_its_killed_worker() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let pool = pool(1, method);
        for (round, how) in ["timeout", "abort", "kill", "exit"].iter().enumerate() {
            let path = scratch.at(how);
            let task = pool.task(start_a_sleeper_and_hang);
            let handle = match *how {
                "timeout" => task
                    .timeout(Duration::from_millis(300))
                    .submit(path.clone()),
                "exit" => pool.submit(
                    |path| {
                        deeds::start_a_sleeper(path);
                        std::process::exit(1)
                    },
                    path.clone(),
                ),
                _ => task.submit(path.clone()),
            };
            assert!(soon(PROMPTLY, || pid_in(&path).is_some()).await);
            let sleeper = pid_in(&path).unwrap();
            match *how {
                "abort" => assert!(handle.abort()),
                "kill" => assert!(send(handle.worker_pid().unwrap(), libc::SIGKILL)),
                _ => {}
            }
            let error = handle.await.unwrap_err();
            let gone = soon(Duration::from_secs(1), || !is_alive(sleeper)).await;
            assert!(gone, "{how} in round {round} leaves {sleeper}: {error}");
        }
        pool.shutdown().await;
    });
}

/// Decision 10.
#[test]
fn a_worker_leads_a_process_group_of_its_own() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let pid = pool.submit(own_pid, ()).await.unwrap();
        assert_eq!(group_of(pid), Some(pid));
        for server in children() {
            assert_eq!(group_of(server), Some(server));
        }
        pool.shutdown().await;
    });
}

/// CF-054; row 33.
#[test]
fn a_call_after_the_runtimes_end_is_refused_as_shut_down() {
    for method in StartMethod::available() {
        for threads in [1, 2] {
            let _scene = scene();
            let home = runtime(threads);
            let pool = {
                let _inside = home.enter();
                pool(1, *method)
            };
            let cancelled = pool.submit(deeds::hang, ());
            home.block_on(async { assert!(is_running(&cancelled).await) });
            assert!(cancelled.abort());
            let mut running = pool.submit(deeds::hang, ());
            home.block_on(async { assert!(is_running(&running).await) });
            drop(home);
            let late = std::thread::spawn(move || {
                let mut late = pool.submit(own_pid, ());
                late.blocking_wait(Some(PROMPTLY)).unwrap_err()
            });
            assert!(late.join().unwrap().is_shut_down());
            let error = running.blocking_wait(Some(PROMPTLY)).unwrap_err();
            assert!(error.is_shut_down() && error.maybe_executed());
        }
    }
}

/// CF-044: each task runs a pool of its own, down to the last, which hangs.
fn nest((level, directory): (u32, String)) {
    touch(format!("{directory}/{}", std::process::id()));
    if level == 0 {
        return deeds::hang(());
    }
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let mut inner = pool.submit(nest, (level - 1, directory));
    inner.blocking_wait(None).unwrap();
}

/// CF-044.
#[test]
fn to_terminate_a_pool_ends_the_pools_in_its_tasks() {
    with_each_method(|method| async move {
        let scratch = Scratch::new();
        let pool = pool(1, method);
        let handle = pool.submit(nest, (3, scratch.at("")));
        let deep = soon(PROMPTLY, || scratch.count() == 4).await;
        assert!(deep, "{} levels, {:?}", scratch.count(), handle.result());
        let names = std::fs::read_dir(scratch.at("")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pids: Vec<u32> = names.map(|name| name.parse().unwrap()).collect();
        let begun = Instant::now();
        pool.terminate().await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(handle.await.unwrap_err().is_shut_down());
        let gone = soon(Duration::from_secs(5), || {
            !pids.iter().any(|pid| is_alive(*pid))
        });
        assert!(gone.await, "{pids:?}");
    });
}
