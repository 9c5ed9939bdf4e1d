//! How connections end, travel, and are waited for; and what becomes of what was given up.

mod support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{FutureExt, future};
use procpool::connection::{Receiver, Sender, Waitable, blocking_wait};
use procpool::{Connection, Fd, one_way, pipe, wait};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, everywhere, on_each_runtime, pool, runtime, scene, soon};

fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

/// CF-161, CF-162, CF-167.
#[test]
fn what_was_sent_arrives_before_the_end() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<u32, u32>().unwrap();
        one.send(&1729).await.unwrap();
        drop(one);
        assert_eq!(other.recv().await.unwrap(), 1729);
        for _ in 0..3 {
            assert!(other.poll(Duration::ZERO).await.unwrap());
            assert!(other.recv().await.unwrap_err().is_closed());
            assert!(other.recv_bytes().await.unwrap_err().is_closed());
            assert!(other.try_recv().unwrap_err().is_closed());
            assert!(other.blocking_recv(None).unwrap_err().is_closed());
        }
    });
}

/// Also what the other side had not read when it was closed does not hide what it has sent.
#[test]
fn an_end_that_leaves_something_unread_is_an_end() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<u32, u32>().unwrap();
        other.send(&1).await.unwrap();
        one.send(&2).await.unwrap();
        drop(one);
        assert_eq!(other.recv().await.unwrap(), 2);
        assert!(other.recv().await.unwrap_err().is_closed());
        assert!(other.send(&3).await.unwrap_err().is_broken_pipe());
    });
}

/// CF-163.
#[test]
fn sending_to_nobody_is_an_error_of_its_own() {
    on_each_runtime(|| async {
        for pause in [0, 42] {
            let (mut sender, receiver) = one_way::<u32>().unwrap();
            tokio::task::spawn_blocking(move || {
                std::thread::sleep(Duration::from_millis(pause));
                drop(receiver);
            });
            let error = loop {
                if let Err(error) = sender.send(&1).await {
                    break error;
                }
            };
            assert!(error.is_broken_pipe() && !error.is_closed(), "{error}");
            assert!(sender.try_send(&1).unwrap_err().is_broken_pipe());
            assert!(sender.blocking_send(&1, None).unwrap_err().is_broken_pipe());
        }
    });
}

/// A peer that dies in the middle of a message has sent no message.
#[test]
fn half_a_message_is_none() {
    on_each_runtime(|| async {
        use std::io::Write;
        let (here, mut there) = UnixStream::pair().unwrap();
        let socket = std::os::fd::OwnedFd::from(here);
        let mut connection = Connection::<(), ()>::try_from(socket).unwrap();
        there.write_all(&[0, 0, 0, 9, b'x']).unwrap();
        assert!(connection.recv_bytes().now_or_never().is_none());
        drop(there);
        for _ in 0..2 {
            let error = connection.recv_bytes().await.unwrap_err();
            assert!(error.is_broken() && !error.is_closed(), "{error}");
        }
    });
}

fn write_back(mut to: Sender<String>) {
    to.blocking_send(&"all is well".to_owned(), None).unwrap();
}

fn double((mut from, mut to): (Receiver<String>, Sender<String>)) {
    let text = from.blocking_recv(None).unwrap();
    to.blocking_send(&text.repeat(2), None).unwrap();
}

/// CF-164, CF-169.
#[test]
fn ends_of_both_kinds_work_in_a_task() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (sender, mut receiver) = one_way().unwrap();
        let task = pool.submit(write_back, sender);
        assert_eq!(receiver.recv().await.unwrap(), "all is well");
        task.await.unwrap();
        assert!(receiver.recv().await.unwrap_err().is_closed());

        let (mut question, its_question) = one_way().unwrap();
        let (its_answer, mut answer) = one_way().unwrap();
        let task = pool.submit(double, (its_question, its_answer));
        question.send(&"well".to_owned()).await.unwrap();
        assert_eq!(answer.recv().await.unwrap(), "wellwell");
        task.await.unwrap();
        pool.shutdown().await;
    });
}

type Inner = Connection<String, Vec<u8>>;

#[derive(Serialize, Deserialize)]
struct Nested {
    label: String,
    inner: Option<Receiver<Receiver<Inner>>>,
    others: Vec<Fd<UnixStream>>,
}

fn unpack(mut outer: Receiver<Nested>) -> Inner {
    let nested = outer.blocking_recv(None).unwrap();
    let mut middle = nested.inner.unwrap().blocking_recv(None).unwrap();
    let mut inner = middle.blocking_recv(None).unwrap();
    assert_eq!(nested.others.len(), 20);
    inner.blocking_send(&nested.label, None).unwrap();
    assert_eq!(inner.blocking_recv_bytes(None).unwrap(), b"7 bytes");
    inner
}

