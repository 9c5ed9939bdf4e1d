//! Queues between processes: what goes in comes out once, in order and within bounds, and there is an
//! end of it.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use futures::{FutureExt, SinkExt, StreamExt};
use procpool::{Event, GetError, Process, Queue, pipe};
use serde::{Deserialize, Serialize, Serializer};
use support::{PROMPTLY, everywhere, on_each_runtime, pool, scene};

const BRIEFLY: Duration = Duration::from_millis(100);

/// CF-184: six go in by every form, the seventh at once or after its time does not.
#[test]
fn a_bounded_queue_takes_as_many_as_it_is_bounded_to() {
    fn take_six(queue: Queue<u32>) -> Vec<u32> {
        (0..6)
            .map(|_| queue.blocking_get(Some(PROMPTLY)).unwrap())
            .collect()
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let queue = Queue::bounded(6).unwrap();
        assert!(queue.is_empty() && !queue.is_full() && queue.capacity() == Some(6));
        queue.put(1).await.unwrap();
        queue.try_put(2).unwrap();
        queue.put_timeout(3, PROMPTLY).await.unwrap();
        queue.put_timeout(4, Duration::ZERO).await.unwrap();
        queue.blocking_put(5, None).unwrap();
        queue.blocking_put(6, Some(Duration::ZERO)).unwrap();
        assert!(!queue.is_empty() && queue.is_full());

        let begun = Instant::now();
        let error = queue.try_put(7).unwrap_err();
        assert!(error.is_full() && !error.is_timeout() && error.source().is_none());
        assert_eq!(error.into_item(), 7);
        for error in [
            queue.put_timeout(7, Duration::ZERO).await.unwrap_err(),
            queue.blocking_put(7, Some(Duration::ZERO)).unwrap_err(),
        ] {
            assert!(error.is_full() && error.is_timeout(), "{error}");
        }
        let error = queue.put_timeout(7, BRIEFLY).await.unwrap_err();
        assert!(error.is_full() && error.is_timeout() && begun.elapsed() >= BRIEFLY);
        let blocking = {
            let queue = queue.clone();
            move || queue.blocking_put(7, Some(BRIEFLY)).unwrap_err()
        };
        let error = tokio::task::spawn_blocking(blocking).await.unwrap();
        assert!(error.is_full() && error.is_timeout() && begun.elapsed() >= 2 * BRIEFLY);

        let taken = pool.submit(take_six, queue.clone()).await.unwrap();
        assert_eq!(taken, [1, 2, 3, 4, 5, 6]);
        assert!(queue.is_empty() && !queue.is_full());
        pool.shutdown().await;
    });
}

/// CF-185.
#[test]
fn items_come_out_in_order_by_every_form() {
    fn put_five(queue: Queue<u32>) {
        (1..=5).for_each(|number| queue.blocking_put(number, None).unwrap());
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let queue = Queue::new().unwrap();
        let puts = pool.submit(put_five, queue.clone());
        assert_eq!(queue.get().await.unwrap(), 1);
        puts.await.unwrap();
        assert_eq!(queue.try_get().unwrap(), 2);
        assert_eq!(queue.get_timeout(PROMPTLY).await.unwrap(), 3);
        assert_eq!(queue.get_timeout(Duration::ZERO).await.unwrap(), 4);
        assert_eq!(queue.blocking_get(None).unwrap(), 5);

        let begun = Instant::now();
        let error = queue.try_get().unwrap_err();
        assert!(error.is_empty() && !error.is_timeout() && error.source().is_none());
        let at_once = queue.blocking_get(Some(Duration::ZERO)).unwrap_err();
        assert!(at_once.is_empty() && at_once.is_timeout());
        let at_once = queue.get_timeout(Duration::ZERO).await.unwrap_err();
        assert!(at_once.is_empty() && at_once.is_timeout());
        let error = queue.get_timeout(BRIEFLY).await.unwrap_err();
        assert!(error.is_empty() && error.is_timeout() && begun.elapsed() >= BRIEFLY);
        let waiting = queue.clone();
        let blocking = move || waiting.blocking_get(Some(BRIEFLY)).unwrap_err();
        let error = tokio::task::spawn_blocking(blocking).await.unwrap();
        assert!(error.is_timeout() && begun.elapsed() >= 2 * BRIEFLY);
        let refused = std::panic::AssertUnwindSafe(|| queue.blocking_get(None));
        let refused = std::panic::catch_unwind(refused);
        assert!(refused.is_err(), "inside of a task");
        pool.shutdown().await;
    });
}

