//! One process writes into a queue, another reads for ever, and is terminated in the end.
//!
//! ```text
//! cargo run --release --example write_and_read
//!
//! process 4711 puts A
//! process 4712 has got A
//! ..
//! the writer has put 3 items
//! the reader has got them, and would wait for ever: process reader ended without a value: signal 15 (SIGTERM)
//! the queue is as good as before: D
//! ```
//!
//! Python warns that a queue may be broken by the end of a process that was using it: what it had of the
//! queue's lock is never given back. Here nobody else notices.

use std::error::Error;
use std::process;

use procpool::{Process, Queue, RemoteError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (items, got) = (Queue::<String>::new()?, Queue::<String>::new()?);
    let reader = Process::builder().name("reader");
    let reader = reader.spawn(read, (items.clone(), got.clone())).await?;
    let writer = Process::spawn(write, items.clone()).await?;

    let count = writer.join().await??;
    println!("the writer has put {count} items");
    for _ in 0..count {
        got.get().await?;
    }
    reader.terminate()?;
    let error = reader.join().await.unwrap_err();
    println!("the reader has got them, and would wait for ever: {error}");

    items.put("D".to_owned()).await?;
    println!("the queue is as good as before: {}", items.get().await?);
    Ok(())
}

fn write(items: Queue<String>) -> Result<usize, RemoteError> {
    let letters = ["A", "B", "C"];
    for letter in letters {
        println!("process {} puts {letter}", process::id());
        items.blocking_put(letter.to_owned(), None)?;
    }
    Ok(letters.len())
}

fn read((items, got): (Queue<String>, Queue<String>)) -> Result<(), RemoteError> {
    loop {
        let item = items.blocking_get(None)?;
        println!("process {} has got {item}", process::id());
        got.blocking_put(item, None)?;
    }
}
