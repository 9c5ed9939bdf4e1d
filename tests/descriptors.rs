//! Descriptors as parts of arguments and results: they arrive, work there, and are closed exactly
//! once, whatever becomes of their call.

mod support;

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use futures::StreamExt;
use procpool::task::Progress;
use procpool::{Fd, ProcessPool, Resource, StartMethod, Stdio, ThreadPool};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, builder, everywhere, open_descriptors, soon};

/// What workers complain about is out of the way.
fn pool(method: StartMethod, workers: usize) -> ProcessPool {
    let pool = builder(workers, method).stderr(Stdio::null());
    pool.build().unwrap()
}

/// Whether everybody else who had the other end has closed it: at last also a process that is being
/// started by somebody else just now, and has not come to its program yet.
fn is_hung_up(end: &UnixStream) -> bool {
    end.set_nonblocking(true).unwrap();
    matches!((&*end).read(&mut [0]), Ok(0))
}

fn write_foo(Fd(mut file): Fd<File>) {
    file.write_all(b"foo").unwrap();
}

fn echo_two_bytes(Fd(mut stream): Fd<UnixStream>) {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

async fn accept(Fd(listener): Fd<TcpListener>) -> u16 {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    listener.accept().await.unwrap().1.port()
}

/// CF-168, CF-170.
#[test]
fn a_file_a_socket_and_a_listener_work_in_a_task() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let mut file = tempfile();
        pool.submit(write_foo, Fd(file.try_clone().unwrap()))
            .await
            .unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "foo");

        let (mut here, there) = UnixStream::pair().unwrap();
        let echoed = pool.submit(echo_two_bytes, Fd(there));
        here.write_all(b"hi").unwrap();
        echoed.await.unwrap();
        let mut bytes = Vec::new();
        here.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"hi");

        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = pool.submit_async(accept, Fd(listener));
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(accepted.await.unwrap(), client.local_addr().unwrap().port());
        pool.shutdown().await;
    });
}

fn tempfile() -> File {
    use rustix::fs::{MemfdFlags, memfd_create};
    memfd_create("procpool-test", MemfdFlags::CLOEXEC)
        .unwrap()
        .into()
}

#[derive(Serialize, Deserialize)]
struct Box {
    label: String,
    main: Fd<UnixStream>,
    spare: Option<Fd<UnixStream>>,
    others: Vec<(u8, Fd<UnixStream>)>,
}

/// Says on each stream where it was found, and gives all of them back.
fn inspect(mut all: Box) -> Box {
    let label = all.label.clone();
    writeln!(all.main, "{label} main").unwrap();
    if let Some(spare) = &mut all.spare {
        writeln!(spare, "{label} spare").unwrap();
    }
    for (number, other) in &mut all.others {
        writeln!(other, "{label} {number}").unwrap();
    }
    all.label.push_str(" back");
    all
}

#[test]
fn they_stand_anywhere_in_a_value_and_come_back() {
    everywhere(|method| async move {
        let pool = pool(method, 2);
        let mut here = HashMap::new();
        let mut there = |name: &str| {
            let (one, other) = UnixStream::pair().unwrap();
            here.insert(name.to_owned(), one);
            Fd(other)
        };
        let mut all = Box {
            label: "first".to_owned(),
            main: there("main"),
            spare: Some(there("spare")),
            others: (0..100).map(|n| (n, there(&n.to_string()))).collect(),
        };
        for label in ["first", "first back", "first back back"] {
            assert_eq!(all.label, label);
            all = pool.submit(inspect, all).await.unwrap();
            for (name, stream) in &mut here {
                let mut line = vec![0; label.len() + name.len() + 2];
                stream.read_exact(&mut line).unwrap();
                assert_eq!(line, format!("{label} {name}\n").as_bytes());
            }
        }
        drop(all);
        pool.shutdown().await;
        assert!(soon(PROMPTLY, || here.values().all(is_hung_up)).await);
    });
}

fn pass_down((depth, Fd(mut stream)): (u32, Fd<UnixStream>)) {
    if depth == 0 {
        return stream.write_all(b"from below").unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pool = ProcessPool::builder().workers(1).build().unwrap();
        pool.submit(pass_down, (depth - 1, Fd(stream)))
            .await
            .unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn they_go_on_to_the_workers_of_a_worker() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let (mut here, there) = UnixStream::pair().unwrap();
        pool.submit(pass_down, (2, Fd(there))).await.unwrap();
        let mut text = String::new();
        here.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from below");
        pool.shutdown().await;
    });
}

fn hold(_: Fd<UnixStream>) {
    loop {
        std::thread::park();
    }
}

