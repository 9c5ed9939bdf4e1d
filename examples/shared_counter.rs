//! Four processes count together, in three ways: one that loses counts, and two that lose none.
//!
//! ```text
//! cargo run --release --example shared_counter
//!
//! 4 processes add 1, 10000 times each
//! without a lock  11274: 28726 are lost
//! with a lock     40000: none is lost
//! by an atomic    40000: none is lost
//! no number was torn
//! ```
//!
//! What is lost: two processes read 7, both add one, and both write 8. What does not happen even then: that
//! one reads half of an old number and half of a new one. Each number is in its 64 bits twice, so
//! that this would be noticed.

use std::sync::atomic::Ordering;

use procpool::{Event, LockError, Process, RawValue, Value, ValueGuard, processes};

const PROCESSES: usize = 4;
const TIMES: u64 = 10_000;

/// One more, in both halves.
const ONE: u64 = 1 << 32 | 1;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    for _ in 0..TIMES {
        let count = whole(counter.get());
        // Others get their turn here now and then, as they would in a longer program.
        std::thread::yield_now();
        counter.set(count + ONE);
    }
}

/// Between reading and writing the value is nobody else's.
fn with_a_lock((counter, start): (Value<u64>, Event)) -> Result<(), String> {
    wait_for(&start);
    for _ in 0..TIMES {
        let guard: Result<ValueGuard<u64>, LockError<_>> = counter.blocking_lock(None);
        let mut count = guard.map_err(|error| error.to_string())?;
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
async fn together<C, R>(count: fn((C, Event)) -> R, counter: C) -> Result<Vec<R>, Box<dyn std::error::Error>>
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned + 'static,
    R: serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    let start = Event::new()?;
    processes::scope(|_| async {
        let mut counting = Vec::new();
        for _ in 0..PROCESSES {
            counting.push(Process::spawn(count, (counter.clone(), start.clone())).await?);
        }
        start.set();
        let mut counted = Vec::new();
        for process in counting {
            counted.push(process.join().await?);
        }
        Ok(counted)
    })
    .await
}

fn wait_for(start: &Event) {
    start.blocking_wait(None).expect("there is room for one who sleeps");
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
