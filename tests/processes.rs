//! Processes of their own: what they are given, what they know of themselves, and what their parent
//! knows of them while they live.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use bytes::Bytes;
use deeds::{Scratch, hang, touch, wait_for};
use procpool::connection::{Sender, blocking_wait};
use procpool::{
    Connection, Fd, Process, ProcessBuilder, ProcessPool, SpawnError, StartMethod, Stdio,
    active_children, call, current_process, one_way, parent_process, pipe,
};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, children, everywhere, is_alive, scene, soon};

fn by(method: StartMethod) -> ProcessBuilder {
    Process::builder().start_method(method)
}

/// CF-123, CF-128.
#[test]
fn the_main_process_describes_itself() {
    let current = current_process();
    assert_eq!(current.pid(), std::process::id());
    assert_eq!(
        (current.name(), current.is_daemon()),
        ("MainProcess", false)
    );
    assert!(!current.authkey().unwrap().expose().is_empty());
    assert_eq!(current.start_method(), None);
    assert!(parent_process().is_none());
}

/// CF-132: and there is nothing that could be joined or signalled, and no builder that could start a
/// second one, which is shown where [`ProcessBuilder`] is described.
#[test]
fn nothing_is_started_by_describing_it() {
    let _scene = scene();
    let builder = Process::builder().name("unborn").daemon(true);
    drop((builder.clone(), builder));
    assert!(active_children().is_empty() && children().is_empty());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Introduction {
    name: String,
    pid: u32,
    daemon: bool,
    method: String,
    parent: (u32, String),
    parent_is_alive: bool,
    is_watched: bool,
}

fn introduce(_: ()) -> Introduction {
    let (own, parent) = (current_process(), parent_process().unwrap());
    let method = own.start_method().unwrap();
    Introduction {
        name: own.name().to_owned(),
        pid: own.pid(),
        daemon: own.is_daemon(),
        method: method.to_string(),
        parent: (parent.pid(), parent.name().to_owned()),
        parent_is_alive: parent.is_alive(),
        is_watched: blocking_wait([parent.as_fd()], Some(Duration::ZERO))
            .unwrap()
            .is_empty(),
    }
}

/// CF-124, CF-125, CF-128: by a fork server too, its parent is who asked for it.
#[test]
fn a_process_knows_itself_and_its_parent() {
    everywhere(|method| async move {
        let process = by(method)
            .name("worker bee")
            .spawn(introduce, ())
            .await
            .unwrap();
        let expected = Introduction {
            name: "worker bee".to_owned(),
            pid: process.pid(),
            daemon: false,
            method: method.to_string(),
            parent: (std::process::id(), "MainProcess".to_owned()),
            parent_is_alive: true,
            is_watched: true,
        };
        assert_eq!(process.join().await.unwrap(), expected);
        assert_eq!(process.name(), "worker bee");
    });
}

/// CF-124, CF-137: its life as its parent sees it.
#[test]
fn a_process_is_alive_until_it_has_ended_and_then_known_all_the_same() {
    everywhere(|method| async move {
        let gate = Scratch::new();
        assert!(active_children().is_empty());
        let process = by(method).spawn(wait_for, gate.at("open")).await.unwrap();
        assert!(process.is_alive() && process.exit().is_none());
        assert!(is_alive(process.pid()));
        let listed: Vec<_> = active_children().iter().map(Process::pid).collect();
        assert_eq!(listed, [process.pid()]);
        touch(gate.at("open"));
        process.join().await.unwrap();
        let pid = process.pid();
        for _ in 0..2 {
            assert!(!process.is_alive() && process.exit().unwrap().success());
            assert!(active_children().is_empty());
            process.join().await.unwrap();
            assert_eq!(process.wait().await.code(), Some(0));
            process.blocking_join(None).unwrap();
            assert_eq!(process.pid(), pid);
        }
    });
}

/// CF-264, CF-265: no default can be set. A process hands on how it was started itself, and to its own
/// alone.
#[test]
fn how_a_process_was_started_is_the_default_of_its_own_and_of_no_others() {
    fn methods(_: ()) -> [String; 2] {
        let own = |()| current_process().start_method().unwrap().to_string();
        let child = Process::spawn(own, ()).blocking_wait().unwrap();
        [own(()), child.blocking_join(None).unwrap()]
    }
    everywhere(|method| async move {
        let process = by(method).spawn(methods, ()).await.unwrap();
        assert_eq!(
            process.join().await.unwrap(),
            [method.to_string(), method.to_string()]
        );
        let other = Process::spawn(methods, ()).await.unwrap();
        let default = StartMethod::default().to_string();
        assert_eq!(other.join().await.unwrap(), [default.clone(), default]);
    });
}

type Gifts = (i64, String, Vec<u8>, (u8,));

/// CF-125.
#[test]
fn arguments_arrive_unchanged_whatever_they_are_called() {
    everywhere(|method| async move {
        fn tell(gifts: Gifts) -> (Gifts, String) {
            (gifts, current_process().name().to_owned())
        }
        fn three(name: String, times: usize, end: char) -> String {
            name.repeat(times) + &end.to_string()
        }
        let gifts = (-7, "a name".to_owned(), vec![0, 255], (1,));
        let process = by(method)
            .name("named")
            .spawn(tell, gifts.clone())
            .await
            .unwrap();
        assert_eq!(process.join().await.unwrap(), (gifts, "named".to_owned()));
        let call = call!(three("ab".to_owned(), 3, '!'));
        let process = by(method).spawn_call(call).await.unwrap();
        assert_eq!(process.join().await.unwrap(), "ababab!");
    });
}

/// Sizes that no pipe and no message could hold.
#[test]
fn arguments_and_results_may_be_of_any_size() {
    fn reverse(bytes: Bytes) -> Bytes {
        bytes.iter().rev().copied().collect()
    }
    everywhere(|method| async move {
        for length in [0, 30_000, 70_000, 3_000_000] {
            let bytes: Bytes = (0..length).map(|n| n as u8).collect();
            let process = by(method).spawn(reverse, bytes.clone()).await.unwrap();
            assert!(process.join().await.unwrap() == reverse(bytes), "{length}");
        }
    });
}

/// Names that nobody has given: numbers, and whose child it is.
#[test]
fn a_process_without_a_name_is_given_one() {
    fn within(_: ()) -> (String, String) {
        let process = Process::spawn(|()| current_process().name().to_owned(), ());
        let name = process
            .blocking_wait()
            .unwrap()
            .blocking_join(None)
            .unwrap();
        (current_process().name().to_owned(), name)
    }
    everywhere(|method| async move {
        let process = by(method).spawn(within, ()).await.unwrap();
        let (name, inner) = process.join().await.unwrap();
        assert!(name.starts_with("Process-"), "{name}");
        assert_eq!(name, process.name());
        assert_eq!(inner, format!("{name}:1"));
    });
}

/// CF-126.
#[test]
fn two_builders_share_no_settings() {
    everywhere(|method| async move {
        let variable = |()| std::env::var("PROCPOOL_TEST_OPTION").ok();
        let base = by(method);
        let changed = base
            .clone()
            .env("PROCPOOL_TEST_OPTION", "changed")
            .name("changed");
        let changed = changed.spawn(variable, ()).await.unwrap();
        let other = base.spawn(variable, ()).await.unwrap();
        assert_eq!(changed.join().await.unwrap().as_deref(), Some("changed"));
        assert_eq!(other.join().await.unwrap(), None);
        assert_ne!(other.name(), "changed");
    });
}

/// CF-270: arguments and environment are the program's, the latter with the changes of the builder, the
/// last of which holds.
#[test]
fn the_environment_is_as_the_builder_says() {
    fn look(keys: Vec<String>) -> Vec<Option<String>> {
        keys.iter().map(|key| std::env::var(key).ok()).collect()
    }
    everywhere(|method| async move {
        let arguments = |()| std::env::args().collect::<Vec<_>>();
        let seen = by(method).spawn(arguments, ()).await.unwrap();
        assert_eq!(seen.join().await.unwrap(), arguments(()));
        let keys = ["PATH", "A", "B"].map(str::to_owned).to_vec();
        let process = by(method)
            .env("A", "1")
            .env("B", "2")
            .env_remove("B")
            .env_remove("PATH");
        let seen = process.spawn(look, keys.clone()).await.unwrap();
        assert_eq!(
            seen.join().await.unwrap(),
            [None, Some("1".to_owned()), None]
        );
        let process = by(method).env("A", "1").env_clear().env("B", "2");
        let seen = process.spawn(look, keys).await.unwrap();
        assert_eq!(
            seen.join().await.unwrap(),
            [None, None, Some("2".to_owned())]
        );
        for wrong in [
            by(method).env("", "x"),
            by(method).env("A", "\0"),
            by(method).name(""),
        ] {
            let error = wrong.spawn(hang, ()).await.unwrap_err();
            assert!(error.is_invalid_argument(), "{error}");
        }
    });
}

/// CF-127, the flag.
#[test]
fn a_process_takes_over_the_flag_of_its_parent_unless_told_otherwise() {
    fn ask(daemon: Option<bool>) -> (bool, bool) {
        let is_daemon = |()| current_process().is_daemon();
        let mut builder = Process::builder();
        if let Some(daemon) = daemon {
            builder = builder.daemon(daemon);
        }
        let process = builder.spawn(is_daemon, ()).blocking_wait().unwrap();
        (
            current_process().is_daemon(),
            process.blocking_join(None).unwrap(),
        )
    }
    everywhere(|method| async move {
        for (own, asked, inner) in [
            (false, None, false),
            (true, None, true),
            (true, Some(false), false),
            (false, Some(true), true),
        ] {
            let process = by(method).daemon(own).spawn(ask, asked).await.unwrap();
            assert_eq!(process.is_daemon(), own);
            assert_eq!(process.join().await.unwrap(), (own, inner));
        }
        // Workers of pools are daemons.
        let pool = support::pool(1, method);
        assert_eq!(pool.submit(ask, None).await.unwrap(), (true, true));
        pool.shutdown().await;
    });
}

/// CF-133: also those that nobody has a handle of.
#[test]
fn the_children_that_run_are_listed() {
    everywhere(|method| async move {
        let gate = Scratch::new();
        let first = by(method)
            .name("first")
            .spawn(wait_for, gate.at("open"))
            .await
            .unwrap();
        drop(
            by(method)
                .name("second")
                .spawn(wait_for, gate.at("open"))
                .await
                .unwrap(),
        );
        let listed = active_children();
        let names: Vec<_> = listed.iter().map(Process::name).collect();
        assert_eq!(names, ["first", "second"]);
        touch(gate.at("open"));
        first.join().await.unwrap();
        // What is in the list can be waited for, whatever it returns.
        listed[1].join().await.unwrap();
        assert!(active_children().is_empty());
    });
}

/// CF-134.
#[test]
fn children_start_children() {
    fn descend((path, mut to): (Vec<u32>, Sender<Vec<u32>>)) -> Sender<Vec<u32>> {
        to.blocking_send(&path, None).unwrap();
        if path.len() < 2 {
            for index in 0..2 {
                let path = [&path[..], &[index]].concat();
                let child = Process::spawn(descend, (path, to));
                let child = child.blocking_wait().unwrap();
                to = child.blocking_join(None).unwrap();
            }
        }
        to
    }
    everywhere(|method| async move {
        let (sender, mut receiver) = one_way().unwrap();
        let process = by(method)
            .spawn(descend, (Vec::new(), sender))
            .await
            .unwrap();
        let expected: [&[u32]; 7] = [&[], &[0], &[0, 0], &[0, 1], &[1], &[1, 0], &[1, 1]];
        for path in expected {
            assert_eq!(receiver.recv().await.unwrap(), path);
        }
        drop(process.join().await.unwrap());
        assert!(receiver.recv().await.unwrap_err().is_closed());
    });
}

/// CF-139: nothing of the argument is kept here.
#[test]
fn what_was_given_to_a_process_is_released() {
    everywhere(|method| async move {
        let (here, there) = UnixStream::pair().unwrap();
        let gate = Scratch::new();
        let wait = |(_, gate): (Fd<UnixStream>, String)| wait_for(gate);
        let process = by(method)
            .spawn(wait, (Fd(there), gate.at("open")))
            .await
            .unwrap();
        touch(gate.at("open"));
        process.join().await.unwrap();
        // Nobody has the other end, though the handle is still there.
        assert_eq!((&here).read(&mut [0]).unwrap(), 0);
    });
}

/// CF-140.
#[test]
fn siblings_do_not_inherit_each_others_descriptors() {
    fn count(mut answer: Connection<usize, ()>) {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        answer.blocking_send(&open, None).unwrap();
        let _ = answer.blocking_recv(None);
    }
    everywhere(|method| async move {
        let mut counts = Vec::new();
        let mut kept = Vec::new();
        for _ in 0..5 {
            let (mut here, there) = pipe().unwrap();
            let process = by(method).spawn(count, there).await.unwrap();
            counts.push(here.recv().await.unwrap());
            kept.push((here, process));
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        for (here, process) in kept {
            drop(here);
            process.join().await.unwrap();
        }
    });
}

/// CF-147: what has a process and speaks with it.
struct Uppercaser {
    process: Process<()>,
    connection: Connection<String, String>,
}

impl Uppercaser {
    async fn start(method: StartMethod) -> Self {
        fn serve(mut connection: Connection<String, String>) {
            while let Ok(text) = connection.blocking_recv(None) {
                connection
                    .blocking_send(&text.to_uppercase(), None)
                    .unwrap();
            }
        }
        let (connection, there) = pipe().unwrap();
        let process = by(method).spawn(serve, there).await.unwrap();
        Self {
            process,
            connection,
        }
    }

    async fn ask(&mut self, text: &str) -> String {
        self.connection.send(&text.to_owned()).await.unwrap();
        self.connection.recv().await.unwrap()
    }

    async fn stop(self) {
        drop(self.connection);
        self.process.join().await.unwrap();
    }
}

/// CF-147.
#[test]
fn an_object_may_have_a_process_of_its_own() {
    everywhere(|method| async move {
        let mut object = Uppercaser::start(method).await;
        assert_eq!(object.ask("hello").await, "HELLO");
        assert_eq!(object.ask("world").await, "WORLD");
        object.stop().await;
    });
}

/// CF-146, CF-268: a pool in a process in a task of a pool.
#[test]
fn processes_and_pools_live_in_each_other() {
    fn pool_within(n: u64) -> u64 {
        let pool = ProcessPool::builder().workers(1).build().unwrap();
        let result = pool.submit(process_within, n).blocking_wait(None).unwrap();
        pool.close();
        result
    }
    fn process_within(n: u64) -> u64 {
        let process = Process::spawn(|n: u64| n + 1, n).blocking_wait().unwrap();
        process.blocking_join(None).unwrap()
    }
    everywhere(|method| async move {
        let process = by(method).spawn(pool_within, 41).await.unwrap();
        assert_eq!(process.join().await.unwrap(), 42);
    });
}

/// CF-277.
#[test]
fn what_cannot_be_sent_is_refused_before_there_is_a_process() {
    #[derive(Deserialize)]
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not this one"))
        }
    }
    everywhere(|method| async move {
        let error = by(method)
            .spawn(|_: Refuses| (), Refuses)
            .await
            .unwrap_err();
        assert!(
            error.is_encode() && error.start_error().is_none(),
            "{error}"
        );
        assert!(children().is_empty());
        // Such a result costs the value and nothing else.
        let process = by(method)
            .stderr(Stdio::null())
            .spawn(|()| Refuses, ())
            .await
            .unwrap();
        assert!(process.join().await.err().unwrap().is_encode());
    });
}

