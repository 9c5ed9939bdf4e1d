//! What the probe programs share: `main` calls [`run`], which has one call made in a worker of each
//! kind and prints what came of it.

mod acts;
mod facts;

use std::error::Error;
use std::fs::File;
use std::io::Write;

use procpool::{ProcessPool, StartMethod, TaskError};

pub use facts::{Facts, facts};

/// A task. Its argument is what the program knows of itself.
pub type Act = fn(Facts) -> String;

/// Says that `main` was reached. Then makes the call that the first argument names in a worker of
/// each start method, and prints a line with each answer.
pub async fn run() {
    run_with(&[]).await;
}

/// The same, with tasks of the program's own.
pub async fn run_with(own: &[(&str, Act)]) {
    println!("main: reached");
    let name = std::env::args().nth(1);
    let name = name.unwrap_or_else(|| "report".to_owned());
    let acts = own.iter().chain(acts::ACTS);
    let act = acts.into_iter().find(|(known, _)| *known == name);
    let (_, act) = act.expect("the name of an act");
    for method in StartMethod::available() {
        let answer = call(*act, *method).await;
        tell(&format!("{method}: {answer}\n"));
    }
}

/// Makes one call in a pool of its own.
async fn call(act: Act, method: StartMethod) -> String {
    let pool = ProcessPool::builder()
        .workers(1)
        .start_method(method)
        .build();
    let pool = match pool {
        Ok(pool) => pool,
        Err(error) => return format!("no pool: {error}"),
    };
    let outcome = pool.submit(act, facts()).await;
    pool.shutdown().await;
    answer(outcome)
}

/// Says in a line what came of a call.
pub fn answer(outcome: Result<String, TaskError>) -> String {
    match outcome {
        Ok(answer) => answer,
        Err(error) => match error.worker_exit() {
            Some(exit) => match exit.violation() {
                Some(violation) => format!("killed, since it sent {violation}"),
                None => format!("lost by {}", exit.exit()).replace(", core dumped", ""),
            },
            None => said_by(&error),
        },
    }
}

fn said_by(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", said_by(source)),
        None => error.to_string(),
    }
}

/// Prints on the standard output or, for a program that has none, at the end of a file.
fn tell(line: &str) {
    match std::env::var_os("PROBE_ANSWERS") {
        Some(path) => {
            let file = File::options().append(true).create(true).open(path);
            let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
            written.expect("a file for the answers");
        }
        None => print!("{line}"),
    }
}
