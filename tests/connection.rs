//! Messages through pipes, between this process and the workers of a pool: what is sent arrives, as
//! it was and in order; and what is wrong is said.

mod support;

use std::error::Error as _;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt, future};
use procpool::connection::{Receiver, Sender};
use procpool::{Connection, one_way, pipe};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, everywhere, on_each_runtime, pool, runtime, scene};

/// What a peer of many kinds says, each time in the same words.
type Both<T> = Connection<T, T>;

fn echo(mut connection: Both<Vec<Option<f64>>>) {
    while let Ok(value) = connection.blocking_recv(None) {
        connection.blocking_send(&value, None).unwrap();
    }
}

fn echo_bytes(mut connection: Both<()>) {
    while let Ok(bytes) = connection.blocking_recv_bytes(None) {
        connection.blocking_send_bytes(&bytes, None).unwrap();
    }
}

async fn echo_async(mut connection: Both<()>) {
    while let Ok(bytes) = connection.recv_bytes().await {
        connection.send_bytes(&bytes).await.unwrap();
    }
}

fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

/// CF-155.
#[test]
fn values_and_bytes_come_back_from_an_echo() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (mut here, there) = pipe().unwrap();
        let task = pool.submit(echo, there);
        let list = vec![Some(1.0), Some(2.25), None];
        here.send(&list).await.unwrap();
        assert_eq!(here.recv().await.unwrap(), list);
        drop(here);
        task.await.unwrap();

        let (mut here, there) = pipe::<(), ()>().unwrap();
        let task = pool.submit(echo_bytes, there);
        here.send_bytes(b"hello world").await.unwrap();
        assert_eq!(here.recv_bytes().await.unwrap(), b"hello world");
        drop(here);
        task.await.unwrap();
        pool.shutdown().await;
    });
}

/// CF-155.
#[test]
fn values_and_bytes_share_one_order() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<u32, ()>().unwrap();
        one.send(&1).await.unwrap();
        one.send_bytes(b"two").await.unwrap();
        one.send(&3).await.unwrap();
        assert_eq!(other.recv().await.unwrap(), 1);
        assert_eq!(other.recv_bytes().await.unwrap(), b"two");
        assert_eq!(other.recv().await.unwrap(), 3);
    });
}

/// CF-156.
#[test]
fn a_message_goes_into_a_buffer() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<(), ()>().unwrap();
        let message = pattern(16);
        for offset in [0, 12] {
            let mut buffer = [0; 40];
            one.send_bytes(&message).await.unwrap();
            let count = other.recv_bytes_into(&mut buffer[offset..]).await.unwrap();
            assert_eq!(count, 16);
            assert_eq!(buffer[offset..offset + 16], message);
            let rest = buffer[..offset].iter().chain(&buffer[offset + 16..]);
            assert!(rest.copied().all(|byte| byte == 0));
        }
        one.send_bytes(&message).await.unwrap();
        let mut short = [0; 15];
        let error = other.recv_bytes_into(&mut short).await.unwrap_err();
        assert!(error.is_buffer_too_short(), "{error}");
        assert_eq!((error.needed(), short), (Some(16), [0; 15]));
        assert_eq!(other.recv_bytes().await.unwrap(), message);
    });
}

/// CF-157.
#[test]
fn a_limit_on_length_ends_reading() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<u8, ()>().unwrap();
        one.send_bytes(&[0; 5]).await.unwrap();
        one.send_bytes(&[0; 10]).await.unwrap();
        one.send_bytes(&[0; 1]).await.unwrap();
        assert_eq!(other.recv_bytes_max(5).await.unwrap(), [0; 5]);
        let error = other.recv_bytes_max(5).await.unwrap_err();
        assert!(error.is_too_long() && error.is_broken(), "{error}");
        assert!(error.to_string().contains("bad message length"), "{error}");
        assert!(other.recv_bytes().await.unwrap_err().is_too_long());
        assert!(other.try_recv().unwrap_err().is_too_long());
        // What it sends still arrives.
        other.send_bytes(b"too much").await.unwrap();
        one.set_max_length(8);
        assert_eq!(one.recv_bytes().await.unwrap(), b"too much");
        other.send_bytes(&[0; 9]).await.unwrap();
        assert!(one.recv_bytes_max(100).await.unwrap_err().is_too_long());
    });
}

