//! What the start methods have in common, what tells them apart, and what becomes of a start that
//! fails.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use deeds::{Misdeed, Scratch, commit, own_pid, send};
use futures::StreamExt;
use procpool::{PoolEvent, StartMethod, Stdio};
use serde::{Deserialize, Serialize};
use support::{
    PROMPTLY, builder, children, descendants, everywhere, is_alive, pool, runtime, scene, soon,
};

/// By this variable a pool tells its processes how to misbehave before they are ready.
const START: &str = "PROCPOOL_TEST_START";

/// Runs in every process of this program before its `main`, as a library's start-up code does.
#[expect(unsafe_code, reason = "start-up code is found by its section")]
#[used]
#[unsafe(link_section = ".init_array.90000")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn misbehave() {
        let Ok(how) = std::env::var(START) else {
            return;
        };
        match how.split_once(' ').unwrap_or((&how, "")) {
            ("exit", code) => commit(Misdeed::ExitAtOnce(code.parse().unwrap())),
            ("crash", _) => commit(Misdeed::Abort),
            ("hang", _) => deeds::hang(()),
            ("thread", _) => drop(std::thread::spawn(|| deeds::hang(()))),
            ("exit-unless", path) if std::path::Path::new(path).exists() => {}
            _ => commit(Misdeed::ExitAtOnce(8)),
        }
    }
    misbehave
};

/// CF-264, CF-266.
#[test]
fn methods_have_names_and_the_default_is_the_first() {
    let methods = StartMethod::available();
    assert_eq!(methods[0], StartMethod::default());
    for method in methods {
        assert_eq!(method.to_string().parse::<StartMethod>(), Ok(*method));
    }
    let error = "thread".parse::<StartMethod>().unwrap_err().to_string();
    assert!(error.contains("thread"), "{error}");
    assert_eq!("fork".parse(), Ok(StartMethod::Fork));
    assert_eq!(StartMethod::all(), [methods, &[StartMethod::Fork]].concat());
}

/// CF-274: nothing but a process's own builder forks the program.
#[test]
fn a_pool_does_not_fork_the_program() {
    let _scene = scene();
    let error = builder(1, StartMethod::Fork).build().unwrap_err();
    assert!(error.is_invalid_argument(), "{error}");
    assert!(children().is_empty());
}

/// CF-267, CF-269: a child that ran other tests of this binary would never answer.
#[test]
fn the_same_calls_work_under_every_method() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let sum: fn(Vec<u64>) -> u64 = |numbers| numbers.iter().sum();
        assert_eq!(
            pool.submit(sum, (0..1000).collect()).await.unwrap(),
            499_500
        );
        let fail: fn(()) = |()| panic!("no");
        assert!(pool.submit(fail, ()).await.unwrap_err().is_panic());
        let error = pool.submit(commit, Misdeed::Exit(1)).await.unwrap_err();
        assert!(error.is_worker_lost());
        pool.shutdown().await;
        assert!(pool.submit(own_pid, ()).await.unwrap_err().is_shut_down());
    });
}

/// As a task: a pool within, of the other kind.
fn ask_within(method: String) -> u32 {
    let pool = pool(1, method.parse().unwrap());
    let mut asked = pool.submit(own_pid, ());
    asked.blocking_wait(None).unwrap()
}

/// CF-267, CF-268: beside each other, and within each other.
#[test]
fn pools_of_both_kinds_live_side_by_side_and_nested() {
    everywhere(|method| async move {
        let methods = StartMethod::available();
        let other = *methods.iter().find(|other| **other != method).unwrap();
        let pools = [method, other].map(|method| pool(2, method));
        for pool in &pools {
            pool.ready().await.unwrap();
        }
        let handles: Vec<_> = (0..40)
            .map(|n: usize| pools[n % 2].submit(own_pid, ()))
            .collect();
        let workers = pools.each_ref().map(|pool| pool.stats().workers);
        for (n, handle) in handles.into_iter().enumerate() {
            let pid = handle.await.unwrap();
            assert!(workers[n % 2].iter().any(|worker| worker.pid == pid));
        }
        let within = pools[0].submit(ask_within, other.to_string());
        let within = within.await.unwrap();
        assert!(within != std::process::id() && !children().contains(&within));
        // The end of one is not the other's.
        let [first, second] = pools;
        first.terminate().await;
        second.submit(own_pid, ()).await.unwrap();
        second.shutdown().await;
    });
}

