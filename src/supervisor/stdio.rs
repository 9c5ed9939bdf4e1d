//! What workers print: left alone, thrown away, or taken line by line.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;

use super::callback::run_aside;
use crate::sys::{pipe, reactor};

/// How much of a worker's last output is kept for the report of its death.
const TAIL: usize = 8 * 1024;
/// A line is cut at this length, so that a worker that never ends its line costs no memory.
const LINE: usize = 64 * 1024;
/// So many lines may wait for their handler; then the worker has to wait, too.
const WAITING: usize = 1024;

/// What becomes of the standard output or standard error of a pool's workers.
///
/// Their standard input is always empty. The default for both outputs is [`Stdio::inherit`].
///
/// ```
/// use procpool::{ProcessPool, Stdio};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (line, lines) = std::sync::mpsc::channel();
/// let pool = ProcessPool::builder()
///     .workers(1)
///     .stdout(Stdio::lines(move |printed| {
///         let _ = line.send(printed.text.to_owned());
///     }))
///     .stderr(Stdio::null())
///     .build()?;
/// pool.submit(|name: String| println!("hello {name}"), "world".to_owned()).await?;
/// pool.shutdown().await;
/// assert_eq!(lines.recv()?, "hello world");
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Stdio(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Inherit,
    Null,
    Lines(Option<Handler>),
    To(Arc<OwnedFd>),
}

type Handler = Arc<dyn Fn(&WorkerLine<'_>) + Send + Sync>;

/// A line that a worker has printed, as the handler of [`Stdio::lines`] is given it.
///
/// ```
/// use procpool::{ProcessPool, Stdio, WorkerLine};
///
/// fn log(line: &WorkerLine<'_>) {
///     eprintln!("{} (pid {}): {}", line.worker, line.pid, line.text);
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::builder().workers(1).stdout(Stdio::lines(log)).build()?;
/// pool.submit(|_: ()| println!("at work"), ()).await?; // procpool1-1 (pid 4711): at work
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WorkerLine<'a> {
    /// The worker's name.
    pub worker: &'a str,
    /// The worker's process id.
    pub pid: u32,
    /// The line, without its end. Bytes that are no UTF-8 are replaced.
    pub text: &'a str,
}

impl Stdio {
    /// Workers write to where the program writes.
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// What workers write is thrown away.
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// What workers write is taken line by line and logged as `tracing` events of target
    /// `procpool::worker`. The last 8 KiB of a worker's standard error come with the error of the
    /// call that was running when it died, see [`WorkerExit::stderr_tail`](crate::WorkerExit).
    pub fn capture() -> Self {
        Self(Kind::Lines(None))
    }

    /// What workers write is taken line by line and given to `handler`, and kept as with
    /// [`capture`](Self::capture).
    ///
    /// The handler runs on the crate's callback thread. It may block: beyond about a thousand
    /// lines the worker then waits in its own `write`. A panic in it is logged. Lines longer than
    /// 64 KiB come in pieces; the last line may come without an end.
    pub fn lines(handler: impl Fn(&WorkerLine<'_>) + Send + Sync + 'static) -> Self {
        Self(Kind::Lines(Some(Arc::new(handler))))
    }

    /// What workers write goes to that descriptor: a file, or an end of a pipe. All workers share
    /// it, and with it the position in a file.
    ///
    /// The builder keeps a copy, and with it the pool: whoever reads a pipe is told of its end when
    /// the pool is gone, too.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::os::unix::net::UnixStream;
    /// use procpool::{Process, Stdio};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut here, there) = UnixStream::pair()?;
    /// let builder = Process::builder().stdout(Stdio::to(there));
    /// let process = builder.spawn(|n: u32| println!("{n} {}", n + 1), 1).await?;
    /// process.join().await?;
    /// let mut printed = String::new();
    /// here.read_to_string(&mut printed)?;
    /// assert_eq!(printed, "1 2\n");
    /// # Ok(()) }
    /// ```
    pub fn to(descriptor: impl Into<OwnedFd>) -> Self {
        Self(Kind::To(Arc::new(descriptor.into())))
    }

    /// Makes this worker's end of it, and ours where there is one.
    pub(crate) fn open(&self) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
        Ok(match &self.0 {
            Kind::Inherit => (None, None),
            Kind::Null => (
                Some(File::options().write(true).open("/dev/null")?.into()),
                None,
            ),
            Kind::To(descriptor) => (Some(descriptor.try_clone()?), None),
            Kind::Lines(_) => {
                let pipe = pipe::pipe()?;
                pipe::set_nonblocking(&pipe.read)?;
                (Some(pipe.write), Some(pipe.read))
            }
        })
    }