fn drop_and_go_on((Fd(stream), Fd(gate)): (Fd<UnixStream>, Fd<UnixStream>)) {
    drop(stream);
    let _ = (&gate).read(&mut [0]);
}

/// While the task runs nobody but that has it: not the program, not the worker around it.
#[test]
fn what_a_task_closes_is_closed() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let (here, there) = UnixStream::pair().unwrap();
        let (gate, its_gate) = UnixStream::pair().unwrap();
        let call = pool.submit(drop_and_go_on, (Fd(there), Fd(its_gate)));
        assert!(soon(PROMPTLY, || is_hung_up(&here)).await);
        assert!(call.is_running());
        drop(gate);
        call.await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn they_are_closed_whatever_becomes_of_the_call() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let pair = || UnixStream::pair().unwrap();
        let mut ends = Vec::new();
        let mut there = || {
            let (here, there) = pair();
            ends.push(here);
            Fd(there)
        };
        // Killed, cancelled, timed out before its start, refused by a pool that is closed.
        let killed = pool.submit(hold, there());
        let cancelled = pool.submit(hold, there());
        let late = pool.task(hold).queue_timeout(Duration::from_millis(1));
        let late = late.submit(there());
        assert!(soon(PROMPTLY, || killed.is_running()).await);
        assert!(cancelled.cancel());
        assert!(late.await.unwrap_err().is_timeout());
        assert!(killed.abort());
        let detached = pool.submit(hold, there());
        assert!(soon(PROMPTLY, || detached.is_running()).await);
        drop(detached);
        pool.terminate().await;
        assert!(pool.submit(hold, there()).await.unwrap_err().is_shut_down());
        for end in &ends {
            assert!(soon(PROMPTLY, || is_hung_up(end)).await);
        }
    });
}

fn crash(_: Fd<UnixStream>) -> u32 {
    std::process::abort()
}

fn make(count: usize) -> Vec<Fd<UnixStream>> {
    let pair = |_| UnixStream::pair().map(|(_, there)| Fd(there)).unwrap();
    (0..count).map(pair).collect()
}

fn give_back(stream: Fd<UnixStream>) -> Fd<UnixStream> {
    stream
}

#[test]
fn of_a_result_that_nobody_reads_they_are_closed() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let (here, there) = UnixStream::pair().unwrap();
        let call = pool.submit(give_back, Fd(there));
        assert!(soon(PROMPTLY, || call.is_done()).await);
        assert!(!is_hung_up(&here));
        drop(call);
        assert!(soon(PROMPTLY, || is_hung_up(&here)).await);
        drop(pool.submit(make, 10));
        pool.shutdown().await;
    });
}

/// A repetition has them as the first run had.
#[test]
fn a_repeated_call_has_them_again() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let (here, there) = UnixStream::pair().unwrap();
        let error = pool.task(crash).retry(2).submit(Fd(there)).await;
        let error = error.unwrap_err();
        assert!(error.is_worker_lost(), "{error}");
        assert_eq!(error.attempts(), 3);
        assert!(soon(PROMPTLY, || is_hung_up(&here)).await);
        pool.shutdown().await;
    });
}

fn say((number, Fd(mut stream)): (u32, Fd<UnixStream>)) -> Fd<UnixStream> {
    if number % 10 == 9 {
        std::process::abort();
    }
    writeln!(stream, "item {number}").unwrap();
    Fd(stream)
}

/// Items with descriptors among others without; one that is run again has its own again.
#[test]
fn items_of_a_map_have_their_own() {
    everywhere(|method| async move {
        let pool = pool(method, 2);
        let mut ends = Vec::new();
        let items: Vec<_> = (0..20)
            .map(|number| {
                let (here, there) = UnixStream::pair().unwrap();
                ends.push(here);
                (number, Fd(there))
            })
            .collect();
        let results: Vec<_> = pool.task(say).retry(1).map(items).collect().await;
        for (number, (result, end)) in results.into_iter().zip(&mut ends).enumerate() {
            assert_eq!(result.is_ok(), number % 10 != 9, "{number}");
            let mut said = String::new();
            drop(result);
            assert!(soon(PROMPTLY, || is_readable_to_its_end(end, &mut said)).await);
            let wanted = format!("item {number}\n");
            assert_eq!(said, if number % 10 == 9 { "" } else { &wanted });
        }
        let optional = |number: u32| (number % 3 == 0).then(|| make(1).remove(0));
        let items: Vec<_> = (0..50).map(optional).collect();
        let counted = pool.map(|item: Option<Fd<UnixStream>>| item.is_some(), items);
        let counted: Vec<_> = counted.map(Result::unwrap).collect().await;
        let expected: Vec<_> = (0..50).map(|number| number % 3 == 0).collect();
        assert_eq!(counted, expected);
        pool.shutdown().await;
    });
}

