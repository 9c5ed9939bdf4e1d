//! What the crate tells whoever listens to its log records.
//!
//! There is one listener for the whole process, so that all of it is one test in turns.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use deeds::{Misdeed, commit, own_pid, send};
use procpool::{ProcessPool, StartMethod, Stdio};
use support::{PROMPTLY, children, everywhere, runtime, scene, soon};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A record: its level, and all that it says.
type Entry = (Level, String);

static RECORDS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Listener(AtomicU64);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("procpool")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, "{field}={value:?} ").unwrap();
            }
        }
        let mut text = Text(format!("{}: ", event.metadata().target()));
        event.record(&mut text);
        records().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn records() -> std::sync::MutexGuard<'static, Vec<Entry>> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many records of a level say all of that, since the last look.
async fn told(level: Level, words: &[&str]) -> bool {
    let says = || {
        records()
            .iter()
            .any(|(at, text)| *at == level && words.iter().all(|word| text.contains(word)))
    };
    let told = soon(PROMPTLY, says).await;
    if !told {
        eprintln!("no {level} record of {words:?} in {:#?}", *records());
    }
    records().clear();
    told
}

fn pool(method: StartMethod) -> ProcessPool {
    let pool = ProcessPool::builder().workers(1).start_method(method);
    pool.stderr(Stdio::null()).build().unwrap()
}

/// CF-064, CF-108.
#[test]
fn whoever_listens_is_told_of_what_went_wrong() {
    tracing::subscriber::set_global_default(Listener(AtomicU64::new(1))).unwrap();
    // The callbacks' panics are meant; their noise is not.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("doh") {
            eprintln!("{info}");
        }
    }));
    everywhere(|method| async move {
        callbacks_that_panic(method).await;
        pools_that_are_dropped(method).await;
        workers_that_die(method).await;
        output_of_workers(method).await;
    });
    let _ = std::panic::take_hook();
    let _scene = scene();
    runtime(2).block_on(fork_servers_that_die());
}

/// CF-064: before and after the call has ended.
async fn callbacks_that_panic(method: StartMethod) {
    let pool = pool(method);
    let handle = pool.submit(|n: u32| n, 42);
    handle.add_done_callback(|_| panic!("doh!"));
    assert!(told(Level::ERROR, &["a callback panicked", "doh!"]).await);
    assert!(soon(PROMPTLY, || handle.is_done()).await);
    handle.add_done_callback(|_| panic!("doh again!"));
    assert!(told(Level::ERROR, &["a callback panicked", "doh again!"]).await);
    assert_eq!(handle.await.unwrap(), 42);
    pool.shutdown().await;
}

/// CF-108: one that was not closed is told of, one that was is not.
async fn pools_that_are_dropped(method: StartMethod) {
    const DROPPED: &str = "a pool was dropped without being closed";
    let forgotten = pool(method);
    forgotten.submit(own_pid, ()).await.unwrap();
    drop(forgotten);
    assert!(told(Level::DEBUG, &[DROPPED]).await);
    let closed = pool(method);
    closed.submit(own_pid, ()).await.unwrap();
    closed.close();
    drop(closed);
    let shut_down = pool(method);
    shut_down.shutdown().await;
    drop(shut_down);
    assert!(soon(PROMPTLY, || children().is_empty()).await);
    assert_eq!(*records(), []);
}

/// A death is a warning, with who and how; an end that was asked for is none.
async fn workers_that_die(method: StartMethod) {
    let pool = pool(method);
    let pid = pool.submit(own_pid, ()).await.unwrap().to_string();
    pool.submit(commit, Misdeed::Exit(3)).await.unwrap_err();
    let words = ["a worker was lost", "exit code 3", &pid];
    assert!(told(Level::WARN, &words).await);
    let handle = pool.submit(deeds::hang, ());
    assert!(soon(PROMPTLY, || handle.is_running()).await);
    assert!(handle.abort());
    pool.shutdown().await;
    let warnings = records()
        .iter()
        .filter(|(at, _)| *at <= Level::WARN)
        .count();
    assert_eq!(warnings, 0, "{:?}", records());
    records().clear();
}

/// What is captured is told line by line, with whose it is.
async fn output_of_workers(method: StartMethod) {
    let pool = ProcessPool::builder().workers(1).start_method(method);
    let pool = pool.stdout(Stdio::capture()).build().unwrap();
    let print: fn(()) = |()| println!("a line");
    pool.submit(print, ()).await.unwrap();
    assert!(told(Level::INFO, &["procpool::worker", "a line"]).await);
    pool.shutdown().await;
    records().clear();
}

async fn fork_servers_that_die() {
    let pool = pool(StartMethod::ForkServer);
    pool.submit(own_pid, ()).await.unwrap();
    let [server] = children()[..] else {
        panic!("{:?}", children())
    };
    assert!(send(server, libc::SIGKILL));
    let words = ["a fork server was lost", "SIGKILL", &server.to_string()];
    assert!(told(Level::WARN, &words).await);
    pool.submit(own_pid, ()).await.unwrap();
    pool.shutdown().await;
}