/// CF-169, CF-182.
#[test]
fn ends_travel_through_ends_and_come_back() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (mut outer, its_outer) = one_way().unwrap();
        let (mut middle, its_middle) = one_way().unwrap();
        let (mut inner, its_inner) = one_way().unwrap();
        let (mut here, there) = pipe().unwrap();
        let task = pool.submit(unpack, its_outer);
        let others = (0..20).map(|_| Fd(UnixStream::pair().unwrap().0));
        let nested = Nested {
            label: "found".to_owned(),
            inner: Some(its_middle),
            others: others.collect(),
        };
        outer.send(&nested).await.unwrap();
        drop(nested);
        middle.send(&its_inner).await.unwrap();
        inner.send(&there).await.unwrap();
        drop((its_inner, there, outer, middle, inner));
        assert_eq!(here.recv().await.unwrap(), "found");
        here.send_bytes(b"7 bytes").await.unwrap();
        // And home again, as a result.
        let mut there = task.await.unwrap();
        pool.shutdown().await;
        here.send(&pattern(7)).await.unwrap();
        assert_eq!(there.recv().await.unwrap(), pattern(7));
        drop(there);
        assert!(here.recv().await.unwrap_err().is_closed());
    });
}

fn sum(mut from: Receiver<u32>) -> u32 {
    std::iter::from_fn(|| from.blocking_recv(None).ok()).sum()
}

/// What had come in already goes along with an end.
#[test]
fn a_receiver_continues_where_it_was() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (mut sender, mut receiver) = one_way().unwrap();
        for n in 0..100 {
            sender.send(&n).await.unwrap();
        }
        assert_eq!(receiver.recv().await.unwrap(), 0);
        assert_eq!(receiver.recv().await.unwrap(), 1);
        let rest = pool.submit(sum, receiver);
        sender.send(&1000).await.unwrap();
        drop(sender);
        assert_eq!(rest.await.unwrap(), 1000 + (2..100).sum::<u32>());
        pool.shutdown().await;
    });
}

#[test]
fn ends_are_serialised_in_messages_only_and_not_while_they_send() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<Vec<u8>, ()>().unwrap();
        assert!(postcard::to_stdvec(&one).is_err());
        one.try_send(&pattern(1 << 20)).unwrap();
        let (mut carrier, _receiver) = one_way().unwrap();
        let error = carrier.send(&one).await.unwrap_err();
        assert!(error.is_encode(), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("not sent whole"), "{source}");
        assert!(other.recv().await.unwrap() == pattern(1 << 20));
        assert!(soon(PROMPTLY, || carrier.try_send(&one).is_ok()).await);
    });
}

#[test]
fn descriptors_that_nobody_takes_are_closed() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<Vec<Fd<UnixStream>>, Vec<Fd<UnixStream>>>().unwrap();
        let (mut ends, theirs): (Vec<_>, Vec<_>) =
            (0..253).map(|_| UnixStream::pair().unwrap()).unzip();
        let mut theirs: Vec<_> = theirs.into_iter().map(Fd).collect();
        one.send(&theirs).await.unwrap();
        let arrived = other.recv().await.unwrap();
        assert_eq!(arrived.len(), 253);
        drop(arrived);
        theirs.truncate(3);
        // Read as bytes, as something else, and never.
        one.send(&theirs).await.unwrap();
        one.send(&theirs).await.unwrap();
        one.send(&theirs).await.unwrap();
        drop(theirs);
        other.recv_bytes().await.unwrap();
        let wrong = other.as_fd().try_clone_to_owned().unwrap();
        let mut wrong = Connection::<(), String>::try_from(wrong).unwrap();
        drop(other);
        if let Err(error) = wrong.recv().await {
            assert!(error.is_decode(), "{error}");
        }
        drop((wrong, one));
        for end in &mut ends {
            end.set_nonblocking(true).unwrap();
            let end = soon(PROMPTLY, || {
                matches!(std::io::Read::read(end, &mut [0]), Ok(0))
            });
            assert!(end.await);
        }
    });
}

