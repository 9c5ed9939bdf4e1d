//! Large payloads in items of queues: they arrive as they were put, count for the bounds, and leave nothing,
//! whoever is killed.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use bytes::Bytes;
use deeds::send;
use procpool::{
    Fd, JoinableQueue, Payload, Process, Queue, SharedMemory, SimpleQueue, StartMethod, Stdio,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, builder, everywhere, on_each_runtime, pool, runtime, scene, soon};

/// From so many bytes on they go in slabs.
const LARGE: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;

/// What an item takes that is one payload in a slab: a header, the parcel's number, the number of words,
/// and where in the parcel it is.
const BESIDE: usize = 32;

/// Bytes that say of which item they are, and are not the same a page or two further on.
fn payload(size: usize, seed: usize) -> Payload {
    let some: Vec<u8> = (0..4099).map(|n| (n % 251 + seed) as u8).collect();
    let mut bytes = some.repeat(size / some.len() + 1);
    bytes.truncate(size);
    bytes.into()
}

/// How many mappings of slabs this process has.
fn slabs() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let slabs = maps.lines().filter(|line| line.contains("procpool-slab"));
    slabs.count()
}

/// Whether the crate's thread is there.
fn has_thread() -> bool {
    let mut threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    threads.any(|thread| {
        let name = fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name.trim() == "procpool-keeper")
    })
}

#[test]
fn items_of_all_sizes_arrive_as_they_were_put() {
    const SIZES: [usize; 8] = [0, 1, LARGE - 1, LARGE, LARGE + 1, MIB, 3 * MIB + 5, 7];

    fn put_all(queue: Queue<Payload>) {
        for size in SIZES {
            queue.blocking_put(payload(size, size), None).unwrap();
        }
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let queue = Queue::with_bounds(3, 4 * MIB).unwrap();
        let puts = pool.submit(put_all, queue.clone());
        for size in SIZES {
            let item = queue.get().await.unwrap();
            assert!(item == payload(size, size), "{size}");
        }
        puts.await.unwrap();
        // And in the other direction, with the payload of an earlier item still there.
        let takes = pool.submit(
            |queue: Queue<Payload>| {
                let items = SIZES.map(|_| queue.blocking_get(None).unwrap());
                (items.iter().zip(SIZES)).all(|(item, size)| *item == payload(size, size))
            },
            queue.clone(),
        );
        for size in SIZES {
            queue.put(payload(size, size)).await.unwrap();
        }
        assert!(takes.await.unwrap());
        pool.shutdown().await;
    });
}

