//! A web service that resizes pictures of strangers in worker processes.
//!
//! ```text
//! cargo run --example image_service -- 3000
//! curl --data-binary @cat.jpg 'localhost:3000/resize?width=300&format=png' > small.png
//! curl localhost:3000/stats
//! ```
//!
//! What can go wrong with an upload, and what it costs:
//!
//! | what happens                        | answer                 | who notices                       |
//! | ----------------------------------- | ---------------------- | --------------------------------- |
//! | it is no picture, or a damaged one  | 422, with the reason   | its sender                        |
//! | it takes too long                   | 504, the work is ended | its sender                        |
//! | it kills its worker                 | 502                    | its sender; a new worker is there |
//! | more is waiting than is reasonable  | 503 and `Retry-After`  | whoever comes then                |
//! | its sender goes away                | -                      | nobody; the work is ended         |
//! | the service is told to end          | 200, as ever           | whoever comes then                |
//!
//! Decompression bombs meet two limits. A header that announces too many pixels in a row or a
//! column is refused by the decoder, which costs nothing (422). But a decoder's own limits are a
//! promise of the code that one wanted to be protected from, and they do not cover what resizing
//! takes; so the system bounds the memory of a worker. What goes beyond that aborts the worker, and
//! only the request that did it fails (502).
//!
//! On SIGTERM or SIGINT the service accepts no more connections, finishes what it has begun, for
//! [`DRAIN`] at most, and exits. (Under systemd say `KillMode=mixed`: else it sends the SIGTERM to
//! the workers as well.)

mod work;

use std::env;
use std::fmt::Write;
use std::future::IntoFuture;
use std::io;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use procpool::{ProcessPool, ShutdownOptions, TaskError};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use self::work::{BadPicture, Format, Order, resize};

/// The largest upload, in bytes. Axum answers 413 beyond it.
const MAX_UPLOAD: usize = 16 << 20;
/// The longest side of an answer, in pixels.
const MAX_SIDE: u32 = 4_096;
/// How long requests that are being served may take once the service has been told to end.
const DRAIN: Duration = Duration::from_secs(20);
/// The advice to those who find the queue full, in seconds.
const RETRY_AFTER: &str = "1";

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let told_to_end = told_to_end()?;
    let port = env::args().nth(1).or_else(|| env::var("PORT").ok());
    let port: u16 = port.map_or(Ok(3000), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;

    let time_limit = Duration::from_millis(number("TIME_LIMIT_MS", 10_000)?);
    let pool = ProcessPool::builder()
        .worker_name("resize")
        .task_timeout(time_limit)
        .max_pending(usize::try_from(number("MAX_PENDING", 64)?)?)
        .build()?;
    // A service that cannot start workers says so now, not to its first client.
    pool.ready().await?;
    println!("listening on http://{}", listener.local_addr()?);

    let (tell, ending) = oneshot::channel::<()>();
    let service = axum::serve(listener, routes(pool.clone())).with_graceful_shutdown(async {
        let _ = ending.await;
    });
    let service = tokio::spawn(service.into_future());
    told_to_end.await;

    println!("ending");
    let _ = tell.send(());
    let drained = timeout(DRAIN, service).await.is_ok();
    // Who has an answer to send has sent it. What is left belongs to clients that are too slow.
    pool.shutdown_with(ShutdownOptions::new().timeout(Duration::from_secs(1)))
        .await;
    println!("{}", pool.stats());
    Ok(ExitCode::from(u8::from(!drained)))
}

/// Listens for signals from now on; the future is done when the first has come.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Reads an option from the environment.
fn number(name: &str, default: u64) -> Result<u64, Box<dyn std::error::Error>> {
    match env::var(name) {
        Ok(text) => Ok(text.parse::<NonZeroU64>()?.get()),
        Err(_) => Ok(default),
    }
}

fn routes(pool: ProcessPool) -> Router {
    Router::new()
        .route("/resize", post(serve_resize))
        .route("/stats", get(serve_stats))
        .layer(DefaultBodyLimit::max(MAX_UPLOAD))
        .with_state(pool)
}

/// What the client wants. The picture keeps its proportions and fits into `width` and `height`.
#[derive(Deserialize)]
struct Wish {
    width: u32,
    height: Option<u32>,
    #[serde(default)]
    format: Format,
}

/// `POST /resize?width=..&height=..&format=..`, the picture as its body.
async fn serve_resize(
    State(pool): State<ProcessPool>,
    Query(wish): Query<Wish>,
    picture: Bytes,
) -> Result<Response, Refusal> {
    let order = Order {
        width: wish.width.clamp(1, MAX_SIDE),
        height: wish.height.unwrap_or(MAX_SIDE).clamp(1, MAX_SIDE),
        format: wish.format,
        picture,
    };
    let work = pool
        .try_submit(resize, order)
        .map_err(|refused| refused.into_parts().0)?;
    // When the client goes away its handler is dropped here, and the work with it. To let clients
    // wait for room instead of refusing them: `pool.run(resize, order).await`.
    let picture = work.abort_on_drop().await??;
    let kind = wish.format.mime_type();
    Ok(([(header::CONTENT_TYPE, kind)], picture).into_response())
}

/// `GET /stats`: a line per number, as Prometheus reads it.
async fn serve_stats(State(pool): State<ProcessPool>) -> String {
    let stats = pool.stats();
    let numbers = [
        ("running", stats.running() as u64),
        ("unfinished", stats.unfinished as u64),
        ("completed", stats.completed),
        ("aborted", stats.cancelled),
        ("timed_out", stats.timed_out),
        ("lost", stats.lost),
        ("workers_started", stats.workers_started),
    ];
    let mut text = String::new();
    for (name, value) in numbers {
        let _ = writeln!(text, "{name} {value}");
    }
    for worker in stats.workers {
        let (name, pid, running) = (worker.name, worker.pid, worker.running.is_some());
        let _ = writeln!(
            text,
            "worker{{name={name:?},pid=\"{pid}\"}} {}",
            u8::from(running)
        );
    }
    text
}

/// Why there is no picture in the answer.
enum Refusal {
    /// The task's own error.
    Picture(BadPicture),
    /// What befell the task.
    Task(TaskError),
}

impl From<BadPicture> for Refusal {
    fn from(error: BadPicture) -> Self {
        Self::Picture(error)
    }
}

impl From<TaskError> for Refusal {
    fn from(error: TaskError) -> Self {
        Self::Task(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Picture(error) => {
                return (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response();
            }
            Self::Task(error) => error,
        };
        if error.is_queue_full() || error.is_shut_down() {
            let advice = [(header::RETRY_AFTER, RETRY_AFTER)];
            return (StatusCode::SERVICE_UNAVAILABLE, advice, "too busy\n").into_response();
        }
        // The particulars, process ids among them, are for the log and not for strangers.
        eprintln!("{error:#}");
        let (status, text) = if error.is_timeout() {
            (StatusCode::GATEWAY_TIMEOUT, "this picture takes too long\n")
        } else if error.is_worker_lost() {
            (StatusCode::BAD_GATEWAY, "this picture is too much\n")
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "this is our fault\n")
        };
        (status, text).into_response()
    }
}