/// CF-186.
#[test]
fn the_length_is_exact() {
    let _scene = scene();
    let queue = Queue::<String>::new().unwrap();
    let mut lengths = vec![queue.len()];
    for _ in 0..2 {
        queue.try_put("item".to_owned()).unwrap();
        lengths.push(queue.len());
    }
    for _ in 0..2 {
        queue.try_get().unwrap();
        lengths.push(queue.len());
    }
    assert_eq!(lengths, [0, 1, 2, 1, 0]);
    assert_eq!(format!("{queue:?}"), "Queue { len: 0, capacity: None, .. }");
}

/// Items of whatever size fit exactly as long as there are bytes.
#[test]
fn the_bound_of_bytes_is_exact() {
    let _scene = scene();
    let queue = Queue::<String>::with_bounds(9, 96).unwrap();
    // One byte says how long a text is, and eight more are the header: 16, 24 and 56.
    for length in [7, 8, 47] {
        queue.try_put("x".repeat(length)).unwrap();
    }
    let error = queue.try_put(String::new()).unwrap_err();
    assert!(error.is_full() && !queue.is_full(), "for want of bytes");
    assert_eq!(queue.try_get().unwrap().len(), 7);
    queue.try_put("y".repeat(7)).unwrap();
    let lengths = [(); 3].map(|()| queue.try_get().unwrap().len());
    assert_eq!(lengths, [8, 47, 7]);

    queue.try_put("x".repeat(87)).unwrap();
    assert_eq!(queue.try_get().unwrap().len(), 87);
    let error = queue.try_put("x".repeat(88)).unwrap_err();
    assert!(error.is_too_large() && !error.is_full());
    assert!(error.to_string().contains("104 bytes"), "{error}");
    assert!(Queue::<u8>::bounded(0).is_err() && Queue::<u8>::with_bounds(1, 7).is_err());
    assert!(Queue::<u8>::with_bounds(1, usize::MAX).is_err());
}

#[derive(Debug, Deserialize)]
enum Item {
    Good(u32),
    Bad,
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Good(number) => serializer.serialize_newtype_variant("Item", 0, "Good", number),
            Self::Bad => Err(serde::ser::Error::custom("it is bad")),
        }
    }
}

/// CF-188, CF-189: and whoever puts it is told, at once.
#[test]
fn an_item_that_cannot_be_encoded_takes_no_room() {
    on_each_runtime(|| async {
        let queue = Queue::bounded(1).unwrap();
        let error = queue.put(Item::Bad).await.unwrap_err();
        assert!(error.is_encode() && format!("{error:#}").contains("it is bad"));
        assert!(error.source().is_some() && matches!(error.into_item(), Item::Bad));
        assert!(queue.try_put(Item::Bad).unwrap_err().is_encode());
        queue.try_put(Item::Good(7)).unwrap();
        assert_eq!(queue.len(), 1);
        assert!(matches!(queue.get().await.unwrap(), Item::Good(7)));
        assert!(queue.is_empty());
    });
}

/// And it is gone, so that those behind it are reached.
#[test]
fn an_item_that_cannot_be_decoded_is_an_error_of_its_own() {
    on_each_runtime(|| async {
        let queue = Queue::<Vec<u8>>::new().unwrap();
        // The same queue for somebody who takes its items for something else.
        let (mut here, mut there) = pipe::<Queue<Vec<u8>>, ()>().unwrap();
        here.send(&queue).await.unwrap();
        let bytes = there.recv_bytes().await.unwrap();
        assert!(!bytes.is_empty(), "and its descriptors are gone");
        let texts = sent_as::<Queue<String>, _>(&queue).await;
        queue.put(vec![0xff; 3]).await.unwrap();
        queue.put(b"good".to_vec()).await.unwrap();
        let error = texts.get().await.unwrap_err();
        assert!(error.is_decode() && error.source().is_some(), "{error}");
        assert_eq!(texts.get().await.unwrap(), "good");
    });
}