#[test]
fn they_go_through_slabs_from_64_kib_on() {
    on_each_runtime(|| async {
        let queue = Queue::<Payload>::new().unwrap();
        queue.put(payload(LARGE - 1, 1)).await.unwrap();
        assert!(queue.get().await.unwrap() == payload(LARGE - 1, 1));
        assert!(slabs() == 0 && !has_thread(), "a queue alone needs nothing");
        queue.put(payload(LARGE, 1)).await.unwrap();
        assert!(slabs() == 1 && has_thread());
        let got = queue.get().await.unwrap();
        assert!(got == payload(LARGE, 1));
        // Again and again the same, and given back when it is not used.
        for seed in 0..100 {
            queue.put(payload(LARGE + seed, seed)).await.unwrap();
            assert!(queue.get().await.unwrap() == payload(LARGE + seed, seed));
        }
        assert!(slabs() <= 2, "{}", slabs());
        assert!(soon(PROMPTLY, || slabs() == 0 && !has_thread()).await);
        assert!(got == payload(LARGE, 1), "a copy");
        queue.put(payload(LARGE, 2)).await.unwrap();
        assert!(queue.get().await.unwrap() == payload(LARGE, 2));
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Recording {
    name: String,
    #[serde(with = "procpool::payload")]
    left: Vec<f32>,
    #[serde(with = "procpool::payload")]
    right: Bytes,
    more: Vec<Payload<u64>>,
}

impl Recording {
    fn new(number: u16) -> Self {
        Self {
            name: format!("recording {number}"),
            left: vec![f32::from(number); 30_000],
            right: payload(100_000, number.into()).into(),
            more: vec![vec![number.into(); 10_000].into(), vec![3].into()],
        }
    }
}

#[test]
fn several_of_them_and_descriptors_are_in_one_item() {
    type Recordings = Queue<(Recording, Fd<File>)>;

    fn forward((from, to): (Recordings, Recordings)) {
        while let Ok(item) = from.blocking_get(None) {
            to.blocking_put(item, None).unwrap();
        }
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (to, back) = (Queue::new().unwrap(), Queue::new().unwrap());
        let task = pool.submit(forward, (to.clone(), back.clone()));
        for number in 0..10 {
            let file = Fd(File::open("/dev/null").unwrap());
            to.put((Recording::new(number), file)).await.unwrap();
        }
        to.finish().unwrap();
        for number in 0..10 {
            let (recording, Fd(file)) = back.get().await.unwrap();
            assert!(recording == Recording::new(number), "{number}");
            assert!(!file.metadata().unwrap().is_file());
        }
        task.await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn what_lies_in_slabs_counts_for_the_bound_to_the_byte() {
    on_each_runtime(|| async {
        let queue = Queue::<Payload>::with_bounds(usize::MAX, 2 * (LARGE + BESIDE)).unwrap();
        for _ in 0..3 {
            queue.try_put(payload(LARGE, 1)).unwrap();
            queue.try_put(payload(LARGE, 2)).unwrap();
            let error = queue.try_put(payload(LARGE, 3)).unwrap_err();
            assert!(error.is_full() && error.into_item() == payload(LARGE, 3));
            let nothing = queue.try_put(Payload::default()).unwrap_err();
            assert!(nothing.is_full(), "not a word is left");
            assert!(queue.get().await.unwrap() == payload(LARGE, 1));
            let larger = queue.try_put(payload(LARGE + 1, 3)).unwrap_err();
            assert!(larger.is_full());
            queue.try_put(payload(LARGE, 3)).unwrap();
            assert!(queue.get().await.unwrap() == payload(LARGE, 2));
            assert!(queue.get().await.unwrap() == payload(LARGE, 3));
        }

        let short = Queue::<Payload>::with_bounds(usize::MAX, 2 * (LARGE + BESIDE) - 8).unwrap();
        short.try_put(payload(LARGE, 1)).unwrap();
        assert!(short.try_put(payload(LARGE, 2)).unwrap_err().is_full());

        // As it is in the ring: a header, and four bytes that say how much it is, in whole words.
        let least = LARGE + 16;
        let tight = Queue::<Payload>::with_bounds(1, least).unwrap();
        tight.try_put(payload(LARGE, 4)).unwrap();
        assert!(tight.try_get().unwrap() == payload(LARGE, 4));
        let tighter = Queue::<Payload>::with_bounds(1, least - 8).unwrap();
        let error = tighter.put(payload(LARGE, 5)).await.unwrap_err();
        assert!(error.is_too_large() && error.into_item() == payload(LARGE, 5));
    });
}

#[test]
fn a_put_that_waits_for_room_goes_on_when_there_is_some() {
    on_each_runtime(|| async {
        let queue = Queue::<Payload>::with_bounds(8, MIB).unwrap();
        queue.put(payload(700_000, 1)).await.unwrap();
        let timeout = queue.put_timeout(payload(700_000, 2), std::time::Duration::from_millis(5));
        let error = timeout.await.unwrap_err();
        assert!(error.is_timeout() && error.into_item() == payload(700_000, 2));
        let (put, got) = tokio::join!(queue.put(payload(700_000, 3)), queue.get());
        put.unwrap();
        assert!(got.unwrap() == payload(700_000, 1));
        assert!(queue.get().await.unwrap() == payload(700_000, 3));
    });
}

/// There are as many as there is room for in bytes, and no limit of the system shows.
#[test]
fn many_of_them_are_in_a_queue_and_nobody_waits() {
    let _scene = scene();
    let queue = Queue::<Payload>::new().unwrap();
    for number in 0..600 {
        queue.try_put(payload(LARGE, number)).unwrap();
    }
    assert!(slabs() <= 64, "{}", slabs());
    for number in 0..600 {
        assert!(
            queue.try_get().unwrap() == payload(LARGE, number),
            "{number}"
        );
    }
}

#[test]
fn all_kinds_of_queues_take_them() {
    on_each_runtime(|| async {
        let queue = JoinableQueue::<Payload>::new().unwrap();
        queue.put(payload(MIB, 1)).await.unwrap();
        let got = queue.get().await.unwrap();
        assert!(slabs() > 0 && got == payload(MIB, 1));
        queue.task_done().unwrap();
        queue.join().await.unwrap();

        let queue = SimpleQueue::<Payload>::new().unwrap();
        queue.put(payload(MIB, 2)).await.unwrap();
        assert!(queue.get().await.unwrap() == payload(MIB, 2));
    });
}

/// No more than so many descriptors from now on; gives what was before.
fn no_more_than(more: u64) -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    // The lowest number that is free.
    let lowest = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let current = Some(lowest + more);
    setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
    before
}

#[test]
fn without_descriptors_they_go_through_the_ring_and_come_when_there_are_some() {
    fn at_the_limit((empty, full): (Queue<Payload>, Queue<Payload>)) -> [bool; 5] {
        let before = no_more_than(0);
        let put = empty.try_put(payload(MIB, 1));
        let refused = full.try_get();
        let length = full.len();
        setrlimit(Resource::Nofile, before).unwrap();
        let got = full.try_get();
        [
            put.is_ok(),
            refused.is_err_and(|error| !error.is_decode() && !error.is_empty()),
            length == 1,
            got.is_ok_and(|got| got == payload(MIB, 2)),
            full.is_empty(),
        ]
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (empty, full) = (Queue::new().unwrap(), Queue::new().unwrap());
        full.put(payload(MIB, 2)).await.unwrap();
        let all = pool.submit(at_the_limit, (empty.clone(), full)).await;
        assert_eq!(all.unwrap(), [true; 5]);
        assert!(empty.get().await.unwrap() == payload(MIB, 1));
        pool.shutdown().await;
    });
}

/// Queues have slabs; a pool that is to have none has none.
#[test]
fn a_pool_that_is_to_go_without_goes_without() {
    everywhere(|method| async move {
        let pool = builder(1, method).large_payloads(0).build().unwrap();
        let queue = Queue::<Payload>::new().unwrap();
        queue.put(payload(MIB, 1)).await.unwrap();
        let echo = |payload: Payload| (slabs(), payload);
        let (slabs, back) = pool.submit(echo, payload(MIB, 2)).await.unwrap();
        assert!(slabs == 0 && back == payload(MIB, 2));
        let get = |queue: Queue<Payload>| queue.blocking_get(None).unwrap();
        let got = pool.submit(get, queue.clone()).await.unwrap();
        assert!(got == payload(MIB, 1));
        pool.shutdown().await;
    });
}

#[test]
fn what_one_who_is_killed_has_put_is_got_whole() {
    fn put_and_die(queue: Queue<Payload>) {
        for seed in 0..10 {
            queue.blocking_put(payload(MIB, seed), None).unwrap();
        }
        std::process::abort();
    }

    everywhere(|method| async move {
        let queue = Queue::new().unwrap();
        let pool = builder(1, method).stderr(Stdio::null()).build().unwrap();
        let dies = pool.submit(put_and_die, queue.clone());
        assert!(dies.await.unwrap_err().is_worker_lost());
        for seed in 0..10 {
            let item = queue.get_timeout(PROMPTLY).await.unwrap();
            assert!(item == payload(MIB, seed), "{seed}");
        }
        assert!(queue.is_empty());
        pool.shutdown().await;
    });
}

#[test]
fn an_item_in_the_hand_of_one_who_dies_is_gone_with_him() {
    fn get_and_die(queue: Queue<Payload>) {
        let _item = queue.blocking_get(None).unwrap();
        std::process::abort();
    }

    everywhere(|method| async move {
        let queue = Queue::new().unwrap();
        let pool = builder(1, method).stderr(Stdio::null()).build().unwrap();
        for seed in 0..5 {
            queue.put(payload(MIB, seed)).await.unwrap();
            queue.put(payload(MIB, seed + 100)).await.unwrap();
            let dies = pool.submit(get_and_die, queue.clone());
            assert!(dies.await.unwrap_err().is_worker_lost());
            let next = queue.get_timeout(PROMPTLY).await.unwrap();
            assert!(next == payload(MIB, seed + 100));
        }
        pool.shutdown().await;
        drop(queue);
        assert!(soon(PROMPTLY, || slabs() == 0).await, "{}", slabs());
    });
}

/// Nobody gets it, and nothing is left: the scene looks at that.
#[test]
fn a_queue_that_is_dropped_with_items_in_it_leaves_nothing() {
    everywhere(|method| async move {
        let queue = Queue::<Payload>::new().unwrap();
        let pool = pool(1, method);
        for seed in 0..20 {
            queue.put(payload(MIB, seed)).await.unwrap();
        }
        let put = |queue: Queue<Payload>| queue.blocking_put(payload(MIB, 9), None).is_ok();
        assert!(pool.submit(put, queue.clone()).await.unwrap());
        pool.shutdown().await;
        drop(queue);
        assert!(soon(PROMPTLY, || slabs() == 0).await);
    });
}

/// How many items a producer has to put.
const EACH: usize = 1 << 12;

#[derive(Serialize, Deserialize)]
struct Item {
    producer: usize,
    number: usize,
    filling: Payload,
}

impl Item {
    fn new(producer: usize, number: usize) -> Self {
        Self {
            producer,
            number,
            filling: payload(number * 7_919 % (2 * LARGE), producer * 31 + number),
        }
    }

    fn is_whole(&self) -> bool {
        self.filling == Self::new(self.producer, self.number).filling
    }
}

fn produce((queue, put, producer): (Queue<Item>, SharedMemory, usize)) {
    for number in 0..EACH {
        let item = Item::new(producer, number);
        queue.blocking_put(item, None).unwrap();
        put.write_at(producer * 8, &(number + 1).to_le_bytes());
    }
}

/// Returns how many were torn.
fn consume((queue, got): (Queue<Item>, SharedMemory)) -> usize {
    let mut torn = 0;
    loop {
        match queue.blocking_get(None) {
            Ok(item) if item.is_whole() => {
                let (place, mut times) = (item.producer * EACH + item.number, [0]);
                got.read_at(place, &mut times);
                got.write_at(place, &[times[0] + 1]);
            }
            Err(error) if error.is_finished() => return torn,
            _ => torn += 1,
        }
    }
}

#[test]
#[ignore = "takes minutes"]
fn no_kill_at_any_instant_tears_an_item() {
    soak(1_000);
}

#[test]
fn some_kills_at_any_instant_tear_no_item() {
    soak(30);
}

fn soak(kills: usize) {
    let _scene = scene();
    let queue = Queue::with_bounds(16, 8 * LARGE).unwrap();
    let put = SharedMemory::new((2 + kills) * 8).unwrap();
    let got = SharedMemory::new((2 + kills) * EACH).unwrap();
    let count = |producer: usize| {
        let mut count = [0; 8];
        put.read_at(producer * 8, &mut count);
        usize::from_le_bytes(count)
    };
    runtime(1).block_on(async {
        let builder = || Process::builder().stderr(Stdio::null());
        let producer = |number| builder().spawn(produce, (queue.clone(), put.clone(), number));
        let consumer = || builder().spawn(consume, (queue.clone(), got.clone()));
        let mut puts = vec![
            (0, producer(0).await.unwrap()),
            (1, producer(1).await.unwrap()),
        ];
        let mut gets = vec![consumer().await.unwrap(), consumer().await.unwrap()];
        let (mut next, mut lost_at_most, mut random) = (2, 0, 1_u64);
        for kill in 0..kills {
            // Every producer comes forward, and all that is put is got.
            let before: Vec<_> = puts.iter().map(|(number, _)| count(*number)).collect();
            let advanced = || {
                let mut now = puts.iter().zip(&before);
                now.all(|((number, _), before)| count(*number) > *before || count(*number) == EACH)
            };
            assert!(soon(PROMPTLY, advanced).await, "kill {kill}: {queue:?}");
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            for _ in 0..random >> 48 {
                std::hint::spin_loop();
            }
            if random >> 40 & 1 == 0 {
                let (_, victim) = puts.remove(0);
                assert!(send(victim.pid(), libc::SIGKILL));
                victim.wait().await;
                puts.push((next, producer(next).await.unwrap()));
                next += 1;
            } else {
                let victim = gets.remove(0);
                assert!(send(victim.pid(), libc::SIGKILL));
                victim.wait().await;
                lost_at_most += 1;
                gets.push(consumer().await.unwrap());
            }
        }
        for (_, producer) in puts {
            producer.kill();
            producer.wait().await;
        }
        queue.finish().unwrap();
        for consumer in gets {
            let torn = tokio::time::timeout(PROMPTLY, consumer.join()).await;
            assert_eq!(torn.expect("it comes to an end").unwrap(), 0, "torn");
        }
        let mut lost = 0;
        for producer in 0..next {
            for number in 0..EACH {
                let mut times = [0];
                got.read_at(producer * EACH + number, &mut times);
                assert!(times[0] <= 1, "{number} of {producer} {times:?} times");
                lost += usize::from(number < count(producer) && times[0] == 0);
            }
        }
        assert!(lost <= lost_at_most, "{lost} of {lost_at_most}");
        assert!(queue.is_empty());
    });
}

#[test]
fn processes_of_all_kinds_put_and_get() {
    fn swap((from, to): (Queue<Payload>, Queue<Payload>)) {
        for _ in 0..3 {
            let item = from.blocking_get(None).unwrap();
            to.blocking_put(item, None).unwrap();
        }
    }

    let _scene = scene();
    runtime(1).block_on(async {
        for method in StartMethod::available() {
            let (to, back) = (Queue::new().unwrap(), Queue::new().unwrap());
            let process = Process::builder().start_method(*method);
            let process = process.spawn(swap, (to.clone(), back.clone()));
            let process = process.await.unwrap();
            for seed in 0..3 {
                to.put(payload(MIB, seed)).await.unwrap();
                let item = back.get_timeout(PROMPTLY).await.unwrap();
                assert!(item == payload(MIB, seed));
            }
            process.join().await.unwrap();
        }
    });
}
