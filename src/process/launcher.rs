//! Starts one pool's workers, by the method it was told, and ends with them.

use std::iter;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::{Mutex, oneshot, watch};

use super::child::{Child, Unclaimed};
use super::errand::{self, Errand, Posting};
use super::executed::execute;
use super::lineage::Lineage;
use super::link::{Link, NoWorker};
use super::{Environment, Keeper, StartError, StartMethod};

/// What is executed, and how.
#[derive(Debug)]
pub(crate) struct Program {
    /// How workers are started.
    pub(crate) method: StartMethod,
    /// How the children's environment differs from the program's.
    pub(crate) environment: Environment,
    /// The variable, and its value, by which a child knows what it is.
    pub(crate) boot: (&'static str, String),
    /// What every worker is given behind its own channel.
    pub(crate) shared: Option<OwnedFd>,
    /// How long a fork server may take to be ready, and to answer.
    pub(crate) handshake_timeout: Duration,
    /// What a fork server does before it forks: hooks, each in a file.
    pub(crate) preload: Vec<OwnedFd>,
    /// How long it may take for all of that.
    pub(crate) preload_limit: Duration,
}

/// One worker to be started.
#[derive(Debug)]
pub(crate) struct Order {
    /// What it is told of itself.
    pub(crate) lineage: Lineage,
    /// Its key, in a file.
    pub(crate) key: OwnedFd,
    /// Its first words, at most some 60 KiB; they mean nothing here.
    pub(crate) first: Vec<u8>,
    /// Its descriptors, at most 13.
    pub(crate) channel: Vec<OwnedFd>,
    /// Its standard output, if not the program's.
    pub(crate) stdout: Option<OwnedFd>,
    /// Its standard error, if not the program's.
    pub(crate) stderr: Option<OwnedFd>,
}

impl Order {
    /// Its descriptors, in the order in which they travel.
    pub(super) fn into_descriptors(self) -> Vec<OwnedFd> {
        let streams = self.stdout.into_iter().chain(self.stderr);
        let rest = self.channel.into_iter().chain(streams);
        iter::once(self.key).chain(rest).collect()
    }
}

/// Starts workers. Dropping it is [`close`](Self::close), in the background.
#[derive(Debug)]
pub(crate) struct Launcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keeper: Arc<Keeper>,
    program: Program,
    /// Set when a fork server turned out not to be able to fork safely.
    spawns: AtomicBool,
    hosting: Mutex<Hosting>,
    /// How many attempts to have a fork server have failed.
    failures: AtomicU64,
    /// Held by every launch under way and by every worker not yet reaped.
    workers: watch::Sender<()>,
    /// Held by every fork server not yet reaped.
    servers: watch::Sender<()>,
    /// What launches under way, and who waits for the end, look at.
    stage: watch::Sender<Stage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Closing,
    Closed,
}

/// The fork server at hand, and what came of the last attempt to have one.
#[derive(Debug, Default)]
struct Hosting {
    link: Option<Arc<Link>>,
    last: Option<StartError>,
}

impl Launcher {
    /// Makes a launcher; nothing is executed before the first launch.
    pub(crate) fn new(keeper: Arc<Keeper>, program: Program) -> Self {
        Self(Arc::new(Inner {
            keeper,
            program,
            spawns: AtomicBool::new(false),
            hosting: Mutex::default(),
            failures: AtomicU64::new(0),
            workers: watch::Sender::new(()),
            servers: watch::Sender::new(()),
            stage: watch::Sender::new(Stage::Open),
        }))
    }

    /// How workers are to be started.
    pub(crate) fn method(&self) -> StartMethod {
        self.0.program.method
    }

    /// Starts a worker. What it was given is closed on this side, whatever
    /// comes of it.
    ///
    /// The work is done on the keeper, so that this may be awaited anywhere. If
    /// it is dropped, or the launcher closed, while a worker is being started,
    /// that worker is killed and reaped.
    pub(crate) async fn launch(&self, mut order: Order) -> Result<Child, StartError> {
        let inner = Arc::clone(&self.0);
        if !inner.keeper.is_here() {
            let error = std::io::Error::other("this process was forked from the pool's own");
            return Err(StartError::system("start a worker", &error));
        }
        // Whoever closes sees this launch, or this launch sees that.
        let presence = inner.workers.subscribe();
        if *inner.stage.borrow() != Stage::Open {
            return Err(StartError::shutting_down());
        }
        if let Some(shared) = &inner.program.shared {
            let copy = shared.try_clone();
            order.channel.push(
                copy.map_err(|error| StartError::system("copy a descriptor for a worker", &error))?,
            );
        }
        let (answer, answered) = oneshot::channel();
        self.0.keeper.handle().spawn(async move {
            inner.answer(order, answer).await;
            drop(presence);
        });
        match answered.await {
            Ok(started) => started.map(Unclaimed::claim),
            // The keeper's runtime is gone, which this holds a share in.
            Err(_) => Err(StartError::shutting_down()),
        }
    }