/// Given up again and again, at every stage, nothing is lost and nothing comes twice.
#[test]
fn cancelled_operations_lose_and_tear_nothing() {
    on_each_runtime(|| async {
        let (mut sender, mut receiver) = one_way::<(u32, Vec<u8>)>().unwrap();
        let lengths = |n: u32| [3, 70_000, 600_000][n as usize % 3];
        let sent = async {
            let mut given_up = Vec::new();
            for n in 0..60 {
                let value = (n, pattern(lengths(n)));
                let limit = Duration::from_micros(u64::from(n % 7) * 50);
                if tokio::time::timeout(limit, sender.send(&value))
                    .await
                    .is_err()
                {
                    given_up.push(n);
                }
            }
            drop(sender);
            given_up
        };
        let received = async {
            let mut received = Vec::new();
            loop {
                let limit = Duration::from_micros(received.len() as u64 % 5 * 40);
                match tokio::time::timeout(limit, receiver.recv()).await {
                    Err(_) => tokio::task::yield_now().await,
                    Ok(Ok((n, bytes))) => {
                        assert!(bytes == pattern(lengths(n)));
                        received.push(n);
                    }
                    Ok(Err(error)) => {
                        assert!(error.is_closed(), "{error}");
                        return received;
                    }
                }
            }
        };
        let (given_up, received) = future::join(sent, received).await;
        assert!(
            received.is_sorted_by(|one, next| one < next),
            "{received:?}"
        );
        let missing = (0..60).filter(|n| !received.contains(n));
        assert!(missing.into_iter().all(|n| given_up.contains(&n)));
    });
}

#[test]
fn a_send_that_did_not_begin_sends_nothing() {
    on_each_runtime(|| async {
        let (mut sender, mut receiver) = one_way::<Vec<u8>>().unwrap();
        drop(sender.send(&vec![1]));
        let mut count = 0;
        while sender.try_send(&vec![2; 1000]).is_ok() {
            count += 1;
        }
        assert!(sender.send(&vec![3]).now_or_never().is_none());
        let error = sender.blocking_send(&vec![4], Some(Duration::from_millis(20)));
        assert!(error.unwrap_err().is_timeout());
        for _ in 0..count {
            assert_eq!(receiver.recv().await.unwrap(), [2; 1000]);
        }
        assert!(receiver.try_recv().unwrap_err().is_empty());
    });
}

/// Neither the future, nor the connection, nor the runtime is there any more.
#[test]
fn a_message_that_was_begun_outlives_all_who_sent_it() {
    let _scene = scene();
    let message = pattern(3 << 20);
    let mut receiver = runtime(1).block_on(async {
        let (mut sender, receiver) = one_way::<Vec<u8>>().unwrap();
        assert!(sender.send(&message).now_or_never().is_none());
        receiver
    });
    assert!(receiver.blocking_recv(Some(PROMPTLY)).unwrap() == message);
    assert!(
        receiver
            .blocking_recv(Some(PROMPTLY))
            .unwrap_err()
            .is_closed()
    );
}

fn without_runtime<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let unpark = std::sync::Arc::new(Unpark(std::thread::current()));
    let waker = std::task::Waker::from(unpark);
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn without_a_runtime_the_futures_do_the_same() {
    let _scene = scene();
    let (mut one, mut other) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
    let message = pattern(1 << 20);
    let echo = async {
        let bytes = other.recv().await.unwrap();
        other.send(&bytes).await.unwrap();
    };
    let asked = async {
        assert!(!one.poll(Duration::from_millis(5)).await.unwrap());
        one.send(&message).await.unwrap();
        assert!(wait([&one], None).await.unwrap() == [0]);
        one.recv().await.unwrap()
    };
    let (answer, ()) = without_runtime(future::join(asked, echo));
    assert!(answer == message);
    // And one without I/O.
    let bare = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (answer, ()) = bare.block_on(future::join(
        async {
            one.send(&message).await.unwrap();
            one.recv().await.unwrap()
        },
        async {
            let bytes = other.recv().await.unwrap();
            other.send(&bytes).await.unwrap();
        },
    ));
    assert!(answer == message);
}

/// One connection on one runtime after the other.
#[test]
fn a_connection_goes_from_runtime_to_runtime() {
    let _scene = scene();
    let (mut one, mut other) = pipe::<u32, u32>().unwrap();
    for n in 0..5 {
        runtime(1 + n % 2).block_on(async {
            let mut received = pin!(other.recv());
            assert!(received.as_mut().now_or_never().is_none());
            one.send(&(n as u32)).await.unwrap();
            assert_eq!(received.await.unwrap(), n as u32);
        });
    }
}

fn number((mut to, pauses): (Sender<(u32, u32)>, bool)) {
    for n in 0..10 {
        if pauses {
            std::thread::sleep(Duration::from_millis(u64::from((n * 7 + 3) % 5)));
        }
        to.blocking_send(&(std::process::id(), n), None).unwrap();
    }
}