/// CF-264: what is no name of a method.
#[test]
fn nothing_but_its_name_names_a_method() {
    for text in [
        "",
        " ",
        "Spawn",
        "spawn ",
        "Fork",
        "fork server",
        "spawn\0",
        "\u{1F980}",
    ] {
        let error = text.parse::<StartMethod>().unwrap_err();
        assert!(!error.to_string().is_empty(), "{text:?}");
    }
}

/// Row 31: many at a time.
#[test]
fn forty_workers_are_ready_together() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = pool(40, *method);
            let both = tokio::join!(pool.ready(), pool.ready());
            assert!(both.0.is_ok() && both.1.is_ok());
            let stats = pool.stats();
            assert_eq!((stats.workers.len(), stats.workers_started), (40, 40));
            pool.shutdown().await;
        });
    }
}

type Variables = Vec<(String, String)>;

/// As a task: its process's arguments and environment.
fn surroundings(_: ()) -> (Vec<String>, Variables) {
    (std::env::args().collect(), std::env::vars().collect())
}

/// CF-270.
#[test]
fn workers_see_the_programs_arguments_and_environment() {
    everywhere(|method| async move {
        let pool = builder(1, method).env("PROCPOOL_TEST_MORE", "more").build();
        let pool = pool.unwrap();
        let (arguments, mut variables) = pool.submit(surroundings, ()).await.unwrap();
        assert_eq!(arguments, std::env::args().collect::<Vec<_>>());
        let more = ("PROCPOOL_TEST_MORE".to_owned(), "more".to_owned());
        assert!(variables.contains(&more));
        // Nothing else is there, and above all not what makes a process a worker.
        variables.retain(|variable| *variable != more);
        variables.sort();
        let mut ours: Vec<_> = std::env::vars().collect();
        ours.sort();
        assert_eq!(variables, ours);
        pool.shutdown().await;
    });
}

/// CF-271: the fork server's sockets have no address that anybody could connect to.
#[test]
fn a_fork_server_can_be_reached_by_nobody_else() {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = pool(1, StartMethod::ForkServer);
        pool.ready().await.unwrap();
        let mut sockets = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", children()[0])).unwrap() {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap();
            let target = target.to_string_lossy().into_owned();
            if let Some(inode) = target.strip_prefix("socket:[") {
                sockets.push(inode.trim_end_matches(']').to_owned());
            }
        }
        assert_eq!(sockets.len(), 1);
        let table = std::fs::read_to_string("/proc/net/unix").unwrap();
        let line = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|columns| columns.get(6) == Some(&&*sockets[0]));
        assert_eq!(line.unwrap().len(), 7, "the eighth column is an address");
        pool.shutdown().await;
    });
}

/// CF-273.
#[test]
fn of_a_hundred_workers_in_a_row_every_status_is_told() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = pool(2, *method);
            let handles: Vec<_> = (0..100)
                .map(|code| (code, pool.submit(commit, Misdeed::ExitAtOnce(code))))
                .collect();
            for (code, handle) in handles {
                let error = handle.await.unwrap_err();
                assert_eq!(error.worker_exit().unwrap().exit().code(), Some(code));
            }
            pool.shutdown().await;
        });
    }
}

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_a_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// CF-274; row 1.
#[test]
#[expect(unsafe_code, reason = "libc alone tells of forks")]
fn the_program_itself_is_never_forked() {
    // SAFETY: the handler touches an atomic number alone.
    let set = unsafe { libc::pthread_atfork(Some(count_a_fork), None, None) };
    assert_eq!(set, 0);
    everywhere(|method| async move {
        let pool = builder(2, method).stderr(Stdio::null()).build().unwrap();
        pool.ready().await.unwrap();
        pool.submit(commit, Misdeed::Abort).await.unwrap_err();
        pool.submit(own_pid, ()).await.unwrap();
        pool.shutdown().await;
    });
    assert_eq!(FORKS.load(Ordering::Relaxed), 0);
}