    /// Waits until the fork server has what it is to preload, if that is anything. On the keeper.
    ///
    /// If it is dropped meanwhile, or the launcher closed, that server is killed.
    pub(crate) async fn prepare(&self) -> Result<(), StartError> {
        if self.0.program.preload.is_empty() {
            return Ok(());
        }
        let mut stage = self.0.stage.subscribe();
        let closing = pin!(stage.wait_for(|stage| *stage != Stage::Open));
        match select(closing, pin!(self.0.server())).await {
            Either::Left(_) => Err(StartError::shutting_down()),
            Either::Right((server, _)) => server.map(drop),
        }
    }

    /// Starts no more workers, waits until those that there are have ended,
    /// ends the fork server and with it what escaped from them, and returns
    /// when nothing is left. Cancel safe, and may be called again.
    pub(crate) async fn close(&self) {
        self.0.begin_to_close();
        let mut stage = self.0.stage.subscribe();
        // The sender is in `self`, so that this ends in no other way.
        let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.0.begin_to_close();
    }
}

impl Inner {
    /// Starts a worker for whoever holds the other end of `answer`, unless that
    /// one goes, or the launcher is closed.
    async fn answer(
        self: &Arc<Self>,
        order: Order,
        mut answer: oneshot::Sender<Result<Unclaimed, StartError>>,
    ) {
        let mut stage = self.stage.subscribe();
        let started = {
            let unwanted = pin!(answer.closed());
            let closing = pin!(stage.wait_for(|stage| *stage != Stage::Open));
            // Dropping the attempt takes back whatever it has begun.
            match select(pin!(self.start(&order)), select(unwanted, closing)).await {
                Either::Left((started, _)) => started,
                Either::Right(_) => Err(StartError::shutting_down()),
            }
        };
        // Before the answer: the other ends are the worker's alone by then.
        drop(order);
        // A worker that is not fetched is dropped unclaimed, and so killed.
        let _ = answer.send(started);
    }

    async fn start(self: &Arc<Self>, order: &Order) -> Result<Unclaimed, StartError> {
        for _ in 0..MAX_SERVERS {
            if self.program.method == StartMethod::Spawn || self.spawns.load(Ordering::Relaxed) {
                return self.spawn(order).await;
            }
            match self.server().await?.fork(order).await {
                Ok(worker) => return Ok(worker),
                Err(NoWorker::Failed(error)) => return Err(error),
                Err(NoWorker::Threads(threads)) if !self.program.preload.is_empty() => {
                    let text = format!("the fork server has {threads} threads and cannot fork");
                    return Err(StartError::preload(text));
                }
                Err(NoWorker::Threads(threads)) => self.spawn_from_now_on(threads),
                // It had not begun: a worker does only when its server's answer
                // is on its way, and what is on its way is read.
                Err(NoWorker::Lost) => {}
            }
        }
        Err(StartError::server_lost(MAX_SERVERS))
    }

    async fn spawn(&self, order: &Order) -> Result<Unclaimed, StartError> {
        let errand = Errand::Serve(Posting::of(order));
        let descriptors = errand::descriptors(order);
        let presence = self.workers.subscribe();
        let (worker, _) = execute(
            &self.keeper,
            &self.program,
            "the worker",
            &errand,
            &descriptors,
            presence,
        )
        .await?;
        Ok(worker)
    }

    fn spawn_from_now_on(&self, threads: u32) {
        if !self.spawns.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                threads,
                "the fork server has more than one thread and cannot fork safely; \
                 workers are executed instead"
            );
        }
    }

    /// The fork server, started if there is none. Launches that wait for the
    /// same attempt share its failure.
    async fn server(&self) -> Result<Arc<Link>, StartError> {
        let seen = self.failures.load(Ordering::Acquire);
        let mut hosting = self.hosting.lock().await;
        if let Some(link) = hosting.link.as_ref().filter(|link| !link.is_lost()) {
            return Ok(Arc::clone(link));
        }
        if let Some(error) = &hosting.last {
            let failed_meanwhile = self.failures.load(Ordering::Acquire) != seen;
            if failed_meanwhile || error.is_mismatch() {
                return Err(error.clone());
            }
        }
        let (servers, workers) = (self.servers.subscribe(), self.workers.clone());
        match Link::open(&self.keeper, &self.program, servers, workers).await {
            Ok(link) => {
                hosting.link = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(error) => {
                hosting.last = Some(error.clone());
                self.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }

    fn begin_to_close(self: &Arc<Self>) {
        let begun = self.stage.send_if_modified(|stage| {
            let open = *stage == Stage::Open;
            if open {
                *stage = Stage::Closing;
            }
            open
        });
        if begun {
            let inner = Arc::clone(self);
            self.keeper.handle().spawn(async move { inner.end().await });
        }
    }

    async fn end(&self) {
        self.workers.closed().await;
        if let Some(link) = self.hosting.lock().await.link.take() {
            link.end().await;
        }
        self.servers.closed().await;
        self.stage.send_replace(Stage::Closed);
    }
}

/// How many fork servers may be lost under one launch before it gives up.
const MAX_SERVERS: u32 = 4;
