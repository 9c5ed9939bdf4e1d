//! From nothing to a worker that has said that it is ready, or a reason why not. Runs on the
//! keeper; every wait has a limit, and a start that is given up leaves no process.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{Either, select};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFdReadyGuard;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::incoming::{Incoming, Pipe};
use super::outgoing::Outgoing;
use super::slot::{Bell, Slot};
use super::stdio::{Stdio, Tail};
use crate::process::lineage::Lineage;
use crate::process::{Child, Launcher, Order, StartError, key};
use crate::sys::attributes::Attributes;
use crate::sys::memory::Memory;
use crate::sys::{image, pipe, reactor};
use crate::task::identity::Target;
#[cfg(feature = "tracing")]
use crate::task::record::level_heard;
use crate::wire::PROTOCOL;
use crate::wire::codec::Frame;
use crate::wire::frame::Kind;
use crate::wire::luggage::Luggage;
use crate::wire::message::{Hello, Readiness, Role, Unfit, WorkerStart};
use crate::wire::page::{self, ControlPage};

/// What all workers of a pool have in common.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Workers are named by this and a number.
    pub(crate) name: String,
    /// How many pools they are inside of.
    pub(crate) depth: u8,
    /// The longest payload of a call or a result.
    pub(crate) max_frame: usize,
    /// How long each waits awake for its next call.
    pub(crate) busy_poll: Duration,
    /// How much memory it may have for large payloads.
    pub(crate) large_payloads: usize,
    /// How many tasks a worker runs at most.
    pub(crate) max_tasks: Option<NonZeroU64>,
    /// How many bytes of memory a worker uses at most.
    pub(crate) max_memory: Option<u64>,
    /// What is asked after each task whether it was the worker's last.
    pub(crate) retire_when: Option<Target>,
    /// How long a worker may take until its first frame.
    pub(crate) handshake_timeout: Duration,
    /// How long it may take until it is ready.
    pub(crate) start_timeout: Duration,
    /// What the system is to give to each.
    pub(crate) attributes: Attributes,
    /// The cores of each worker, by its place and round again; empty for no change.
    pub(crate) cores: Vec<Vec<usize>>,
    /// Whether what the launcher gives to each is an initializer.
    pub(crate) initializer: bool,
    /// What each runs before it leaves, encoded; empty for nothing.
    pub(crate) finalizer: Vec<u8>,
    /// Whether what is logged there is brought here, if anybody wants to hear it.
    pub(crate) worker_events: bool,
    /// What becomes of what it prints.
    pub(crate) stdout: Stdio,
    /// What becomes of what it complains about.
    pub(crate) stderr: Stdio,
}

impl Recipe {
    fn attributes_at(&self, place: usize) -> Attributes {
        let mut attributes = self.attributes.clone();
        if !self.cores.is_empty() {
            attributes.cores = self.cores[place % self.cores.len()].clone();
        }
        attributes
    }
}

/// Starts a worker.
pub(crate) async fn start(
    launcher: &Launcher,
    recipe: &Recipe,
    place: usize,
    number: u64,
) -> Result<Slot, StartError> {
    launcher.prepare().await?;
    let deadline = Instant::now() + recipe.start_timeout;
    let late = |_| StartError::timed_out("worker", recipe.start_timeout);
    timeout_at(deadline, start_in_time(launcher, recipe, place, number))
        .await
        .map_err(late)?
}

async fn start_in_time(
    launcher: &Launcher,
    recipe: &Recipe,
    place: usize,
    number: u64,
) -> Result<Slot, StartError> {
    let system = |error| StartError::system("make a worker's channel", &error);
    let requests = pipe::pipe().map_err(system)?;
    let responses = pipe::pipe().map_err(system)?;
    pipe::set_nonblocking(&requests.write).map_err(system)?;
    pipe::set_nonblocking(&responses.read).map_err(system)?;
    let enlarged = [
        pipe::enlarge(&requests.write),
        pipe::enlarge(&responses.read),
    ];
    let page_file = page::create().map_err(system)?;
    let page = ControlPage::new(&page_file).map_err(system)?;
    let reader = requests.read.try_clone().map_err(system)?;
    let (luggage, luggage_there) = Luggage::pair().map_err(system)?;
    let (stdout, stdout_here) = recipe.stdout.open().map_err(system)?;
    let (stderr, stderr_here) = recipe.stderr.open().map_err(system)?;
    let name = format!("{}-{number}", recipe.name);
    let first = WorkerStart {
        name: name.clone(),
        depth: recipe.depth,
        max_frame: recipe.max_frame as u64,
        busy_poll: recipe.busy_poll.as_nanos() as u64,
        large_payloads: recipe.large_payloads as u64,
        attributes: recipe.attributes_at(place),
        initializer: recipe.initializer,
        finalizer: recipe.finalizer.clone(),
        max_tasks: recipe.max_tasks.map_or(0, NonZeroU64::get),
        max_memory: recipe.max_memory,
        retire_when: recipe.retire_when.map_or_else(Vec::new, encoded),
        log_level: if recipe.worker_events {
            level_heard()
        } else {
            0
        },
    };
    let first = Role::Worker(Box::new(first));
    let first = postcard::to_stdvec(&first).expect("numbers and texts always encode");
    let channel = vec![requests.read, responses.write, page_file, luggage_there];
    let order = Order {
        lineage: Lineage::of_child(&name, true, launcher.method()),
        key: key::hand_down().map_err(system)?,
        first,
        channel,
        stdout,
        stderr,
    };
    let child = Unready(Some(launcher.launch(order).await?));
    let pid = child.get().pid();

    let follow = |stdio: &Stdio, here: Option<_>| {
        here.map(|here| {
            let (stop, stopped) = oneshot::channel();
            (Tail::follow(stdio, here, &name, pid, stopped), stop)
        })
    };
    let stdout = follow(&recipe.stdout, stdout_here);
    let stderr = follow(&recipe.stderr, stderr_here);
    let mut incoming = Incoming::new(recipe.max_frame);
    let responses = Arc::new(responses.read);
    let mut greeting = Greeting {
        incoming: &mut incoming,
        pipe: &responses,
        child: child.get(),
    };
    let (limit, all) = (recipe.handshake_timeout, recipe.start_timeout);
    let hello = child.get().wait_for(limit, greeting.next(Kind::Hello));
    let late = |_| StartError::timed_out("worker's first frame", limit);
    check(&hello.await.map_err(late)??)?;
    let ready = child.get().wait_for(all, greeting.next(Kind::Ready));
    let late = |_| StartError::timed_out("worker", all);
    check_readiness(&ready.await.map_err(late)??)?;
    // One that is dead already has none.
    let memory = recipe
        .max_memory
        .and_then(|_| Memory::of(pid, child.get().pidfd().as_fd()).ok());
    let requests = Arc::new(requests.write);
    let luggage = Arc::new(luggage);
    let (tail, stop_stderr) = stderr.unzip();
    let stops = [stdout.map(|(_, stop)| stop), stop_stderr];
    Ok(Slot {
        place,
        number,
        name,
        child: child.ready(),
        page,
        memory,
        tail,
        outgoing: Outgoing::new(requests.clone(), luggage.clone()),
        luggage,
        incoming: Mutex::new(incoming),
        requests,
        responses,
        _reader: reader,
        _enlarged: enlarged,
        _stops: stops,
        bell: Bell::default(),
        served: Default::default(),
    })
}