/// CF-275, CF-296: threads that were there before, in the program, are nothing to a worker.
#[test]
fn a_task_can_have_threads_and_a_runtime_of_its_own() {
    fn with_threads(numbers: Vec<u64>) -> u64 {
        let runtime = runtime(2);
        let sums = numbers.chunks(100).map(|chunk| {
            let chunk = chunk.to_vec();
            runtime.spawn(async move {
                let sum = move || chunk.iter().sum::<u64>();
                tokio::task::spawn_blocking(sum).await.unwrap()
            })
        });
        let sums: Vec<_> = sums.collect();
        runtime.block_on(async {
            let mut total = 0;
            for sum in sums {
                total += sum.await.unwrap();
            }
            total
        })
    }
    let numbers: Vec<u64> = (0..1_000).collect();
    assert_eq!(with_threads(numbers.clone()), 499_500);
    everywhere(|method| {
        let numbers = numbers.clone();
        async move {
            let pool = pool(2, method);
            for _ in 0..5 {
                let total = pool.submit(with_threads, numbers.clone()).await;
                assert_eq!(total.unwrap(), 499_500);
            }
            pool.shutdown().await;
        }
    });
}

/// CF-268, CF-276: how many descriptors each level of nested pools begins with.
fn descriptors_below((level, method): (u32, String)) -> Vec<usize> {
    let mut counts = vec![std::fs::read_dir("/proc/self/fd").unwrap().count()];
    if level > 0 {
        let pool = pool(1, method.parse().unwrap());
        let mut below = pool.submit(descriptors_below, (level - 1, method));
        counts.extend(below.blocking_wait(None).unwrap());
    }
    counts
}

/// CF-268, CF-276.
#[test]
fn workers_of_workers_inherit_nothing_that_adds_up() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = pool(1, *method);
            let counts = pool.submit(descriptors_below, (3, method.to_string()));
            let counts = counts.await.unwrap();
            assert_eq!(counts.len(), 4);
            assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
            pool.shutdown().await;
        });
    }
}

/// CF-277.
#[test]
fn what_a_worker_cannot_take_fails_before_there_is_one() {
    struct Never;
    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("never"))
        }
    }
    impl<'de> Deserialize<'de> for Never {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        let error = pool.submit(|_: Never| (), Never).await.unwrap_err();
        assert!(error.is_encode() && !error.maybe_executed());
        assert_eq!(pool.stats().workers_started, 0);
        assert_eq!(children(), [0_u32; 0]);
        pool.shutdown().await;
    });
}

/// Rows 28 and 30; decision 11.
#[test]
fn a_start_that_always_fails_breaks_the_pool_with_the_reason() {
    for method in StartMethod::available() {
        for (how, reason) in [("exit 9", "exit code 9"), ("crash", "SIGABRT")] {
            let _scene = scene();
            runtime(2).block_on(async {
                let pool = builder(2, *method).env(START, how).stderr(Stdio::null());
                let pool = pool.build().unwrap();
                let handles: Vec<_> = (0..10).map(|_| pool.submit(own_pid, ())).collect();
                for handle in handles {
                    let error = handle.await.unwrap_err();
                    assert!(error.is_broken() && !error.maybe_executed(), "{error}");
                    let source = std::error::Error::source(&error).unwrap().to_string();
                    assert!(source.contains(reason), "{method}: {source}");
                }
                let late = pool.submit(own_pid, ()).await.unwrap_err();
                assert!(late.is_broken());
                let error = pool.ready().await.unwrap_err();
                assert!(error.to_string().contains(reason), "{error}");
                let starts = pool.stats().workers_started;
                assert!((5..=6).contains(&starts), "{method}: {starts} starts");
                pool.shutdown().await;
            });
        }
    }
}

/// Row 30.
#[test]
fn a_start_that_hangs_ends_with_its_time() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = builder(1, *method).env(START, "hang");
            let limit = Duration::from_millis(200);
            let pool = pool.start_timeout(limit).handshake_timeout(limit);
            let pool = pool.build().unwrap();
            let begun = Instant::now();
            let error = pool.submit(own_pid, ()).await.unwrap_err();
            assert!(
                error.is_broken() && begun.elapsed() < 2 * PROMPTLY,
                "{error}"
            );
            assert!(pool.ready().await.unwrap_err().is_timeout());
            pool.shutdown().await;
        });
    }
}

