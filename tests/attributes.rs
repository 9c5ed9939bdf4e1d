//! What the system is told about workers: their environment, directory, priority, cores, limits.

mod support;

use procpool::{ProcessPool, ProcessPoolBuilder, Resource, StartMethod, TaskError};
use support::everywhere;

fn one(method: StartMethod) -> ProcessPoolBuilder {
    ProcessPool::builder().workers(1).start_method(method)
}

fn variable(name: String) -> Option<String> {
    std::env::var(name).ok()
}

/// A line of what the kernel says of this process.
fn status(name: String) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

/// The numbers in a list such as `0-2,5`.
fn numbers(list: &str) -> Vec<usize> {
    let ranges = list.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    });
    ranges.collect()
}

fn nice_value(_: ()) -> i32 {
    rustix::process::getpriority_process(None).unwrap()
}

fn oom_score_adj(_: ()) -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn the_environment_is_the_programs_with_what_was_changed() {
    everywhere(|method| async move {
        let pool = one(method)
            .env("ONE", "1")
            .env("TWO", "2")
            .env_remove("ONE")
            .env_remove("PATH");
        let pool = pool.build().unwrap();
        let is = async |name: &str| pool.submit(variable, name.to_owned()).await.unwrap();
        assert_eq!(is("ONE").await, None);
        assert_eq!(is("TWO").await.as_deref(), Some("2"));
        assert_eq!(is("PATH").await, None);
        assert!(
            std::env::var("PATH").is_ok(),
            "the program's own is as it was"
        );
        pool.shutdown().await;
    });
}

#[test]
fn a_cleared_environment_has_what_was_set_after_that_and_nothing_else() {
    everywhere(|method| async move {
        let pool = one(method)
            .env("BEFORE", "1")
            .env_clear()
            .env("AFTER", "2")
            .build()
            .unwrap();
        let names = |_: ()| std::env::vars().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(pool.submit(names, ()).await.unwrap(), ["AFTER"]);
        pool.shutdown().await;
    });
}

#[test]
fn workers_take_on_priority_directory_and_score_and_the_program_keeps_its_own() {
    everywhere(|method| async move {
        let (nice, score, here) = (nice_value(()), oom_score_adj(()), std::env::current_dir());
        let pool = one(method)
            .nice(17)
            .oom_score_adj(900)
            .current_dir("/")
            .build()
            .unwrap();
        assert_eq!(pool.submit(nice_value, ()).await.unwrap(), 17);
        assert_eq!(pool.submit(oom_score_adj, ()).await.unwrap(), 900);
        let there = pool
            .submit(|_: ()| std::env::current_dir().unwrap(), ())
            .await;
        assert_eq!(there.unwrap().to_str(), Some("/"));
        pool.shutdown().await;
        assert_eq!((nice_value(()), oom_score_adj(())), (nice, score));
        assert_eq!(std::env::current_dir().unwrap(), here.unwrap());
    });
}

#[test]
fn every_thread_of_a_worker_has_its_nice_value_and_its_cores() {
    let values = |_: ()| {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let value = |path: std::path::PathBuf| {
            let stat = std::fs::read_to_string(path.join("stat")).unwrap();
            let nice = stat
                .rsplit(") ")
                .next()
                .unwrap()
                .split(' ')
                .nth(16)
                .unwrap()
                .to_owned();
            let status = std::fs::read_to_string(path.join("status")).unwrap();
            let cores = status
                .lines()
                .find(|line| line.starts_with("Cpus_allowed_list"));
            (nice, cores.unwrap().to_owned())
        };
        threads
            .map(|thread| value(thread.unwrap().path()))
            .collect::<Vec<_>>()
    };
    everywhere(|method| async move {
        let first = numbers(&status("Cpus_allowed_list".to_owned()))[0];
        let pool = one(method).nice(11).cpu_affinity([first]).build().unwrap();
        let values = pool.submit(values, ()).await.unwrap();
        assert!(values.len() > 1, "the watcher is one");
        let expected = ("11".to_owned(), format!("Cpus_allowed_list:\t{first}"));
        assert!(values.iter().all(|value| *value == expected), "{values:?}");
        pool.shutdown().await;
    });
}