/// What arrives as an `A` where a `B` was sent.
async fn sent_as<A: serde::de::DeserializeOwned, B: Serialize>(value: &B) -> A {
    let (sender, receiver) = std::os::unix::net::UnixStream::pair().unwrap();
    let [sender, receiver] = [sender, receiver].map(std::os::fd::OwnedFd::from);
    let mut sender = procpool::Connection::<&B, ()>::try_from(sender).unwrap();
    let mut receiver = procpool::Connection::<(), A>::try_from(receiver).unwrap();
    sender.send(&value).await.unwrap();
    receiver.recv().await.unwrap()
}

/// CF-190, CF-191: in this process alone, by every form, for all clones, and for those who wait.
#[test]
fn a_closed_queue_is_an_error_here_and_nowhere_else() {
    fn put_and_get((queue, closed): (Queue<u32>, Event)) -> u32 {
        closed.blocking_wait(None).unwrap();
        queue.blocking_put(8, None).unwrap();
        queue.blocking_get(None).unwrap()
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        for used in [false, true] {
            let queue = Queue::bounded(3).unwrap();
            if used {
                queue.put(7).await.unwrap();
            }
            let closed = Event::new().unwrap();
            let elsewhere = pool.submit(put_and_get, (queue.clone(), closed.clone()));
            queue.clone().close();
            closed.set();
            assert_eq!(elsewhere.await.unwrap(), if used { 7 } else { 8 });
            queue.close();
            assert!(queue.put(1).await.unwrap_err().is_closed());
            assert!(queue.try_put(1).unwrap_err().is_closed());
            assert!(
                queue
                    .put_timeout(1, PROMPTLY)
                    .await
                    .unwrap_err()
                    .is_closed()
            );
            assert!(queue.blocking_put(1, None).unwrap_err().is_closed());
            assert!(queue.get().await.unwrap_err().is_closed());
            assert!(queue.try_get().unwrap_err().is_closed());
            assert!(queue.get_timeout(PROMPTLY).await.unwrap_err().is_closed());
            assert!(queue.blocking_get(None).unwrap_err().is_closed());
            assert!(queue.finish().is_err());
            assert_eq!(
                (queue.len(), queue.is_full(), queue.capacity()),
                (0, false, None)
            );
        }
        pool.shutdown().await;
    });
}

#[test]
fn those_who_wait_are_told_when_it_is_closed() {
    on_each_runtime(|| async {
        let (empty, full) = (Queue::<u32>::new().unwrap(), Queue::bounded(1).unwrap());
        full.put(1).await.unwrap();
        let gets = tokio::spawn({
            let queue = empty.clone();
            async move { queue.get().await.unwrap_err().is_closed() }
        });
        let puts = tokio::spawn({
            let queue = full.clone();
            async move { queue.put(2).await.unwrap_err().is_closed() }
        });
        let thread = empty.clone();
        let blocking =
            std::thread::spawn(move || thread.blocking_get(None).unwrap_err().is_closed());
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        empty.close();
        full.close();
        assert!(gets.await.unwrap() && puts.await.unwrap());
        let joined = tokio::task::spawn_blocking(|| blocking.join().unwrap());
        assert!(joined.await.unwrap());
    });
}

/// What is in it comes out, and then there is an end, for those who wait in other processes, too.
#[test]
fn a_finished_queue_comes_to_its_end_everywhere() {
    fn until_the_end((queue, begun): (Queue<u32>, Event)) -> (u32, bool) {
        begun.set();
        let mut sum = 0;
        loop {
            match queue.blocking_get(None) {
                Ok(number) => sum += number,
                Err(error) => return (sum, error.is_finished()),
            }
        }
    }

    everywhere(|method| async move {
        let pool = pool(2, method);
        let queue = Queue::bounded(2).unwrap();
        let begun = [(); 2].map(|()| Event::new().unwrap());
        let tasks = begun
            .clone()
            .map(|begun| pool.submit(until_the_end, (queue.clone(), begun)));
        for begun in begun {
            begun.wait().await.unwrap();
        }
        for number in 1..=50 {
            queue.put(number).await.unwrap();
        }
        queue.finish().unwrap();
        queue.finish().unwrap();
        let ended = try_join_all(tasks).await.unwrap();
        assert!(ended.iter().all(|(_, finished)| *finished));
        assert_eq!(ended.iter().map(|(sum, _)| sum).sum::<u32>(), 51 * 25);
        let error = queue.put(1).await.unwrap_err();
        assert!(error.is_finished() && !error.is_closed());

        let full = Queue::bounded(1).unwrap();
        full.put(1).await.unwrap();
        let waits = tokio::spawn({
            let full = full.clone();
            async move { full.put(2).await.unwrap_err().is_finished() }
        });
        tokio::task::yield_now().await;
        full.finish().unwrap();
        assert!(waits.await.unwrap());
        assert_eq!(full.get().await.unwrap(), 1);
        assert!(full.get().await.unwrap_err().is_finished());
        pool.shutdown().await;
    });
}