/// What is given up before it is there does not stay.
#[test]
fn a_start_that_nobody_waits_for_leaves_no_process() {
    everywhere(|method| async move {
        let (mut here, there) = UnixStream::pair().unwrap();
        let hold = |_: Fd<OwnedFd>| hang(());
        drop(by(method).spawn(hold, Fd(there.into())));
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
        let gone = soon(PROMPTLY, || active_children().is_empty()).await;
        assert!(gone);
    });
}

/// Not even in a program of one thread: the first panic there would be the end of the copy.
#[test]
fn a_thread_that_is_panicking_does_not_fork() {
    struct Forks<'a>(&'a mut Option<SpawnError>);
    impl Drop for Forks<'_> {
        fn drop(&mut self) {
            let start = by(StartMethod::Fork).spawn(hang, ());
            *self.0 = start.blocking_wait().err();
        }
    }
    let mut error = None;
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _forks = Forks(&mut error);
        resume_unwind(Box::new(()));
    }));
    let error = error.unwrap();
    assert!(unwound.is_err() && error.is_fork_refused(), "{error}");
    assert!(error.to_string().contains("panicking"), "{error}");
}

/// CF-144: an async function has a runtime, which ends with it.
#[test]
fn an_async_function_is_driven_to_its_end() {
    async fn work(millis: u64) -> u64 {
        tokio::spawn(std::future::pending::<()>());
        tokio::task::spawn_blocking(|| hang(()));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        millis
    }
    everywhere(|method| async move {
        let process = by(method).spawn_async(work, 5).await.unwrap();
        assert_eq!(process.join().await.unwrap(), 5);
        assert!(process.exit().unwrap().success());
    });
}