/// Reads what there is; whether that was all.
fn is_readable_to_its_end(mut end: &UnixStream, said: &mut String) -> bool {
    end.set_nonblocking(true).unwrap();
    end.read_to_string(said).is_ok()
}

/// More than the socket beside the pipes holds, in both directions.
#[test]
fn many_calls_with_many_of_them_do_not_block_each_other() {
    everywhere(|method| async move {
        let pool = pool(method, 2);
        let calls = (0..200).map(|_| pool.submit(give_back, make(1).remove(0)));
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let made = pool.submit(make, 253).await.unwrap();
        assert_eq!(made.len(), 253);
        let error = pool.submit(make, 254).await.unwrap_err();
        assert!(
            error.is_encode() && format!("{error:#}").contains("253"),
            "{error:#}"
        );
        pool.shutdown().await;
    });
}

/// The call fails by itself, and says why; what did arrive is closed.
#[test]
fn a_worker_that_may_have_no_more_of_them_says_so() {
    everywhere(|method| async move {
        let pool = builder(1, method).rlimit(Resource::OpenFiles, 40, 40);
        let pool = pool.build().unwrap();
        let count = |streams: Vec<Fd<UnixStream>>| streams.len();
        for _ in 0..3 {
            let error = pool.submit(count, make(100)).await.unwrap_err();
            assert!(error.is_decode(), "{error:#}");
            let text = format!("{error:#}");
            assert!(text.contains("that came with it is not there"), "{text}");
            assert_eq!(pool.submit(count, make(5)).await.unwrap(), 5);
        }
        pool.shutdown().await;
    });
}

/// Anywhere else they are refused, by name.
#[test]
fn outside_of_a_call_they_are_refused() {
    let error = serde_json::to_string(&make(1)).unwrap_err();
    assert!(error.to_string().contains("travels only as a part of"));
    let error = serde_json::from_str::<Fd<File>>("0").unwrap_err();
    assert!(error.to_string().contains("travels only as a part of"));
}

/// What a task says on its way carries none, nor does the argument of an initializer.
#[test]
fn updates_and_initializers_carry_none() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let say = |_: (), progress: Progress<Fd<UnixStream>>| {
            let sent = progress.send(&make(1).remove(0));
            let error = sent.unwrap_err();
            error.source().expect("it says why").to_string()
        };
        let (said, updates) = pool.submit_with_progress(say, ());
        let error = said.await.unwrap();
        assert!(error.contains("travels only as a part of"), "{error}");
        assert_eq!(updates.count().await, 0);
        pool.shutdown().await;
        let refused = builder(1, method).initializer(|_: Fd<UnixStream>| (), make(1).remove(0));
        let error = refused.build().unwrap_err();
        let why = error.source().expect("it says why").to_string();
        assert!(why.contains("travels only as a part of"), "{why}");
    });
}

/// Without a process between, and on threads, they are moved and closed in the same way.
#[tokio::test]
async fn in_place_and_on_threads_they_do_the_same() {
    let pool = ProcessPool::builder().inline().build().unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let back = pool.submit(give_back, Fd(there)).await.unwrap();
    drop(back);
    assert!(soon(PROMPTLY, || is_hung_up(&here)).await);
    let threads = ThreadPool::new().unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    drop(threads.submit(give_back, Fd(there)).await.unwrap());
    assert!(soon(PROMPTLY, || is_hung_up(&here)).await);
    threads.shutdown().await;
}

/// At once, also where the runtime has no other thread to close them on, and while the pool's handle is kept.
#[test]
fn whoever_has_awaited_the_end_of_a_pool_finds_its_descriptors_closed() {
    everywhere(|method| async move {
        for deed in 0..4 {
            let before = open_descriptors();
            let pool = builder(3, method).build().unwrap();
            pool.ready().await.unwrap();
            let calls = (0..30).map(|n: u32| pool.submit(|n: u32| n + 1, n));
            futures::future::try_join_all(calls).await.unwrap();
            match deed {
                0 => pool.shutdown().await,
                1 => pool.shutdown_now().await,
                2 => pool.terminate().await,
                _ => {
                    let lost = pool.submit(|_: ()| -> () { std::process::abort() }, ());
                    lost.await.unwrap_err();
                    pool.shutdown().await;
                }
            }
            assert_eq!(open_descriptors(), before, "{method} {deed}");
            drop(pool);
        }
    });
}
