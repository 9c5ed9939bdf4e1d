//! Two ends that send at once: both first, more than there is room for, and both to nobody.

#[path = "support/socket.rs"]
mod socket;
mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::future;
use procpool::connection::{Receiver, blocking_wait};
use procpool::{Client, Connection, Listener, pipe, wait};
use socket::Directory;
use support::{HANG, PROMPTLY, everywhere, on_each_runtime, pool, runtime, scene, soon};

type Both<T> = Connection<T, T>;

/// More than a socket takes.
const LARGE: usize = 2 << 20;

fn pattern(length: usize, seed: u8) -> Bytes {
    let mut bytes = (seed..251).collect::<Vec<u8>>().repeat(length / 100 + 1);
    bytes.truncate(length);
    bytes.into()
}

/// Sends first, and then receives; as bytes, and as a value.
async fn converse(mut connection: Both<Bytes>, seed: u8) -> [Bytes; 2] {
    let large = pattern(LARGE, seed);
    connection.send_bytes(&large).await.unwrap();
    let bytes = connection.recv_bytes().await.unwrap().into();
    connection.send(&large).await.unwrap();
    [bytes, connection.recv().await.unwrap()]
}

fn converse_blocking(mut connection: Both<Bytes>, seed: u8) -> [Bytes; 2] {
    let large = pattern(LARGE, seed);
    connection.blocking_send_bytes(&large, None).unwrap();
    let bytes = connection.blocking_recv_bytes(None).unwrap().into();
    connection.blocking_send(&large, None).unwrap();
    [bytes, connection.blocking_recv(None).unwrap()]
}

#[test]
fn both_ends_may_send_first_whatever_the_size() {
    let [ones, others] = [1, 2].map(|seed| pattern(LARGE, seed));
    on_each_runtime(|| async {
        let (one, other) = pipe().unwrap();
        let (to_one, to_other) = future::join(converse(one, 1), converse(other, 2)).await;
        assert!(to_one.iter().all(|message| *message == others));
        assert!(to_other.iter().all(|message| *message == ones));
    });
    // On threads, and over TCP.
    let _scene = scene();
    let builder = Listener::builder().without_authkey();
    let mut listener = builder.bind("127.0.0.1:0").unwrap();
    let one = Client::blocking_connect(listener.address()).unwrap();
    let tcp = (one, listener.blocking_accept(Some(HANG)).unwrap());
    for (one, other) in [pipe().unwrap(), tcp] {
        let one = std::thread::spawn(move || converse_blocking(one, 1));
        let to_other = converse_blocking(other, 2);
        assert!(one.join().unwrap().iter().all(|message| *message == others));
        assert!(to_other.iter().all(|message| *message == ones));
    }
}

#[test]
fn a_task_may_send_first_while_it_is_sent_to() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (here, there) = pipe().unwrap();
        let talks = |there: Both<Bytes>| {
            let both = converse_blocking(there, 2);
            both.iter().all(|message| *message == pattern(LARGE, 1))
        };
        let task = pool.submit(talks, there);
        let both = converse(here, 1).await;
        assert!(both.iter().all(|message| *message == pattern(LARGE, 2)));
        assert!(task.await.unwrap());
        pool.shutdown().await;
    });
}

fn take_three(mut from: Both<Bytes>) -> Vec<usize> {
    let length = |_| from.blocking_recv(None).unwrap().len();
    (0..3).map(length).collect()
}

/// It is one message, which is there for whoever asks, and goes along with the end.
#[test]
fn what_came_meanwhile_is_there_until_it_is_received() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (mut one, mut other) = pipe::<Bytes, Bytes>().unwrap();
        other.send(&pattern(3, 1)).await.unwrap();
        // Of what is on its way, the first is there and the second is not whole.
        other.try_send(&pattern(LARGE, 1)).unwrap();
        let (sent, received) = future::join(one.send(&pattern(LARGE, 2)), other.recv()).await;
        sent.unwrap();
        assert!(received.unwrap() == pattern(LARGE, 2));
        assert!(one.poll(Duration::ZERO).await.unwrap());
        assert!(one.blocking_poll(None).unwrap());
        assert_eq!(wait([&one], None).await.unwrap(), [0]);
        assert_eq!(blocking_wait([&one], None).unwrap(), [0]);
        let rest = pool.submit(take_three, one);
        other.send(&pattern(5, 2)).await.unwrap();
        assert_eq!(rest.await.unwrap(), [3, LARGE, 5]);
        pool.shutdown().await;
    });
}

/// What is too long is not taken in, and does not end the sending.
#[test]
fn a_limit_holds_for_what_comes_meanwhile() {
    on_each_runtime(|| async {
        let (mut one, other) = pipe::<Bytes, Bytes>().unwrap();
        one.set_max_length(100);
        let talks = async {
            one.send(&pattern(LARGE, 1)).await.unwrap();
            assert!(one.recv().await.unwrap_err().is_too_long());
            drop(one);
        };
        let (mut to_one, mut from_one) = other.into_split();
        let sends = async {
            let error = to_one.send_bytes(&pattern(LARGE, 2)).await.unwrap_err();
            assert!(error.is_broken_pipe(), "{error}");
        };
        let receives = async {
            assert!(from_one.recv().await.unwrap() == pattern(LARGE, 1));
        };
        future::join3(talks, sends, receives).await;
    });
}