    fn handler(&self) -> Option<Handler> {
        match &self.0 {
            Kind::Lines(handler) => handler.clone(),
            Kind::Inherit | Kind::Null | Kind::To(_) => None,
        }
    }
}

// A handler's panic is caught and logged where it happens, and nothing of ours is left half done by
// it. Without these a pool could not be carried across a `catch_unwind`.
impl UnwindSafe for Stdio {}
impl RefUnwindSafe for Stdio {}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Inherit => "Stdio::inherit()",
            Kind::Null => "Stdio::null()",
            Kind::To(_) => "Stdio::to(..)",
            Kind::Lines(None) => "Stdio::capture()",
            Kind::Lines(Some(_)) => "Stdio::lines(..)",
        })
    }
}

/// One output of one worker: its lines on their way to the handler, and the last of them.
pub(crate) struct Tail {
    pipe: Arc<OwnedFd>,
    worker: String,
    pid: u32,
    handler: Option<Handler>,
    state: Mutex<State>,
    room: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    /// A line that has begun.
    partial: Vec<u8>,
    last: VecDeque<u8>,
    /// Lines that have not been handled.
    waiting: usize,
}

impl Tail {
    /// Begins to take in what comes through `pipe`. `stop` ends it; what has come by then is
    /// still handled, and nobody waits for a process that holds the other end.
    pub(crate) fn follow(
        stdio: &Stdio,
        pipe: OwnedFd,
        worker: &str,
        pid: u32,
        stop: tokio::sync::oneshot::Receiver<()>,
    ) -> Arc<Self> {
        let tail = Arc::new(Self {
            pipe: Arc::new(pipe),
            worker: worker.to_owned(),
            pid,
            handler: stdio.handler(),
            state: Mutex::default(),
            room: tokio::sync::Notify::new(),
        });
        let following = tail.clone();
        tokio::spawn(async move {
            let reading = std::pin::pin!(following.read_on());
            futures::future::select(reading, stop).await;
            while following.pump() == Some(true) {}
            following.finish();
        });
        tail
    }

    async fn read_on(self: &Arc<Self>) {
        let Ok(pipe) = reactor::register(self.pipe.clone(), Interest::READABLE) else {
            return;
        };
        loop {
            let Ok(mut ready) = pipe.readable().await else {
                return;
            };
            match self.pump() {
                Some(true) => {}
                Some(false) => ready.clear_ready(),
                None => return,
            }
            while self.lock().waiting >= WAITING {
                self.room.notified().await;
            }
        }
    }

    /// Takes in what has come: true if there may be more, `None` at the end.
    pub(crate) fn pump(self: &Arc<Self>) -> Option<bool> {
        let mut state = self.lock();
        let mut bytes = [0; 16 * 1024];
        let count = match rustix::io::read(&*self.pipe, &mut bytes) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => return Some(true),
            Err(_) => return Some(false),
        };
        let bytes = &bytes[..count];
        state.last.extend(bytes);
        let excess = state.last.len().saturating_sub(TAIL);
        state.last.drain(..excess);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            state.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || state.partial.len() >= LINE {
                self.emit(&mut state);
            }
        }
        Some(count == 16 * 1024)
    }

    /// A last line may have no end.
    fn finish(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.partial.is_empty() {
            self.emit(&mut state);
        }
    }

    fn emit(self: &Arc<Self>, state: &mut State) {
        let line = std::mem::take(&mut state.partial);
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
        let Some(handler) = self.handler.clone() else {
            return tracing::info!(target: "procpool::worker", worker = self.worker, pid = self.pid, "{text}");
        };
        state.waiting += 1;
        let tail = self.clone();
        run_aside(move || {
            let handled = Handled(&tail);
            handler(&WorkerLine {
                worker: &tail.worker,
                pid: tail.pid,
                text: &text,
            });
            drop(handled);
        });
    }

    /// The last of what the worker has printed.
    pub(crate) fn text(&self) -> String {
        let last: Vec<u8> = self.lock().last.iter().copied().collect();
        String::from_utf8_lossy(&last).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line is handled when its handler is through, also by a panic.
struct Handled<'a>(&'a Tail);

impl Drop for Handled<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
        self.0.room.notify_one();
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}