/// CF-158.
#[test]
fn poll_waits_and_takes_nothing() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<u8, u8>().unwrap();
        assert!(!other.poll(Duration::ZERO).await.unwrap());
        assert!(!other.blocking_poll(Some(Duration::ZERO)).unwrap());
        let (limit, begun) = (Duration::from_millis(100), Instant::now());
        assert!(!other.poll(limit).await.unwrap());
        assert!(begun.elapsed() >= limit);
        assert!(!other.blocking_poll(Some(limit)).unwrap());
        assert!(begun.elapsed() >= 2 * limit);
        let sent = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            one.send(&7).await.unwrap();
        };
        assert!(future::join(other.poll(PROMPTLY), sent).await.0.unwrap());
        for _ in 0..3 {
            assert!(other.poll(Duration::ZERO).await.unwrap());
            assert!(other.poll(PROMPTLY).await.unwrap());
            assert!(other.blocking_poll(None).unwrap());
            other.readable().await.unwrap();
        }
        assert_eq!(other.recv().await.unwrap(), 7);
        assert!(!other.poll(Duration::ZERO).await.unwrap());
    });
}

/// CF-159.
#[test]
fn messages_are_not_merged() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<(), ()>().unwrap();
        for message in ["a", "b", "cd"] {
            one.send_bytes(message.as_bytes()).await.unwrap();
        }
        for message in ["a", "b", "cd"] {
            assert!(other.poll(PROMPTLY).await.unwrap());
            assert!(other.poll(Duration::ZERO).await.unwrap());
            assert_eq!(other.recv_bytes().await.unwrap(), message.as_bytes());
        }
    });
}

/// CF-160.
#[test]
fn large_messages_come_back_whole() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (mut here, there) = pipe::<(), ()>().unwrap();
        let task = pool.submit(echo_bytes, there);
        let message = pattern(16 << 20);
        here.send_bytes(&message).await.unwrap();
        assert!(here.recv_bytes().await.unwrap() == message);
        drop(here);
        task.await.unwrap();
        pool.shutdown().await;
    });
}

/// CF-160, the rest of it: once, for its size.
#[test]
fn many_large_messages_come_back_whole() {
    let _scene = scene();
    runtime(1).block_on(async {
        let pool = procpool::ProcessPool::builder().workers(1).build().unwrap();
        let (mut here, there) = pipe::<(), ()>().unwrap();
        let task = pool.submit_async(echo_async, there);
        for mebibytes in 46..=50 {
            let message = pattern(mebibytes << 20);
            here.send_bytes(&message).await.unwrap();
            assert!(here.recv_bytes().await.unwrap() == message);
        }
        drop(here);
        task.await.unwrap();
        pool.shutdown().await;
    });
}

/// CF-166.
#[test]
fn a_part_of_a_buffer_is_a_message() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<(), ()>().unwrap();
        let letters: Vec<u8> = (b'a'..=b'z').collect();
        for part in [
            &letters[..],
            &letters[5..],
            &letters[7..15],
            &letters[26..],
            &[],
        ] {
            one.send_bytes(part).await.unwrap();
            assert_eq!(other.recv_bytes().await.unwrap(), part);
        }
    });
}

/// CF-171.
#[test]
fn no_length_is_special() {
    on_each_runtime(|| async {
        let (one, other) = pipe::<(), ()>().unwrap();
        let ((mut sender, _), (_, mut receiver)) = (one.into_split(), other.into_split());
        let edges = [4096, 16 * 1024, 65_536, 208 * 1024, 212_992, 1 << 20];
        let lengths = edges.iter().flat_map(|edge| edge - 13..edge + 2);
        let lengths: Vec<_> = (0..20).chain(lengths).collect();
        let sent = async {
            for length in &lengths {
                sender.send_bytes(&pattern(*length)).await.unwrap();
            }
        };
        let received = async {
            for length in &lengths {
                assert!(
                    receiver.recv_bytes().await.unwrap() == pattern(*length),
                    "{length}"
                );
            }
        };
        future::join(sent, received).await;
    });
}