/// Given up again and again in both directions, nothing is lost and nothing comes twice.
#[test]
fn giving_up_loses_nothing_that_came_meanwhile() {
    async fn talk(mut connection: Both<(u32, Bytes)>, odd: u32) {
        const COUNT: u32 = 40;
        let length = |n: u32| [3, 70_000, 600_000][n as usize % 3];
        let (mut sent, mut next) = (0, 0);
        while sent < COUNT || next < COUNT {
            let limit = Duration::from_micros(u64::from((sent + next + odd) % 7) * 50);
            if sent < COUNT {
                let value = (sent, pattern(length(sent), 1));
                // Whether it was begun is not known, and so it is not said again.
                if let Ok(Err(error)) = tokio::time::timeout(limit, connection.send(&value)).await {
                    assert!(odd == 0 && error.is_broken_pipe(), "{error}");
                }
                sent += 1;
            }
            match tokio::time::timeout(limit, connection.recv()).await {
                Err(_) => tokio::task::yield_now().await,
                Ok(Ok((n, bytes))) => {
                    assert!(n >= next && bytes == pattern(length(n), 1));
                    next = n + 1;
                }
                Ok(Err(error)) => return assert!(error.is_closed(), "{error}"),
            }
            if sent == COUNT && odd == 1 {
                return;
            }
        }
    }
    on_each_runtime(|| async {
        let (one, other) = pipe().unwrap();
        future::join(talk(one, 0), talk(other, 1)).await;
    });
}

/// Each has begun a message that the other will never read.
#[test]
fn two_ends_that_are_dropped_while_they_send_are_closed() {
    let _scene = scene();
    let directory = Directory::new();
    for address in directory.addresses() {
        let builder = Listener::builder().without_authkey();
        let mut listener = builder.bind::<(), (), _>(&address).unwrap();
        let one = Client::blocking_connect::<(), (), _>(listener.address()).unwrap();
        let other = listener.blocking_accept(Some(HANG)).unwrap();
        let [one, mut other] = [one, other].map(|mut end| {
            end.try_send_bytes(&vec![0; 16 << 20]).unwrap();
            end
        });
        drop(one);
        // What was begun comes, whoever has sent it.
        if address.is_tcp() {
            let bytes = other.blocking_recv_bytes(Some(HANG)).unwrap();
            assert_eq!(bytes.len(), 16 << 20);
        }
        let (sender, receiver) = other.into_split();
        drop(receiver);
        drop(sender);
    }
}

/// TCP forgets what is on its way when an end is closed with something unread.
#[test]
fn what_was_sent_comes_though_the_end_is_dropped_with_something_unread() {
    let _scene = scene();
    let builder = Listener::builder().without_authkey();
    let mut listener = builder.bind::<(), (), _>("127.0.0.1:0").unwrap();
    let mut one = Client::blocking_connect::<(), (), _>(listener.address()).unwrap();
    let mut other = listener.blocking_accept(Some(HANG)).unwrap();
    // Until nothing more goes into what the system keeps for both.
    let message = vec![7; 64 << 10];
    let at_once = Some(Duration::from_millis(100));
    let mut sent = 0;
    while one.blocking_send_bytes(&message, at_once).is_ok() {
        sent += 1;
    }
    assert!(sent > 0);
    other.blocking_send_bytes(b"unread", Some(HANG)).unwrap();
    assert!(one.blocking_poll(Some(HANG)).unwrap());
    drop(one);
    for _ in 0..sent {
        assert_eq!(other.blocking_recv_bytes(Some(HANG)).unwrap(), message);
    }
    // The last was perhaps begun.
    let mut end = other.blocking_recv_bytes(Some(HANG));
    if end.as_ref().is_ok_and(|last| *last == message) {
        end = other.blocking_recv_bytes(Some(HANG));
    }
    assert!(end.unwrap_err().is_reset());
}

fn sum(mut from: Receiver<u32>) -> u32 {
    std::iter::from_fn(|| from.blocking_recv(None).ok()).sum()
}

/// The half that was dropped here is somewhere else, and gets what is meant for it.
#[test]
fn what_comes_for_a_half_that_went_elsewhere_is_left_there() {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = pool(1, procpool::StartMethod::ForkServer);
        let (one, mut other) = pipe::<Bytes, u32>().unwrap();
        let (mut sender, receiver) = one.into_split();
        let summed = pool.submit(sum, receiver);
        assert!(soon(PROMPTLY, || summed.is_running()).await);
        sender.try_send(&pattern(LARGE, 1)).unwrap();
        drop(sender);
        for n in 0..1_000 {
            other.send(&n).await.unwrap();
        }
        assert!(other.recv().await.unwrap() == pattern(LARGE, 1));
        drop(other);
        assert_eq!(summed.await.unwrap(), (0..1_000).sum::<u32>());
        pool.shutdown().await;
    });
}
