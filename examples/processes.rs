//! The first steps with processes: making one, naming it, waiting for it, ending it, talking to it,
//! and who is whose parent.
//!
//! ```text
//! cargo run --release --example processes
//! ```

use std::time::Duration;

use procpool::{Connection, Process, active_children, current_process, parent_process, pipe};
use procpool::{ProcessError, processes};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    create().await?;
    name().await?;
    wait().await?;
    terminate().await?;
    who_is_who().await?;
    talk().await?;
    all_at_once().await
}

/// A function, an argument, and what comes of them.
async fn create() -> Result<(), Error> {
    let greet = |name: String| format!("hello {name}");
    let process = Process::spawn(greet, "Bob".to_owned()).await?;
    println!("create: {}", process.join().await?);
    Ok(())
}

/// The process knows its name, and so does `ps`.
async fn name() -> Result<(), Error> {
    let say = |_: ()| format!("I am {}", current_process().name());
    let process = Process::builder().name("worker bee").spawn(say, ()).await?;
    println!("name: {}", process.join().await?);
    Ok(())
}

/// Waiting may have a limit, which ends the waiting alone.
async fn wait() -> Result<(), Error> {
    let nap = |millis| std::thread::sleep(Duration::from_millis(millis));
    let process = Process::builder().name("sleeper").spawn(nap, 300).await?;
    let early = process.join_timeout(Duration::from_millis(10)).await;
    println!("wait: {}", early.unwrap_err());
    process.join().await?;
    println!(
        "wait: then it has ended by {}",
        process.exit().expect("it has")
    );
    Ok(())
}

/// A process that would never end, and one that fails.
async fn terminate() -> Result<(), Error> {
    let endless = |_: ()| -> () {
        loop {
            std::thread::park()
        }
    };
    let process = Process::builder()
        .name("endless")
        .spawn(endless, ())
        .await?;
    println!(
        "terminate: {} is alive: {}",
        process.name(),
        process.is_alive()
    );
    process.terminate()?;
    let error: ProcessError = process.join().await.unwrap_err();
    println!("terminate: {error}");

    let leave = |code| -> () { std::process::exit(code) };
    let process = Process::builder().name("leaver").spawn(leave, 3).await?;
    println!("terminate: {}", process.join().await.unwrap_err());
    Ok(())
}

/// Each process has a parent, which is the one that asked for it.
async fn who_is_who() -> Result<(), Error> {
    let introduce = |_: ()| {
        let parent = parent_process().expect("it was started by one");
        (current_process().pid(), parent.pid())
    };
    let process = Process::spawn(introduce, ()).await?;
    let (pid, parent) = process.join().await?;
    assert_eq!((pid, parent), (process.pid(), std::process::id()));
    println!("who is who: process {pid} is a child of {parent}, which is this one");
    Ok(())
}

/// A pipe with two ends, one of which goes to the process.
async fn talk() -> Result<(), Error> {
    fn differences(mut connection: Connection<i32, (i32, i32)>) {
        while let Ok((a, b)) = connection.blocking_recv(None) {
            connection
                .blocking_send(&(a - b), None)
                .expect("somebody waits for it");
        }
    }
    let (mut here, there) = pipe()?;
    let process = Process::spawn(differences, there).await?;
    for (a, b) in [(5, 7), (100, -1), (53, 2354)] {
        here.send(&(a, b)).await?;
        println!("talk: {a} - {b} = {}", here.recv().await?);
    }
    drop(here); // it has no more to do
    Ok(process.join().await?)
}

/// A scope waits for all that were started in it.
async fn all_at_once() -> Result<(), Error> {
    let squares = processes::scope(|scope| async move {
        let mut started = Vec::new();
        for n in 1..=4u32 {
            let square = |n: u32| n * n;
            started.push(
                scope
                    .builder()
                    .name(format!("square {n}"))
                    .spawn(square, n)
                    .await?,
            );
        }
        println!("all at once: {} are running", started.len());
        let mut squares = Vec::new();
        for process in started {
            squares.push(process.join().await?);
        }
        Ok::<_, Error>(squares)
    });
    println!("all at once: {:?}", squares.await?);
    println!("all at once: {} are left", active_children().len());
    Ok(())
}