/// CF-172.
#[test]
fn trying_to_receive_gives_all_or_nothing() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<Vec<u8>, ()>().unwrap();
        assert!(other.try_recv().unwrap_err().is_empty());
        one.send(&vec![1]).await.unwrap();
        assert_eq!(other.try_recv().unwrap(), [1]);
        let error = other.try_recv().unwrap_err();
        assert!(error.is_empty() && !error.is_closed(), "{error}");
        let large = pattern(1 << 20);
        one.try_send(&large).unwrap();
        let received = loop {
            match other.try_recv() {
                Ok(value) => break value,
                Err(error) => assert!(error.is_empty(), "{error}"),
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
        };
        assert!(received == large);
        drop(one);
        let error = other.try_recv().unwrap_err();
        assert!(error.is_closed() && !error.is_empty(), "{error}");
    });
}

/// CF-173, CF-178.
#[test]
fn receiving_with_a_limit_waits_so_long() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<u8, u8>().unwrap();
        let (limit, begun) = (Duration::from_millis(200), Instant::now());
        assert!(tokio::time::timeout(limit, other.recv()).await.is_err());
        assert!(begun.elapsed() >= limit);
        assert!(other.blocking_recv(Some(limit)).unwrap_err().is_timeout());
        assert!(begun.elapsed() >= 2 * limit);
        one.send(&5).await.unwrap();
        assert_eq!(other.blocking_recv(Some(PROMPTLY)).unwrap(), 5);
        drop(one);
        assert!(other.blocking_recv(Some(PROMPTLY)).unwrap_err().is_closed());
        assert!(other.recv().await.unwrap_err().is_closed());
    });
}

/// CF-180.
#[test]
fn a_stream_wakes_once_and_only_for_what_comes() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    on_each_runtime(|| async {
        let (mut sender, mut receiver) = one_way::<u32>().unwrap();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        // The first poll registers, and may be told at once to look again.
        tokio::time::timeout(Duration::from_millis(20), receiver.next())
            .await
            .unwrap_err();
        let pending = receiver.poll_next_unpin(&mut Context::from_waker(&waker));
        assert!(pending.is_pending());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        sender.send(&7).await.unwrap();
        let woken = || count.0.load(Ordering::SeqCst) > 0;
        assert!(support::soon(PROMPTLY, woken).await);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let next = receiver.poll_next_unpin(&mut Context::from_waker(&waker));
        assert!(matches!(next, Poll::Ready(Some(Ok(7)))));
    });
}

#[test]
fn streams_and_sinks_carry_values_to_the_end() {
    on_each_runtime(|| async {
        let (mut sender, receiver) = one_way::<u32>().unwrap();
        let sent = async {
            let mut values = futures::stream::iter((0..10_000).map(Ok));
            sender.send_all(&mut values).await.unwrap();
            sender.feed(10_000).await.unwrap();
            drop(sender);
        };
        let received = receiver.map(Result::unwrap).collect::<Vec<_>>();
        let (_, received) = future::join(sent, received).await;
        assert_eq!(received, (0..=10_000).collect::<Vec<_>>());
    });
}

fn differences(mut connection: Connection<i32, (i32, i32)>) {
    let error = loop {
        match connection.blocking_recv(None) {
            Ok((a, b)) => connection.blocking_send(&(a - b), None).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(error.is_closed(), "{error}");
}

/// CF-181, CF-165.
#[test]
fn a_typed_duplex_answers_and_ends() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (mut here, there) = pipe().unwrap();
        let task = pool.submit(differences, there);
        for (pair, difference) in [((5, 7), -2), ((100, -1), 101), ((53, 2354), -2301)] {
            here.send(&pair).await.unwrap();
            assert_eq!(here.recv().await.unwrap(), difference);
        }
        drop(here);
        task.await.unwrap();
        pool.shutdown().await;
    });
}

