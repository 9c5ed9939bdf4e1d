//! A process puts a lot into a queue; it is waited for first, and what it has put is got after that.
//!
//! ```text
//! cargo run --release --example join_first
//!
//! process 4711 has put 20000 items of 1000 bytes, and has ended: exit code 0
//! 20000 items are in the queue
//! all of them have been got, in order
//! ```
//!
//! In Python this is the deadlock that its manual warns of: a process that has put something into a queue does not
//! end before its hidden thread has written it into a pipe, which is full, and is emptied by the one who
//! waits. Here what was put is in the queue, wherever the process is that has put it.

use std::error::Error;

use procpool::{Process, Queue, RemoteError};

const ITEMS: u32 = 20_000;
const BYTES: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let queue = Queue::new()?;
    let process = Process::spawn(put_a_lot, queue.clone()).await?;
    process.join().await??;
    let (pid, exit) = (process.pid(), process.exit().expect("it was waited for"));
    println!("process {pid} has put {ITEMS} items of {BYTES} bytes, and has ended: {exit}");

    println!("{} items are in the queue", queue.len());
    for expected in 0..ITEMS {
        let (number, bytes) = queue.get().await?;
        assert_eq!((number, bytes.len()), (expected, BYTES));
    }
    println!("all of them have been got, in order");
    Ok(())
}

fn put_a_lot(queue: Queue<(u32, Vec<u8>)>) -> Result<(), RemoteError> {
    for number in 0..ITEMS {
        queue.blocking_put((number, vec![0; BYTES]), None)?;
    }
    Ok(())
}
