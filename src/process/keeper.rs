//! The crate's one permanent thread. All executing of children happens there,
//! because the parent-death signal follows the thread that started a child, not
//! the process; and so does all waiting for them, because whatever runtime the
//! program has may end at any time.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak, mpsc};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use tokio::runtime::{self, Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Own, unsent};
use crate::sys::{reactor, signal};

static KEEPER: Own<Mutex<Weak<Keeper>>> = Own::new();

/// A share in the thread `procpool-keeper` and its runtime.
///
/// The thread starts with the first share and ends after the last one is
/// dropped, wherever that happens; whatever must outlive its user there (the
/// reaping of a child) holds a share itself. Dropping one never blocks.
#[derive(Debug)]
pub(crate) struct Keeper {
    runtime: Handle,
    pid: u32,
    /// Whether the thread has let go of everything.
    over: watch::Receiver<bool>,
    /// Its end, when the last share is dropped, is what ends the thread.
    _alive: tokio::sync::mpsc::Sender<Infallible>,
}

impl Keeper {
    /// Returns the keeper of this process, started if there is none.
    pub(crate) fn get() -> io::Result<Arc<Self>> {
        let slot = KEEPER.get().lock();
        let mut slot = slot.unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = slot.upgrade() {
            return Ok(keeper);
        }
        let keeper = Arc::new(Self::start()?);
        *slot = Arc::downgrade(&keeper);
        Ok(keeper)
    }

    /// The runtime that the thread drives, with I/O and time.
    pub(crate) fn handle(&self) -> &Handle {
        &self.runtime
    }

    /// Whether its thread is in this process: a program that forks by itself
    /// has copied the keeper and not the thread.
    pub(crate) fn is_here(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Its runtime, for somebody who may be there longer than the thread.
    pub(crate) fn lend(self: &Arc<Self>) -> Lent {
        Lent {
            runtime: RwLock::new(Some(self.runtime.clone())),
            id: self.runtime.id(),
            share: Arc::downgrade(self),
            over: self.over.clone(),
        }
    }

    fn start() -> io::Result<Self> {
        let (alive, ended) = tokio::sync::mpsc::channel(1);
        let (is_over, over) = watch::channel(false);
        let (started, starting) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("procpool-keeper".to_owned())
            .spawn(move || {
                keep(&started, ended);
                let _ = is_over.send(true);
            })?;
        // The runtime is made on the new thread, because one that turns out not
        // to be wanted may not be dropped on an async caller's.
        let runtime = starting
            .recv()
            .map_err(|_| io::Error::other("the keeper's thread ended at once"))??;
        Ok(Self {
            runtime,
            pid: std::process::id(),
            over,
            _alive: alive,
        })
    }
}

/// The keeper's runtime, until it is given back. A handle to a runtime holds descriptors of it.
#[derive(Debug)]
pub(crate) struct Lent {
    runtime: RwLock<Option<Handle>>,
    id: runtime::Id,
    share: Weak<Keeper>,
    over: watch::Receiver<bool>,
}

impl Lent {
    /// Which runtime it is, or was.
    pub(crate) fn id(&self) -> runtime::Id {
        self.id
    }

    /// The runtime, while it is lent.
    pub(crate) fn get(&self) -> Option<Handle> {
        self.read().clone()
    }

    /// Does something with it while it is lent.
    pub(crate) fn run<R>(&self, with: impl FnOnce(&Handle) -> R) -> Option<R> {
        self.read().as_ref().map(with)
    }

    /// Spawns a task there while it is lent; else drops it.
    pub(crate) fn spawn<F>(&self, task: F) -> Option<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.get().map(|runtime| runtime.spawn(task))
    }

    /// Sleeps by its clock. When it is given back there is nothing left to wait for: then for ever.
    pub(crate) fn sleep(&self, limit: Duration) -> Sleep {
        let asleep = self.run(|runtime| Sleep::on(runtime, limit));
        asleep.unwrap_or(Sleep(None))
    }

    /// Gives it back.
    pub(crate) fn give_back(&self) {
        let runtime = self.runtime.write();
        *runtime.unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits, where nobody has a share in the thread any more, until it has let go of everything.
    pub(crate) async fn over(&self) {
        if self.share.strong_count() == 0 {
            // If it has gone with its thread, that is over.
            let _ = self.over.clone().wait_for(|over| *over).await;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Handle>> {
        self.runtime.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose reactor is waited on here: that of the runtime, if it has one, else that of the crate's
/// thread, and then with a share in it.
pub(crate) fn home() -> io::Result<(Handle, Option<Arc<Keeper>>)> {
    if let Some(runtime) = Handle::try_current().ok().filter(reactor::has_io) {
        return Ok((runtime, None));
    }
    let keeper = Keeper::get()?;
    Ok((keeper.handle().clone(), Some(keeper)))
}

/// A sleep by the clock of the keeper's runtime, for whoever may have none. Where that runtime ends
/// first the sleep does not: what was waited for beside it is decided then, and about to be told.
#[derive(Debug)]
pub(crate) struct Sleep(Option<JoinHandle<()>>);

impl Sleep {
    /// Begins here and now.
    pub(crate) fn on(keeper: &Handle, limit: Duration) -> Self {
        let asleep = {
            let _entered = keeper.enter();
            tokio::time::sleep(limit)
        };
        Self(Some(keeper.spawn(asleep)))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(asleep) = &mut self.0 else {
            return Poll::Pending;
        };
        let slept = ready!(Pin::new(asleep).poll(context));
        self.0 = None;
        if slept.is_ok() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(asleep) = &self.0 {
            asleep.abort();
        }
    }
}

fn keep(
    started: &mpsc::SyncSender<io::Result<Handle>>,
    mut ended: tokio::sync::mpsc::Receiver<Infallible>,
) {
    signal::block_all_on_this_thread();
    unsent::is_the_writer();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            // The starter waits for this answer while it holds the slot.
            let _ = started.send(Err(error));
            return;
        }
    };
    if started.send(Ok(runtime.handle().clone())).is_err() {
        return;
    }
    runtime.block_on(ended.recv());
    runtime.shutdown_background();
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
}