#[derive(Serialize)]
struct Unrepresentable {
    #[serde(serialize_with = "fails")]
    _value: u8,
}

fn fails<S: serde::Serializer>(_: &u8, _: S) -> Result<S::Ok, S::Error> {
    Err(serde::ser::Error::custom("not this one"))
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "it is only read")]
struct Pair(String, String);

/// CF-183.
#[test]
fn a_wrong_type_costs_one_message() {
    on_each_runtime(|| async {
        let (mut one, mut other) = pipe::<u64, u64>().unwrap();
        let mut typed: Both<Pair> = {
            use std::os::fd::AsFd;
            other
                .as_fd()
                .try_clone_to_owned()
                .unwrap()
                .try_into()
                .unwrap()
        };
        one.send(&u64::MAX).await.unwrap();
        one.send_bytes(b"").await.unwrap();
        one.send_bytes(b"hello").await.unwrap();
        for _ in 0..3 {
            let error = typed.recv().await.unwrap_err();
            assert!(error.is_decode() && !error.is_broken(), "{error}");
            let why = error.source().expect("it says why").to_string();
            assert!(format!("{error:#}").ends_with(&why), "{error:#}");
        }
        one.send(&5).await.unwrap();
        assert_eq!(other.recv().await.unwrap(), 5);

        let (mut sender, mut receiver) = one_way::<Unrepresentable>().unwrap();
        let error = sender
            .send(&Unrepresentable { _value: 0 })
            .await
            .unwrap_err();
        assert!(error.is_encode(), "{error}");
        assert!(
            sender
                .try_send(&Unrepresentable { _value: 0 })
                .unwrap_err()
                .is_encode()
        );
        sender.send_bytes(b"next").await.unwrap();
        assert_eq!(receiver.recv_bytes().await.unwrap(), b"next");
    });
}

/// CF-155, with CPython at the other end.
#[test]
fn bytes_are_framed_as_python_does_it() {
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    const ECHO: &str = "
from multiprocessing.connection import Connection
connection = Connection(0)
try:
    while True:
        connection.send_bytes(connection.recv_bytes())
except EOFError:
    pass
";
    on_each_runtime(|| async {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let python = Command::new("python3")
            .args(["-c", ECHO])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn();
        let Ok(mut python) = python else {
            eprintln!("no python3 here: not tried");
            return;
        };
        let mut connection = Both::<()>::try_from(OwnedFd::from(ours)).unwrap();
        for length in [0, 11, 16_384, 16_385, 4 << 20] {
            connection.send_bytes(&pattern(length)).await.unwrap();
            assert!(connection.recv_bytes().await.unwrap() == pattern(length));
        }
        drop(connection);
        assert!(python.wait().unwrap().success());
    });
}

/// CF-179.
#[test]
fn one_thread_at_a_time_receives() {
    fn exclusive<T>(_: for<'a> fn(&'a mut Receiver<T>) -> Result<T, procpool::ConnectionError>) {}
    fn sent<T: Send>() {}
    exclusive::<u8>(Receiver::<u8>::try_recv);
    sent::<Receiver<u8>>();
    sent::<Sender<u8>>();
    sent::<Both<u8>>();
    let (mut one, mut other) = pipe::<u8, std::cell::Cell<u8>>().unwrap();
    fn sendable<T: Send>(future: T) -> T {
        future
    }
    drop(sendable(one.send(&1)));
    drop(sendable(one.recv()));
    drop(sendable(other.send(&std::cell::Cell::new(1))));
}

/// CF-177.
#[test]
fn what_is_no_stream_socket_is_no_connection() {
    use std::os::fd::OwnedFd;
    let _scene = scene();
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    assert!(Both::<u8>::try_from(file).is_err());
    let datagram: OwnedFd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
    assert!(Both::<u8>::try_from(datagram).is_err());
}
