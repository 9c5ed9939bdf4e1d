//! Producers and consumers of queues that are killed at any instant: nothing is torn, nothing comes out
//! twice, nobody is blocked, and nothing is lost but what the dead had in their hands.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::fs::File;

use deeds::send;
use procpool::{Fd, Process, Queue, SharedMemory, Stdio};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, runtime, scene, soon};

/// How many items a producer has to put.
const EACH: usize = 1 << 14;

#[derive(Serialize, Deserialize)]
struct Item {
    producer: usize,
    number: usize,
    filling: bytes::Bytes,
    sum: u64,
    /// Some have one.
    file: Option<Fd<File>>,
}

impl Item {
    fn new(producer: usize, number: usize) -> Self {
        let length = number * 7_919 % 1_500;
        let filling: Vec<u8> = (0..length)
            .map(|n| (n * 31 + producer * 7 + number) as u8)
            .collect();
        let file = (number % 5 == 0).then(|| Fd(File::open("/dev/null").unwrap()));
        Self {
            sum: sum(producer, number, &filling),
            producer,
            number,
            filling: filling.into(),
            file,
        }
    }

    fn is_whole(&self) -> bool {
        self.sum == sum(self.producer, self.number, &self.filling)
            && self.file.is_some() == (self.number % 5 == 0)
    }
}

fn sum(producer: usize, number: usize, filling: &[u8]) -> u64 {
    let start = (producer as u64) << 32 | number as u64;
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    filling.iter().fold(start, step)
}

/// What survives everybody: how often each item was got, and how many each producer is sure to have put.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    got: SharedMemory,
    put: SharedMemory,
}

impl Record {
    fn new(producers: usize) -> Self {
        Self {
            got: SharedMemory::new(producers * EACH).unwrap(),
            put: SharedMemory::new(producers * 8).unwrap(),
        }
    }

    fn times(&self, producer: usize, number: usize) -> u8 {
        let mut times = [0];
        self.got.read_at(producer * EACH + number, &mut times);
        times[0]
    }

    fn put(&self, producer: usize) -> usize {
        let mut put = [0; 8];
        self.put.read_at(producer * 8, &mut put);
        usize::from_le_bytes(put)
    }
}

fn produce((queue, record, producer): (Queue<Item>, Record, usize)) {
    for number in 0..EACH {
        queue
            .blocking_put(Item::new(producer, number), None)
            .unwrap();
        record
            .put
            .write_at(producer * 8, &(number + 1).to_le_bytes());
    }
}

/// Returns how many were torn.
fn consume((queue, record): (Queue<Item>, Record)) -> usize {
    let mut torn = 0;
    loop {
        match queue.blocking_get(None) {
            Ok(item) if item.is_whole() => {
                let times = record.times(item.producer, item.number) + 1;
                record
                    .got
                    .write_at(item.producer * EACH + item.number, &[times]);
            }
            Err(error) if error.is_finished() => return torn,
            _ => torn += 1,
        }
    }
}

/// CF-191, rows 10 and 11: a thousand of each.
#[test]
#[ignore = "takes a minute"]
fn no_kill_at_any_instant_harms_the_others() {
    soak(2_000);
}

#[test]
fn some_kills_at_any_instant_do_not_harm_the_others() {
    soak(60);
}

fn soak(kills: usize) {
    let _scene = scene();
    let producers = 2 + kills;
    let record = Record::new(producers);
    let queue = Queue::with_bounds(32, 16 << 10).unwrap();
    runtime(1).block_on(async {
        let builder = || Process::builder().stderr(Stdio::null());
        let producer = |number| builder().spawn(produce, (queue.clone(), record.clone(), number));
        let consumer = || builder().spawn(consume, (queue.clone(), record.clone()));
        let mut puts = vec![
            (0, producer(0).await.unwrap()),
            (1, producer(1).await.unwrap()),
        ];
        let mut gets = vec![consumer().await.unwrap(), consumer().await.unwrap()];
        let (mut next, mut lost_at_most, mut random) = (2, 0, 1_u64);
        for kill in 0..kills {
            // Every producer comes forward, and all that is put is got.
            let before: Vec<_> = puts.iter().map(|(number, _)| record.put(*number)).collect();
            let advanced = || {
                let now = puts.iter().zip(&before);
                let mut now = now.map(|((number, _), before)| (record.put(*number), *before));
                now.all(|(now, before)| now > before || now == EACH)
            };
            assert!(soon(PROMPTLY, advanced).await, "kill {kill}: {queue:?}");
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            for _ in 0..random >> 50 {
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
        let (mut lost, mut got) = (0, 0);
        for producer in 0..next {
            let put = record.put(producer);
            for number in 0..EACH {
                let times = record.times(producer, number);
                assert!(times <= 1, "{number} of {producer} {times} times");
                assert!(
                    times == 0 || number <= put,
                    "{number} of {producer} out of {put}"
                );
                lost += usize::from(number < put && times == 0);
                got += usize::from(times);
            }
        }
        println!("{kills} kills, {lost_at_most} of consumers: {got} items got, {lost} lost");
        assert!(lost <= lost_at_most, "{lost} of {lost_at_most}");
    });
}
