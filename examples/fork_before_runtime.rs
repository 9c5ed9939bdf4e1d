//! Forks a process while the program has but one thread, and only then starts a runtime. What the
//! program has read by then, the process has as well, and nothing of it is copied or sent.
//!
//! ```text
//! cargo run --release --example fork_before_runtime
//! ```

use std::sync::OnceLock;

use procpool::{Connection, Process, StartMethod, pipe};

/// Read once, before the fork.
static WORDS: OnceLock<Vec<String>> = OnceLock::new();

fn read_words() -> Vec<String> {
    let text = "a process has a memory of its own and a copy has that of its parent";
    text.split(' ').map(str::to_owned).collect()
}

/// Answers which word stands at a place.
fn look_up(mut connection: Connection<Option<String>, usize>) -> u32 {
    let words = WORDS.get().expect("read before the fork");
    let mut answered = 0;
    while let Ok(place) = connection.blocking_recv(None) {
        let word = words.get(place).cloned();
        let is_last = word.is_none();
        connection
            .blocking_send(&word, None)
            .expect("somebody waits for it");
        answered += 1;
        if is_last {
            break;
        }
    }
    answered
}

// Not `#[tokio::main]`, which starts its threads before the first line of this.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    WORDS.get_or_init(read_words);
    let (here, there) = pipe()?;
    let builder = Process::builder()
        .name("words")
        .start_method(StartMethod::Fork);
    let process = builder.spawn(look_up, there).blocking_wait()?;
    println!("forked {} as process {}", process.name(), process.pid());

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(here, process))
}

async fn serve(
    mut connection: Connection<usize, Option<String>>,
    process: Process<u32>,
) -> Result<(), Box<dyn std::error::Error>> {
    for place in [1, 3, 99] {
        connection.send(&place).await?;
        match connection.recv().await? {
            Some(word) => println!("word {place} is {word:?}"),
            None => println!("there is no word {place}"),
        }
    }
    println!("it has answered {} times", process.join().await?);

    // From here on the program has threads.
    let builder = Process::builder().start_method(StartMethod::Fork);
    let refused = builder.spawn(|n: u32| n, 1).await.unwrap_err();
    println!("once more: {refused}");
    Ok(())
}