/// CF-192.
#[test]
fn a_queue_works_where_a_library_begins() {
    static GOT: LazyLock<Result<u32, GetError>> = LazyLock::new(|| {
        let queue = Queue::new().unwrap();
        queue.blocking_put(7, Some(PROMPTLY)).unwrap();
        queue.blocking_get(Some(PROMPTLY))
    });
    let _scene = scene();
    assert!(matches!(*GOT, Ok(7)));
}

/// CF-195: by blocking calls, async calls and tasks, from two producers.
#[test]
fn many_share_a_queue_and_each_item_comes_out_once() {
    fn consume((queue, _): (Queue<u32>, ())) -> Vec<u32> {
        std::iter::from_fn(|| queue.blocking_get(None).ok()).collect()
    }
    async fn consume_async(queue: Queue<u32>) -> Vec<u32> {
        let mut got = Vec::new();
        while let Ok(number) = queue.get().await {
            got.push(number);
        }
        got
    }
    fn produce((queue, numbers): (Queue<u32>, std::ops::Range<u32>)) {
        numbers.for_each(|number| queue.blocking_put(number, None).unwrap());
    }

    everywhere(|method| async move {
        let pool = pool(5, method);
        for bound in [3, 1_000] {
            let queue = Queue::bounded(bound).unwrap();
            let blocking = [(); 3].map(|()| pool.submit(consume, (queue.clone(), ())));
            let rooms = pool.submit_async(consume_async, queue.clone());
            let here = tokio::spawn(consume_async(queue.clone()));
            let producer = pool.submit(produce, (queue.clone(), 0..1_000));
            for number in 1_000..2_000 {
                queue.put(number).await.unwrap();
            }
            producer.await.unwrap();
            queue.finish().unwrap();
            let mut got = try_join_all(blocking).await.unwrap();
            got.extend([rooms.await.unwrap(), here.await.unwrap()]);
            let all: Vec<u32> = got.into_iter().flatten().collect();
            assert_eq!(all.len(), 2_000);
            let different: BTreeSet<_> = all.into_iter().collect();
            assert_eq!(different, (0..2_000).collect());
        }
        pool.shutdown().await;
    });
}

/// CF-196: to a child and its own child, and back; through connections and other queues.
#[test]
fn queues_travel() {
    fn pass_on((deeper, queue): (u32, Queue<u32>)) -> Queue<u32> {
        queue.blocking_put(deeper, None).unwrap();
        if deeper > 0 {
            let process = Process::spawn(pass_on, (deeper - 1, queue));
            let process = process.blocking_wait().unwrap();
            return process.blocking_join(None).unwrap();
        }
        queue
    }

    everywhere(|method| async move {
        let queue = Queue::new().unwrap();
        let queues = Queue::new().unwrap();
        queues.put((1, queue.clone())).await.unwrap();
        let sent = queues.get().await.unwrap();
        let process = Process::builder().start_method(method).spawn(pass_on, sent);
        let same = process.await.unwrap().join().await.unwrap();
        let numbers = [queue.get().await.unwrap(), same.get().await.unwrap()];
        assert_eq!(numbers, [1, 0]);
        let error = postcard::to_stdvec(&queue).unwrap_err();
        assert!(
            !error.to_string().is_empty(),
            "only where descriptors travel"
        );
        queue.close();
        assert!(queues.put((1, queue)).await.unwrap_err().is_encode());
    });
}