/// Each worker must get the cores of its place, and so must one that replaces it.
#[test]
fn each_worker_has_its_own_cores_and_hands_them_down() {
    everywhere(|method| async move {
        let cores = numbers(&status("Cpus_allowed_list".to_owned()));
        let sets = [vec![cores[0]], cores.clone()];
        let pool = one(method)
            .workers(2)
            .cpu_affinity_per_worker(sets.clone())
            .build()
            .unwrap();
        pool.ready().await.unwrap();
        let mut expected: Vec<_> = sets.iter().map(Vec::len).collect();
        expected.sort_unstable();
        for _ in 0..2 {
            pool.ready().await.unwrap();
            let mut seen = Vec::new();
            for worker in pool.stats().workers {
                let path = format!("/proc/{}/status", worker.pid);
                let text = std::fs::read_to_string(path).unwrap();
                let list = text
                    .lines()
                    .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
                seen.push(numbers(list.unwrap()).len());
            }
            seen.sort_unstable();
            assert_eq!(seen, expected);
            pool.submit(|_: ()| -> () { std::process::abort() }, ())
                .await
                .unwrap_err();
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_limit_holds_in_the_worker_and_there_alone() {
    fn open_until_refused(_: ()) -> (usize, Option<i32>) {
        let mut files = Vec::new();
        loop {
            match std::fs::File::open("/dev/null") {
                Ok(file) => files.push(file),
                Err(error) => return (files.len(), error.raw_os_error()),
            }
        }
    }
    everywhere(|method| async move {
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let pool = one(method).rlimit(Resource::OpenFiles, 40, 50);
        let pool = pool.rlimit(Resource::AddressSpace, 1 << 40, Resource::UNLIMITED);
        let pool = pool
            .rlimit(Resource::AddressSpace, 1 << 36, 1 << 36)
            .build()
            .unwrap();
        let (opened, error) = pool.submit(open_until_refused, ()).await.unwrap();
        assert!((20..40).contains(&opened), "{opened}");
        assert_eq!(error, Some(libc::EMFILE));
        let huge = |bytes: usize| Vec::<u8>::new().try_reserve_exact(bytes).is_err();
        assert!(
            pool.submit(huge, 1 << 37).await.unwrap(),
            "the last word holds"
        );
        pool.shutdown().await;
        let after = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        assert_eq!(after, before);
    });
}

/// A worker whose limits leave it no descriptor and no thread has those that it needs already.
#[test]
fn a_worker_works_within_limits_that_leave_it_nothing() {
    everywhere(|method| async move {
        let pool = one(method)
            .rlimit(Resource::OpenFiles, 0, 0)
            .rlimit(Resource::FileSize, 0, 0);
        let pool = pool
            .rlimit(Resource::Processes, 0, 0)
            .rlimit(Resource::Core, 0, 0);
        let pool = pool.build().unwrap();
        for n in 0..3 {
            assert_eq!(pool.submit(|n: u32| n + 1, n).await.unwrap(), n + 1);
        }
        // Larger than what goes through the page.
        let large = pool
            .submit(|n: usize| vec![7_u8; n], 300_000)
            .await
            .unwrap();
        assert_eq!(large.len(), 300_000);
        pool.shutdown().await;
    });
}

#[test]
fn the_stack_of_tasks_is_as_large_as_its_limit() {
    #[inline(never)]
    fn descend(levels: u64) -> u64 {
        let frame = std::hint::black_box([levels; 128]);
        if levels == 0 {
            0
        } else {
            descend(levels - 1) + frame[7] - levels + 1
        }
    }
    everywhere(|method| async move {
        let size = 48 << 20;
        let pool = one(method).rlimit(Resource::Stack, size, Resource::UNLIMITED);
        let pool = pool.rlimit(Resource::Core, 0, 0).build().unwrap();
        // A frame has at least a KiB, so this is more than the usual eight MiB …
        assert_eq!(pool.submit(descend, 16_000).await.unwrap(), 16_000);
        // … and this is more than the limit, which is still reported as what it is.
        let error = pool.submit(descend, 1 << 30).await.unwrap_err();
        let signal = error.worker_exit().unwrap().exit().signal();
        assert_eq!(signal, Some(libc::SIGABRT), "{error}");
        pool.shutdown().await;
    });
}

async fn refused(pool: ProcessPoolBuilder, text: &str, errno: i32) {
    let pool = pool.build().unwrap();
    let waiting = pool.submit(|n: u8| n, 1);
    let error = pool.ready().await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert!(!error.is_resource() && !error.is_initializer());
    for outcome in [waiting.await, pool.submit(|n: u8| n, 1).await] {
        let error: TaskError = outcome.unwrap_err();
        assert!(error.is_broken() && !error.maybe_executed(), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(text), "{source}");
    }
    pool.shutdown().await;
}

#[test]
fn what_the_system_refuses_reaches_ready_and_everybody_who_waits() {
    everywhere(|method| async move {
        tokio::join!(
            refused(
                one(method).current_dir("/nowhere/at/all"),
                "could not go to the directory /nowhere/at/all: ",
                libc::ENOENT,
            ),
            refused(
                one(method).cpu_affinity([1023]),
                "could not run on the cores [1023] alone: ",
                libc::EINVAL,
            ),
        );
    });
}

#[test]
fn what_no_system_could_do_is_refused_by_build() {
    let builder = ProcessPool::builder;
    let impossible = [
        builder().nice(20),
        builder().nice(-21),
        builder().oom_score_adj(1001),
        builder().cpu_affinity([]),
        builder().cpu_affinity([1024]),
        builder().cpu_affinity_per_worker([vec![0], vec![]]),
        builder().cpu_affinity_per_worker(Vec::<Vec<usize>>::new()),
        builder().rlimit(Resource::Core, 2, 1),
        builder().current_dir(""),
        builder().current_dir("a\0b"),
        builder().env("", "x"),
        builder().env("A=B", "x"),
        builder().env_remove("A=B"),
    ];
    for builder in impossible {
        let shown = format!("{builder:?}");
        let error = builder.build().expect_err(&shown);
        assert!(error.is_invalid_argument(), "{error}");
    }
}