fn encoded(target: Target) -> Vec<u8> {
    postcard::to_stdvec(&target).expect("two numbers always encode")
}

#[cfg(not(feature = "tracing"))]
fn level_heard() -> u8 {
    0
}

/// What a worker says before it is ready.
struct Greeting<'a> {
    incoming: &'a mut Incoming,
    pipe: &'a Arc<OwnedFd>,
    child: &'a Child,
}

impl Greeting<'_> {
    /// Waits for the next frame, which must be of that kind. A worker that is dead may have said
    /// it before, so its end is looked at last.
    async fn next(&mut self, kind: Kind) -> Result<Frame, StartError> {
        let system = |error| StartError::system("listen to a worker", &error);
        let readable = reactor::register(self.pipe.clone(), Interest::READABLE).map_err(system)?;
        let mut dead = None;
        loop {
            if !self.incoming.frames.is_empty() {
                let frame = self.incoming.frames.remove(0);
                if frame.header.kind != kind {
                    return Err(StartError::protocol("worker", "a frame out of turn"));
                }
                return Ok(frame);
            }
            let read = self.incoming.read(self.pipe);
            let read =
                read.map_err(|_| StartError::protocol("worker", "bytes that are no frame"))?;
            match (read, dead) {
                (Pipe::More, _) => {}
                (Pipe::Empty | Pipe::Ended, Some(exit)) => {
                    if self.incoming.frames.is_empty() {
                        return Err(StartError::exited("worker", exit));
                    }
                }
                (Pipe::Ended, None) => dead = Some(self.child.exited().await),
                (Pipe::Empty, None) if self.incoming.frames.is_empty() => {
                    let exited = std::pin::pin!(self.child.exited());
                    let ready = std::pin::pin!(readable.readable());
                    match select(ready, exited).await {
                        Either::Left((ready, _)) => self.clear(ready.map_err(system)?),
                        Either::Right((exit, _)) => dead = Some(exit),
                    }
                }
                (Pipe::Empty, None) => {}
            }
        }
    }

    /// Takes a readiness, unless there is something to read.
    fn clear(&self, mut ready: AsyncFdReadyGuard<'_, Arc<OwnedFd>>) {
        let mut pipe = [PollFd::new(&**self.pipe, PollFlags::IN)];
        if !matches!(poll(&mut pipe, Some(&Timespec::default())), Ok(count) if count > 0) {
            ready.clear_ready();
        }
    }
}

/// Compares what the worker says of itself with what we are.
fn check(frame: &Frame) -> Result<(), StartError> {
    let theirs: Hello = postcard::from_bytes(&frame.payload)
        .map_err(|_| StartError::protocol("worker", "a first frame that says nothing"))?;
    let ours = image::main_image().build_id();
    if theirs.protocol != PROTOCOL || theirs.build != *ours {
        let say = |protocol: u32, build| format!("protocol {protocol}, build {build}");
        let (ours, theirs) = (say(PROTOCOL, ours), say(theirs.protocol, &theirs.build));
        return Err(StartError::mismatch("worker", ours, theirs));
    }
    Ok(())
}

/// Reads whether the worker is ready.
fn check_readiness(frame: &Frame) -> Result<(), StartError> {
    let readiness: Readiness = postcard::from_bytes(&frame.payload)
        .map_err(|_| StartError::protocol("worker", "a frame that does not say if it is ready"))?;
    readiness.map_err(|unfit| match unfit {
        Unfit::System { doing, errno, text } => StartError::refused_there(doing, errno, text),
        Unfit::Initializer(text) => StartError::initializer(text),
    })
}

/// A worker that nobody has yet; killed if that does not change.
struct Unready(Option<Child>);

impl Unready {
    fn get(&self) -> &Child {
        self.0
            .as_ref()
            .expect("taken by `ready` alone, which consumes this")
    }

    fn ready(mut self) -> Child {
        self.0.take().expect("taken here alone")
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.kill_group();
        }
    }
}
