//! Four processes count together, in three ways: one that loses counts, and two that lose none.
//!
//! ```text
//! cargo run --release --example shared_counter
//!
//! 4 processes add 1, 10000 times each
//! without a lock  10868: 29132 are lost
//! with a lock     40000: none is lost
//! by an atomic    40000: none is lost
//! no number was torn
//! ```
//!
//! What is lost: two processes read 7, both add one, and both write 8. What does not happen even then: that
//! one reads half of an old number and half of a new one. Each number is in its 64 bits twice, so
//! that this would be noticed.

use std::error::Error;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use procpool::{Event, Process, RawValue, RemoteError, Value};
use serde::{Serialize, de::DeserializeOwned};

const PROCESSES: usize = 4;
const TIMES: u64 = 10_000;

/// One more, in both halves.
const ONE: u64 = 1 << 32 | 1;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{PROCESSES} processes add 1, {TIMES} times each");

    let raw = RawValue::new(0)?;
    together(without_a_lock, raw.clone()).await?;
    tell("without a lock", raw.get());

    let locked = Value::new(0)?;
    for counted in together(with_a_lock, locked.clone()).await? {
        counted?;
    }
    tell("with a lock", locked.get().await?);

    let raw = RawValue::new(0)?;
    together(by_an_atomic, raw.clone()).await?;
    tell("by an atomic", raw.get());

    println!("no number was torn");
    Ok(())
}

/// Whoever reads a number before another has written the next one undoes what that one counts.
fn without_a_lock((counter, start): (RawValue<u64>, Event)) {
    wait_for(&start);
    for n in 0..TIMES {
        let count = whole(counter.get());
        if n % 1_000 == 0 {
            thread::sleep(Duration::from_millis(1)); // now and then it takes a while
        }
        counter.set(count + ONE);
    }
}

/// Between reading and writing the value is nobody else's.
fn with_a_lock((counter, start): (Value<u64>, Event)) -> Result<(), RemoteError> {
    wait_for(&start);
    for _ in 0..TIMES {
        let mut count = counter.blocking_lock(None)?;
        *count = whole(*count) + ONE;
    }
    Ok(())
}

/// Reading and writing are one step.
fn by_an_atomic((counter, start): (RawValue<u64>, Event)) {
    wait_for(&start);
    for _ in 0..TIMES {
        whole(counter.as_atomic().fetch_add(ONE, Ordering::Relaxed));
    }
}

/// Starts the processes, has them begin at once, and waits for all of them.
async fn together<C, R>(count: fn((C, Event)) -> R, counter: C) -> Result<Vec<R>, Box<dyn Error>>
where
    C: Clone + Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + 'static,
{
    let start = Event::new()?;
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let argument = (counter.clone(), start.clone());
        processes.push(Process::spawn(count, argument).await?);
    }
    start.set();
    let mut counted = Vec::new();
    for process in processes {
        counted.push(process.join().await?);
    }
    Ok(counted)
}

fn wait_for(start: &Event) {
    start
        .blocking_wait(None)
        .expect("there is room for one who sleeps");
}

/// The number, which must be in both halves.
fn whole(count: u64) -> u64 {
    assert_eq!(count >> 32, count & 0xffff_ffff, "half of it is another's");
    count
}

fn tell(how: &str, counter: u64) {
    let (count, all) = (whole(counter) & 0xffff_ffff, PROCESSES as u64 * TIMES);
    match all - count {
        0 => println!("{how:<15} {count}: none is lost"),
        lost => println!("{how:<15} {count}: {lost} are lost"),
    }
}
