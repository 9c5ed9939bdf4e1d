//! From options and a call to a process. What may be refused beforehand is found out on the caller's
//! thread; the start itself is the keeper's.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{oneshot, watch};

use super::Process;
use super::body::{Body, Unclaimed};
use super::builder::ProcessBuilder;
use super::error::{SpawnError, SpawnFault};
use super::handle::Decode;
use super::home::{Home, LINGER};
use super::registry;
use super::scope::Members;
use crate::Call;
use crate::process::lineage::Lineage;
use crate::process::{Order, StartError};
use crate::supervisor::stdio::{Stdio, Tail};
use crate::sys::{blocking, mapping, socket};
use crate::task::answer;
use crate::task::identity::Target;
use crate::wire::message::Role;
use crate::wire::packed::Packed;
use crate::worker::alone::Assignment;
use crate::worker::fitness;

/// A process that is being started: await it, or [wait](Self::blocking_wait) for it on a thread.
///
/// The start is under way already, on the crate's own thread. Dropped before it is over, the process
/// is killed as soon as it is there.
///
/// # Cancel safety
///
/// Polling it through a reference loses nothing; dropping it ends the process.
#[must_use = "a process that nobody takes charge of is killed"]
pub struct Spawning<R> {
    start: Start,
    decode: Decode<R>,
}

enum Start {
    /// It was refused, which is to be told.
    Refused(Option<SpawnError>),
    /// The keeper is at it.
    Begun(oneshot::Receiver<Result<Unclaimed, SpawnError>>),
}

/// Begins to start a process.
pub(super) fn spawn<R>(options: ProcessBuilder, call: Call<R>) -> Spawning<R> {
    let call = call.into_parts();
    let decode = call.decode;
    let assigned = call
        .target
        .map_err(SpawnFault::Foreign)
        .and_then(|target| Ok((target, call.argument.map_err(SpawnFault::Encode)?)));
    let plan = assigned
        .map_err(SpawnError::from)
        .and_then(|(target, argument)| Plan::new(options, target, &argument));
    let start = match plan {
        Ok(plan) => Start::Begun(plan.begin()),
        Err(error) => Start::Refused(Some(error)),
    };
    Spawning { start, decode }
}

/// All that is needed for a start.
struct Plan {
    home: Arc<Home>,
    name: String,
    daemon: bool,
    order: Order,
    /// Our end of what the process is given.
    socket: OwnedFd,
    /// Outputs, with our ends of those that are taken in.
    outputs: [(Stdio, Option<OwnedFd>); 2],
    scope: Option<Members>,
}

impl Plan {
    fn new(options: ProcessBuilder, target: Target, argument: &Packed) -> Result<Self, SpawnError> {
        options.check()?;
        fitness::check().map_err(SpawnFault::from)?;
        let (method, daemon) = (options.settled_method(), options.settled_daemon());
        let name = options.name.unwrap_or_else(registry::next_name);
        let mut environment = options.environment;
        let home = Home::of(method, &mut environment)?;
        let beside = argument.take_descriptors();
        let assignment = Assignment {
            depth: crate::worker::depth(),
            environment,
            target,
            beside: !beside.is_empty(),
        };
        let assignment = postcard::to_stdvec(&assignment).expect("numbers and texts always encode");
        let file = mapping::sealed_copy("procpool-argument", &[&assignment, argument])
            .map_err(SpawnError::system("make room for the argument"))?;
        let (socket, theirs) = socket::pair().map_err(SpawnError::system("make a socket pair"))?;
        answer::send_beside(&socket, &beside)
            .map_err(SpawnError::system("send the descriptors of the argument"))?;
        let output = SpawnError::system("make a pipe for an output");
        let (stdout, stdout_here) = options.stdout.open().map_err(output)?;
        let output = SpawnError::system("make a pipe for an output");
        let (stderr, stderr_here) = options.stderr.open().map_err(output)?;
        let order = Order {
            lineage: Lineage::of_child(&name, daemon, method),
            first: postcard::to_stdvec(&Role::Process).expect("a number always encodes"),
            channel: vec![file, theirs],
            stdout,
            stderr,
        };
        Ok(Self {
            home,
            name,
            daemon,
            order,
            socket,
            outputs: [(options.stdout, stdout_here), (options.stderr, stderr_here)],
            scope: options.scope,
        })
    }

    /// Has the keeper do it. Nothing there may ask a process for its exit in a way that waits.
    fn begin(self) -> oneshot::Receiver<Result<Unclaimed, SpawnError>> {
        let (sender, receiver) = oneshot::channel();
        let keeper = Arc::clone(self.home.keeper());
        keeper.handle().spawn(async move {
            // Where nobody waits any more, what is not claimed is killed.
            let _ = sender.send(self.launch().await);
        });
        receiver
    }

    async fn launch(self) -> Result<Unclaimed, SpawnError> {
        let child = self.home.launch(self.order).await?;
        // From here on nothing waits, so that the process is somebody's at any time.
        let pid = child.pid();
        let stops = self.outputs.map(|(stdio, here)| {
            let here = here?;
            let (stop, stopped) = oneshot::channel::<()>();
            drop(Tail::follow(&stdio, here, &self.name, pid, stopped));
            Some(stop)
        });
        let exited = child.exited();
        let (end, ended) = watch::channel(None);
        let body = Body::new(self.name, self.daemon, child, self.socket, ended);
        let unclaimed = Unclaimed::new(Arc::clone(&body));
        let number = registry::note(&body);
        let home = self.home;
        // On the keeper, as this is.
        tokio::spawn(async move {
            let exit = exited.await;
            registry::forget(number);
            drop(stops);
            end.send_replace(Some(exit));
            tokio::time::sleep(LINGER).await;
            drop(home);
        });
        match self.scope {
            Some(scope) => scope.admit(&body).map(|()| unclaimed),
            None => Ok(unclaimed),
        }
    }
}

impl<R> Spawning<R> {
    /// Waits until the process is there, on a thread that may block.
    ///
    /// # Errors
    ///
    /// As awaiting it: see [`SpawnError`].
    pub fn blocking_wait(mut self) -> Result<Process<R>, SpawnError> {
        // A task of tokio's that has had its turn would be told to wait for the next one.
        let mut start = pin!(tokio::task::unconstrained(&mut self));
        let started = blocking::wait(None, |context| start.as_mut().poll(context), || {});
        started.expect("without a limit it waits for the process")
    }
}

impl<R> Future for Spawning<R> {
    type Output = Result<Process<R>, SpawnError>;

    /// # Panics
    ///
    /// When it is polled after it has given its process.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let started = match &mut self.start {
            Start::Refused(error) => {
                Err(error.take().expect("polled after it had given its error"))
            }
            Start::Begun(start) => match ready!(Pin::new(start).poll(context)) {
                Ok(started) => started,
                // The keeper's runtime is gone, as in a copy of this process.
                Err(_) => Err(SpawnFault::Start(StartError::shutting_down()).into()),
            },
        };
        Poll::Ready(started.map(|unclaimed| Process::new(unclaimed.claim(), self.decode)))
    }
}

impl<R> fmt::Debug for Spawning<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawning").finish_non_exhaustive()
    }
}