/// Row 28: a start that succeeds forgives those that failed.
#[test]
fn a_start_that_fails_for_a_while_costs_no_call() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let scratch = Scratch::new();
            let how = format!("exit-unless {}", scratch.at("cured"));
            let pool = builder(1, *method).env(START, how).build().unwrap();
            let handle = pool.submit(own_pid, ());
            assert!(soon(PROMPTLY, || pool.stats().workers_started >= 2).await);
            deeds::touch(scratch.at("cured"));
            handle.await.unwrap();
            pool.shutdown().await;
        });
    }
}

/// Decision 11: somebody kills each worker that is ready.
#[test]
fn workers_that_die_as_soon_as_they_are_ready_cost_few_starts_and_never_break_the_pool() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = pool(1, *method);
            let mut events = pool.events();
            pool.ready().await.unwrap();
            let mut next = async || loop {
                let event = events.next().await.expect("the pool is open");
                if let PoolEvent::WorkerReady { pid, .. } = event {
                    return pid;
                }
            };
            for pauses in [&[0, 100, 200, 400][..], &[0, 100][..]] {
                let mut pid = next().await;
                for pause in pauses {
                    let killed = Instant::now();
                    assert!(send(pid, libc::SIGKILL));
                    pid = next().await;
                    assert!(
                        killed.elapsed() >= Duration::from_millis(*pause),
                        "{method}"
                    );
                }
                // Who serves is no reason to hesitate.
                assert_eq!(pool.submit(own_pid, ()).await.unwrap(), pid);
                assert!(send(pid, libc::SIGKILL));
            }
            next().await;
            assert_eq!(pool.stats().workers_started, 1 + 4 + 1 + 2 + 1, "{method}");
            pool.shutdown().await;
        });
    }
}

/// Decision 4.
#[test]
fn where_a_fork_server_would_have_threads_workers_are_executed_instead() {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = builder(2, StartMethod::ForkServer).env(START, "thread");
        let pool = pool.build().unwrap();
        pool.ready().await.unwrap();
        for worker in pool.stats().workers {
            // A forked one would be the server's child.
            assert!(children().contains(&worker.pid));
        }
        pool.submit(commit, Misdeed::Exit(1)).await.unwrap_err();
        pool.submit(own_pid, ()).await.unwrap();
        pool.shutdown().await;
    });
}

/// Row 35.
#[test]
fn a_pool_that_is_terminated_while_it_starts_leaves_nothing() {
    for method in StartMethod::available() {
        for micros in (0..20).map(|step| step * 300) {
            let _scene = scene();
            runtime(2).block_on(async {
                let pool = pool(4, *method);
                let handle = pool.submit(own_pid, ());
                drop(tokio::spawn({
                    let pool = pool.clone();
                    async move { pool.ready().await }
                }));
                tokio::time::sleep(Duration::from_micros(micros)).await;
                pool.terminate().await;
                assert_eq!(descendants(std::process::id()), [0_u32; 0]);
                if let Err(error) = handle.await {
                    assert!(error.is_shut_down(), "{error}");
                }
            });
        }
    }
}

/// CF-292: killed as soon as it is there, again and again.
#[test]
fn fork_servers_that_are_killed_while_workers_start_are_replaced() {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = pool(2, StartMethod::ForkServer);
        for round in 0..20_u64 {
            let handle = pool.submit(own_pid, ());
            let seen = soon(PROMPTLY, || !children().is_empty()).await;
            assert!(seen);
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            for server in children() {
                send(server, libc::SIGKILL);
                assert!(soon(PROMPTLY, || !is_alive(server)).await);
            }
            match handle.await {
                Ok(pid) => assert_ne!(pid, 0),
                // It may have been running when its worker had to go.
                Err(error) => panic!("{error}"),
            }
        }
        pool.shutdown().await;
    });
}

/// Row 31.
#[test]
fn the_first_result_needs_one_worker_and_not_all() {
    everywhere(|method| async move {
        let pool = pool(64, method);
        let begun = Instant::now();
        pool.submit(own_pid, ()).await.unwrap();
        assert!(begun.elapsed() < PROMPTLY);
        assert!(pool.stats().workers_started < 64);
        pool.shutdown().await;
    });
}
