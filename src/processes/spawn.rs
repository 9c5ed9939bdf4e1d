//! From options and a call to a process. What may be refused beforehand is found out on the caller's
//! thread; the start itself is the keeper's.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Process;
use super::body::{Body, Kept, Life, Unclaimed};
use super::builder::ProcessBuilder;
use super::error::{SpawnError, SpawnFault};
use super::handle::Decode;
use super::home::Home;
use super::registry;
use super::scope::Members;
use crate::process::lineage::Lineage;
use crate::process::private::Private;
use crate::process::{Forked, Order, StartError, key};
use crate::supervisor::stdio::{Stdio, Tail};
use crate::sys::fork::ForkError;
use crate::sys::{blocking, mapping, socket};
use crate::task::answer;
use crate::task::identity::Target;
use crate::wire::message::Role;
use crate::wire::packed::Packed;
use crate::worker::alone::Assignment;
use crate::worker::{self, fitness};
use crate::{Call, StartMethod};

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
    /// It is over, and what came of it is to be told.
    Over(Option<Result<Unclaimed, SpawnError>>),
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
        Ok((plan, Some(home))) => Start::Begun(plan.begin(home)),
        Ok((plan, None)) => Start::Over(Some(plan.fork())),
        Err(error) => Start::Over(Some(Err(error))),
    };
    Spawning { start, decode }
}

/// All that is needed for a start.
struct Plan {
    number: u64,
    name: String,
    daemon: bool,
    order: Order,
    /// Our end of what the process is given.
    socket: Private,
    /// Outputs, with our ends of those that are taken in.
    outputs: [(Stdio, Option<OwnedFd>); 2],
    scope: Option<Members>,
}

impl Plan {
    /// The plan, and where the process is to be started from: nowhere if it is to be forked here.
    fn new(
        options: ProcessBuilder,
        target: Target,
        argument: &Packed,
    ) -> Result<(Self, Option<Arc<Home>>), SpawnError> {
        options.check()?;
        let (method, daemon) = (options.settled_method(), options.settled_daemon());
        let mut environment = options.environment;
        let home = match method {
            StartMethod::Fork => None,
            _ => {
                fitness::check().map_err(SpawnFault::from)?;
                let preload = options.preload.into_iter().collect::<Result<_, _>>();
                let preload = preload.map_err(SpawnFault::Preload)?;
                Some(Home::of(method, &mut environment, preload)?)
            }
        };
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
        let open = |stdio: &Stdio| {
            let opened = stdio.open();
            opened.map_err(SpawnError::system("make a pipe for an output"))
        };
        let (stdout, stdout_here) = open(&options.stdout)?;
        let (stderr, stderr_here) = open(&options.stderr)?;
        let key = match options.authkey {
            Some(key) => key.to_file(),
            None => key::hand_down(),
        };
        let name = options.name.unwrap_or_else(registry::next_name);
        let order = Order {
            lineage: Lineage::of_child(&name, daemon, method),
            key: key.map_err(SpawnError::system("copy the key"))?,
            first: postcard::to_stdvec(&Role::Process).expect("a number always encodes"),
            channel: vec![file, theirs],
            stdout,
            stderr,
        };
        let plan = Self {
            number: registry::next_number(),
            name,
            daemon,
            order,
            socket: Private::new(socket),
            outputs: [(options.stdout, stdout_here), (options.stderr, stderr_here)],
            scope: options.scope,
        };
        Ok((plan, home))
    }

    /// Has the keeper do it. Nothing there may ask a process for its exit in a way that waits.
    fn begin(self, home: Arc<Home>) -> oneshot::Receiver<Result<Unclaimed, SpawnError>> {
        let (sender, receiver) = oneshot::channel();
        let keeper = Arc::clone(home.keeper());
        keeper.handle().spawn(async move {
            // Where nobody waits any more, what is not claimed is killed.
            let _ = sender.send(self.launch(home).await);
        });
        receiver
    }

    async fn launch(self, home: Arc<Home>) -> Result<Unclaimed, SpawnError> {
        let child = home.launch(self.order).await?;
        // From here on nothing waits, so that the process is somebody's at any time.
        let follow = |(stdio, here): (Stdio, Option<OwnedFd>)| {
            let (stop, stopped) = oneshot::channel();
            drop(Tail::follow(
                &stdio,
                here?,
                &self.name,
                child.pid(),
                stopped,
            ));
            Some(stop)
        };
        let outputs = self.outputs.map(follow);
        let keeper = Arc::clone(home.keeper());
        let kept = Kept::new(child, keeper, self.number, outputs, Some(home));
        let life = Life::Kept(kept);
        let body = Body::new(self.number, self.name, self.daemon, life, self.socket);
        admit(body, self.scope.as_ref())
    }

    /// Forks this process, here and now.
    fn fork(self) -> Result<Unclaimed, SpawnError> {
        if Handle::try_current().is_ok() {
            return Err(SpawnFault::InRuntime.into());
        }
        if std::thread::panicking() {
            return Err(SpawnFault::Panicking.into());
        }
        if self.outputs.iter().any(|(_, here)| here.is_some()) {
            let why = "the outputs of a forked process cannot be taken in, only sent somewhere";
            return Err(SpawnFault::Invalid(why).into());
        }
        let forked = Forked::fork(self.order, worker::play).map_err(|error| match error {
            ForkError::Threads(threads) => SpawnFault::Threads(threads),
            ForkError::Os(error) => SpawnFault::System("fork this process", error),
        })?;
        let life = Life::Forked(forked, OnceLock::new());
        let body = Body::new(self.number, self.name, self.daemon, life, self.socket);
        admit(body, self.scope.as_ref())
    }
}

/// Notes a process that is there.
fn admit(body: Arc<Body>, scope: Option<&Members>) -> Result<Unclaimed, SpawnError> {
    registry::note(&body);
    let unclaimed = Unclaimed::new(Arc::clone(&body));
    match scope {
        Some(scope) => scope.admit(&body).map(|()| unclaimed),
        None => Ok(unclaimed),
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
            Start::Over(outcome) => outcome
                .take()
                .expect("polled after it had given its process"),
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
