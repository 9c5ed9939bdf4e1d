//! A Python program hands work to a pool of processes and gets answers.
//!
//! ```sh
//! cargo run --release --features pickle --example python_peer
//! ```
//!
//! It listens at a path, starts `python_peer.py`, which lies beside this file, and serves whoever
//! comes. A question is a pickled tuple, an answer a pickled dict. Worker processes find the answers,
//! so a question that kills its worker is answered like any other.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use procpool::{AuthKey, AuthMode, Connection, Listener, ProcessPool};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// `(name, number)` in Python.
#[derive(Deserialize)]
struct Question(String, u64);

/// `{"value": ..}` or `{"error": ..}` in Python.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Value(u64),
    Error(String),
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let pool = ProcessPool::builder().workers(2).build()?;
    let folder = Folder::new()?;
    // A text, because it is handed over as a line.
    let key: String = AuthKey::random()?
        .expose()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let builder = Listener::builder()
        .authkey(AuthKey::new(&key)?)
        .auth_mode(mode().await?);
    let mut listener = builder.bind(folder.0.join("socket"))?;

    let mut python = start(&listener.address().to_string(), &key).await?;
    let ended = loop {
        tokio::select! {
            client = listener.accept() => drop(tokio::spawn(serve(pool.clone(), client?))),
            ended = python.wait() => break ended?,
        }
    };
    drop(listener);
    pool.shutdown().await;
    Ok(if ended.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How the Python at hand proves a key: before 3.12 it knows nothing better than HMAC-MD5.
async fn mode() -> Result<AuthMode, Box<dyn Error>> {
    let script = "import sys; sys.exit(sys.version_info < (3, 12))";
    let mut asked = Command::new("python3");
    asked.args(["-c", script]).stdin(Stdio::null());
    let knows = asked.status().await;
    let knows = knows.map_err(|error| format!("python3: {error}"))?;
    Ok(if knows.success() {
        AuthMode::Python
    } else {
        AuthMode::PythonMd5
    })
}

/// The key goes by a pipe: everybody can read the arguments of a program.
async fn start(address: &str, key: &str) -> Result<Child, Box<dyn Error>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python_peer.py");
    let mut command = Command::new("python3");
    command
        .arg(script)
        .arg(address)
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    let mut python = command
        .spawn()
        .map_err(|error| format!("python3: {error}"))?;
    let mut input = python.stdin.take().expect("it was given one");
    input.write_all(format!("{key}\n").as_bytes()).await?;
    Ok(python)
}

/// Answers one client after the other question, for as long as it asks.
async fn serve(pool: ProcessPool, mut client: Connection<(), ()>) {
    loop {
        let answer = match client.recv_pickled().await {
            Ok(question) => answer(&pool, question).await,
            // Not what was to be asked; perhaps the next is.
            Err(error) if error.is_decode() => Answer::Error(format!("{error:#}")),
            Err(_) => return,
        };
        if client.send_pickled(&answer).await.is_err() {
            return;
        }
    }
}

async fn answer(pool: &ProcessPool, Question(name, n): Question) -> Answer {
    let work = match &*name {
        "fib" => fib,
        "collatz" => collatz,
        "crash" => crash,
        _ => return Answer::Error(format!("nobody knows how to {name}")),
    };
    match pool.run(work, n).await {
        Ok(value) => Answer::Value(value),
        Err(error) => Answer::Error(format!("{error:#}")),
    }
}

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

/// How many steps a number needs to come to one.
fn collatz(n: u64) -> u64 {
    let next = |n: &u64| (*n > 1).then(|| if n % 2 == 0 { n / 2 } else { 3 * n + 1 });
    std::iter::successors(Some(n), next).count() as u64 - 1
}

fn crash(_: u64) -> u64 {
    std::process::abort()
}

/// A directory that nobody else can look into, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("python_peer-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
