//! Three producers and two consumers, each a process, over one queue that knows when all is done.
//!
//! ```text
//! cargo run --release --example produce_and_consume
//!
//! producer 0 has made 4 loaves
//! consumer 1 has eaten loaf 0 of producer 0
//! ..
//! 12 loaves were made, and all of them are eaten
//! consumers ended by themselves: [7, 5]
//! ```
//!
//! The queue is bounded, so that producers wait for consumers. `join` waits until `task_done` was said of each item.
//! Python's tutorials end the consumers as daemons, or by a `None` for each; here `finish` tells all of
//! them that nothing more comes. Were a consumer to die with a loaf in hand, `join` would say that one
//! is lost, and not hang.

use std::error::Error;

use futures::future::try_join_all;
use procpool::{JoinableQueue, Process, RemoteError};

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 2;
const LOAVES: usize = 4;

/// Whose it is, and which of his.
type Loaf = (usize, usize);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let queue = JoinableQueue::<Loaf>::bounded(2)?;
    let consumers = (0..CONSUMERS).map(|number| Process::spawn(consume, (number, queue.clone())));
    let consumers = try_join_all(consumers).await?;
    let producers = (0..PRODUCERS).map(|number| Process::spawn(produce, (number, queue.clone())));

    let mut made = 0;
    for producer in try_join_all(producers).await? {
        made += producer.join().await??;
    }
    queue.join().await?;
    println!("{made} loaves were made, and all of them are eaten");

    queue.finish()?;
    let mut eaten = Vec::new();
    for consumer in consumers {
        eaten.push(consumer.join().await??);
    }
    println!("consumers ended by themselves: {eaten:?}");
    Ok(())
}

/// Returns how many it has made.
fn produce((number, queue): (usize, JoinableQueue<Loaf>)) -> Result<usize, RemoteError> {
    for loaf in 0..LOAVES {
        queue.blocking_put((number, loaf), None)?;
    }
    println!("producer {number} has made {LOAVES} loaves");
    Ok(LOAVES)
}

/// Returns how many it has eaten.
fn consume((number, queue): (usize, JoinableQueue<Loaf>)) -> Result<usize, RemoteError> {
    let mut eaten = 0;
    loop {
        match queue.blocking_get(None) {
            Ok((producer, loaf)) => {
                println!("consumer {number} has eaten loaf {loaf} of producer {producer}");
                eaten += 1;
                queue.task_done()?;
            }
            Err(error) if error.is_finished() => return Ok(eaten),
            Err(error) => return Err(error.into()),
        }
    }
}