/// CF-174.
#[test]
fn waiting_for_many_finds_all_that_is_sent() {
    everywhere(|method| async move {
        let pool = pool(4, method);
        for pauses in [false, true] {
            let mut open = Vec::new();
            let mut tasks = Vec::new();
            for _ in 0..4 {
                let (sender, receiver) = one_way::<(u32, u32)>().unwrap();
                tasks.push(pool.submit(number, (sender, pauses)));
                open.push(receiver);
            }
            let mut received = BTreeMap::<_, Vec<_>>::new();
            while !open.is_empty() {
                let ready = wait(&open, None).await.unwrap();
                assert!(!ready.is_empty());
                for place in ready.into_iter().rev() {
                    match open[place].recv().await {
                        Ok((pid, n)) => received.entry((pid, place)).or_default().push(n),
                        Err(error) => {
                            assert!(error.is_closed(), "{error}");
                            open.swap_remove(place);
                        }
                    }
                }
            }
            assert_eq!(received.values().map(Vec::len).sum::<usize>(), 40);
            for task in tasks {
                task.await.unwrap();
            }
        }
        pool.shutdown().await;
    });
}

/// CF-171.
#[test]
fn five_channels_through_one_wait() {
    on_each_runtime(|| async {
        let (mut senders, mut open): (Vec<_>, Vec<_>) =
            (0..5).map(|_| one_way::<()>().unwrap()).unzip();
        let length = |n: usize, channel: usize| (n * 163 + channel * 31) % (16 * 1024);
        let sent = tokio::task::spawn_blocking(move || {
            for n in 0..100 {
                for (channel, sender) in senders.iter_mut().enumerate() {
                    sender
                        .blocking_send_bytes(&pattern(length(n, channel)), None)
                        .unwrap();
                }
            }
        });
        let mut counts = [0; 5];
        let mut channels: Vec<usize> = (0..5).collect();
        while !open.is_empty() {
            for place in wait(&open, None).await.unwrap().into_iter().rev() {
                let channel = channels[place];
                match open[place].recv_bytes().await {
                    Ok(bytes) => {
                        assert!(bytes == pattern(length(counts[channel], channel)));
                        counts[channel] += 1;
                    }
                    Err(error) => {
                        assert!(error.is_closed(), "{error}");
                        open.remove(place);
                        channels.remove(place);
                    }
                }
            }
        }
        assert_eq!(counts, [100; 5]);
        sent.await.unwrap();
    });
}

/// CF-175.
#[test]
fn waiting_has_a_limit() {
    on_each_runtime(|| async {
        let (mut first, a) = one_way::<u8>().unwrap();
        let (_second, mut b) = one_way::<u8>().unwrap();
        let (limit, begun) = (Duration::from_millis(100), Instant::now());
        assert!(wait([&a, &b], Some(limit)).await.unwrap().is_empty());
        assert!(begun.elapsed() >= limit);
        assert!(blocking_wait([&a, &b], Some(limit)).unwrap().is_empty());
        assert!(begun.elapsed() >= 2 * limit);
        assert!(
            wait([&a, &b], Some(Duration::ZERO))
                .await
                .unwrap()
                .is_empty()
        );
        let sent = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            first.send(&1).await.unwrap();
            first.send(&2).await.unwrap();
        };
        let (found, ()) = future::join(wait([&b, &a], Some(PROMPTLY)), sent).await;
        assert_eq!(found.unwrap(), [1]);
        // What is in the receiver already counts.
        let mut a = a;
        assert_eq!(a.recv().await.unwrap(), 1);
        assert_eq!(blocking_wait([&b, &a], None).unwrap(), [1]);
        assert!(b.try_recv().unwrap_err().is_empty());
    });
}

/// CF-176.
#[test]
fn ends_sockets_and_processes_are_waited_for_together() {
    on_each_runtime(|| async {
        use std::io::Write;
        let (mut first, a) = one_way::<u8>().unwrap();
        let (mut second, b) = pipe::<u8, u8>().unwrap();
        let (mut socket, c) = UnixStream::pair().unwrap();
        let mut child = std::process::Command::new("cat");
        child.stdin(std::process::Stdio::piped());
        child.stdout(std::process::Stdio::null());
        let mut child = child.spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let sentinel =
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let all = || -> [Waitable<'_>; 4] {
            [
                Waitable::from(&a),
                sentinel.as_fd().into(),
                Waitable::from(&b),
                c.as_fd().into(),
            ]
        };
        assert!(wait(all(), Some(Duration::ZERO)).await.unwrap().is_empty());
        let end = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(child.stdin.take());
        };
        let (found, ()) = future::join(wait(all(), None), end).await;
        assert_eq!(found.unwrap(), [1]);
        first.send(&1).await.unwrap();
        assert_eq!(wait(all(), None).await.unwrap(), [0, 1]);
        second.send(&1).await.unwrap();
        socket.write_all(b"x").unwrap();
        assert_eq!(wait(all(), None).await.unwrap(), [0, 1, 2, 3]);
        child.wait().unwrap();
    });
}