/// CF-197.
#[test]
fn a_get_that_waits_blocks_no_runtime_and_loses_nothing_when_it_is_dropped() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (queue, go) = (Queue::new().unwrap(), Event::new().unwrap());
        let put = |(queue, go): (Queue<u32>, Event)| {
            go.blocking_wait(None).unwrap();
            (1..=3).for_each(|number| queue.blocking_put(number, None).unwrap());
        };
        let puts = pool.submit(put, (queue.clone(), go.clone()));
        let gets = tokio::spawn({
            let queue = queue.clone();
            async move { queue.get().await.unwrap() }
        });
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!gets.is_finished());
        go.set();
        assert_eq!(gets.await.unwrap(), 1);
        puts.await.unwrap();
        queue.get().await.unwrap();
        queue.get().await.unwrap();

        // Dropped at every stage of it: before it is polled, while it sleeps, and when it is woken.
        for number in 0..20 {
            let mut get = Box::pin(queue.get());
            if number % 3 > 0 {
                assert!((&mut get).now_or_never().is_none());
            }
            if number % 3 == 2 {
                queue.put(number).await.unwrap();
            }
            drop(get);
            if number % 3 < 2 {
                queue.put(number).await.unwrap();
            }
            assert_eq!(queue.get_timeout(PROMPTLY).await.unwrap(), number);
        }
        let full = Queue::bounded(1).unwrap();
        full.put(1).await.unwrap();
        let mut put = Box::pin(full.put(2));
        assert!((&mut put).now_or_never().is_none());
        drop(put);
        assert_eq!(full.get().await.unwrap(), 1);
        assert!(full.is_empty());
        pool.shutdown().await;
    });
}

/// Without a runtime, and with runtimes that cannot wait for descriptors.
#[test]
fn no_runtime_is_needed_for_a_queue() {
    let _scene = scene();
    let queue = Queue::new().unwrap();
    let waiting = queue.clone();
    let waits = std::thread::spawn(move || {
        let plain = tokio::runtime::Builder::new_current_thread().build();
        let plain = plain.unwrap();
        let got = plain.block_on(waiting.get_timeout(PROMPTLY)).unwrap();
        let also = plain.block_on(waiting.get()).unwrap();
        got + also + waiting.blocking_get(None).unwrap()
    });
    for number in 1..=3 {
        std::thread::sleep(Duration::from_millis(10));
        queue.blocking_put(number, None).unwrap();
    }
    assert_eq!(waits.join().unwrap(), 6);
}

/// As a stream and as a sink, with an item in the middle that makes no sense.
#[test]
fn a_queue_is_a_stream_and_a_sink() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let queue = Queue::<Vec<u8>>::bounded(2).unwrap();
        let put = |queue: Queue<Vec<u8>>| {
            for item in [b"one".to_vec(), vec![0xff; 3], b"two".to_vec()] {
                queue.blocking_put(item, None).unwrap();
            }
            queue.finish().unwrap();
        };
        let texts = sent_as::<Queue<String>, _>(&queue).await.stream();
        let puts = pool.submit(put, queue);
        let items: Vec<_> = texts.collect().await;
        assert_eq!(items.len(), 3);
        assert_eq!(items[0].as_ref().unwrap(), "one");
        assert!(items[1].as_ref().unwrap_err().is_decode());
        assert_eq!(items[2].as_ref().unwrap(), "two");
        puts.await.unwrap();

        let queue = Queue::bounded(2).unwrap();
        let sum = pool.submit(
            |queue: Queue<u32>| std::iter::from_fn(|| queue.blocking_get(None).ok()).sum::<u32>(),
            queue.clone(),
        );
        let mut sink = queue.sink();
        let mut numbers = futures::stream::iter((0..100).map(Ok));
        sink.send_all(&mut numbers).await.unwrap();
        assert_eq!(format!("{:?}", queue.stream())[..13], *"QueueStream(Q");
        queue.finish().unwrap();
        assert!(sink.send(1).await.unwrap_err().is_finished());
        assert_eq!(sum.await.unwrap(), 99 * 50);
        pool.shutdown().await;
    });
}
