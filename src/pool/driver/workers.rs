//! Starting workers, having them served, killing them, and letting go of everything at the end.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::Driver;
use super::state::State;
use crate::pool::events::PoolEvent;
use crate::pool::scheduler::{Event, StartFailure, WorkerId};
use crate::process::StartError;
use crate::supervisor::slot::{Server, Slot};
use crate::supervisor::start::start;
use crate::sys::clock::Moment;

/// How long the end waits for those who serve workers on the pool's runtime to have let go of them.
const LET_GO: Duration = Duration::from_secs(1);

impl Driver {
    /// From now on the crate's own thread serves the workers as well: somebody waits, and it is not
    /// sure that anybody drives the pool's runtime.
    pub(crate) fn help(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.helping, true) {
            return;
        }
        for slot in state.slots.iter().flatten() {
            self.serve(slot, Server::Keeper);
        }
    }

    pub(super) fn start_worker(&self, state: &mut State, worker: WorkerId) {
        let Some(launcher) = state.launcher.clone() else {
            return;
        };
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        state.counts.started += 1;
        let task = self.keeper.spawn(async move {
            let start = start(&launcher, &driver.plan.recipe, worker.place, worker.number);
            // Whatever goes wrong, somebody waits to be told.
            let started = AssertUnwindSafe(start).catch_unwind().await;
            let panicked = |_| {
                Err(StartError::system(
                    "start a worker",
                    &io::Error::other("panic"),
                ))
            };
            let started = started.unwrap_or_else(panicked);
            drop(launcher);
            driver.started(worker, started);
        });
        state.starts[worker.place] = task.map(|task| (worker.number, task.abort_handle()));
    }

    /// A start is over. One that was given up meanwhile leaves nothing: its worker is killed.
    fn started(&self, worker: WorkerId, started: Result<Slot, StartError>) {
        // Logged without the lock: a subscriber may do anything.
        if let Err(error) = &started {
            tracing::warn!(target: "procpool", %error, "a worker could not be started");
        }
        let now = Moment::now();
        let mut state = self.lock();
        let known = state.starts[worker.place]
            .as_ref()
            .is_some_and(|(number, _)| *number == worker.number);
        if !known {
            drop(state);
            return started.iter().for_each(|slot| slot.child.kill_group());
        }
        state.starts[worker.place] = None;
        match started {
            Ok(slot) => {
                let slot = Arc::new(slot);
                let replaces = state.ended.remove(&worker.place);
                replaces
                    .iter()
                    .for_each(|_| state.counts.unsaid.restarted());
                self.hub.note(|| PoolEvent::WorkerReady {
                    pid: slot.child.pid(),
                    name: Arc::from(&*slot.name),
                    replaces,
                });
                self.serve(&slot, Server::Home);
                if state.helping {
                    self.serve(&slot, Server::Keeper);
                }
                state.slots[worker.place] = Some(slot);
                if state.scheduler.refusal().is_none() {
                    state.start_error = None;
                }
                state.scheduler.handle(now, Event::Ready(worker));
            }
            Err(error) => {
                let failure = if error.is_mismatch() {
                    StartFailure::Permanent
                } else if error.is_resource() {
                    StartFailure::System
                } else {
                    StartFailure::Worker
                };
                self.hub.note(|| PoolEvent::StartFailed(error.clone()));
                state.start_error = Some(error);
                state
                    .scheduler
                    .handle(now, Event::StartFailed(worker, failure));
            }
        }
        self.perform(state, now);
        self.progress.send_modify(|_| ());
    }

    pub(super) fn serve(&self, slot: &Arc<Slot>, server: Server) {
        // A pool that the crate's own thread drives has one server for each worker, for a runtime
        // takes a descriptor only once.
        let server = if self.plan.home.id() == self.keeper.id() {
            Server::Home
        } else {
            server
        };
        let Some(driver) = self.this.upgrade().filter(|_| slot.claim(server)) else {
            return;
        };
        let serving = slot.clone().serve(driver, server);
        match server {
            Server::Home => {
                let present = self.servers.enter();
                self.plan.home.spawn(async move {
                    serving.await;
                    drop(present);
                });
            }
            Server::Keeper => {
                self.keeper.spawn(serving);
            }
        }
    }

    pub(super) fn kill(&self, state: &mut State, now: Moment, worker: WorkerId) {
        state.dismissed[worker.place] = Some(worker.number);
        if let Some(slot) = state.slot(worker) {
            slot.child.kill_group();
            // Somebody has to see it off even if nobody drives the pool's runtime.
            self.serve(slot, Server::Keeper);
            return;
        }
        if let Some((_, start)) = state.starts[worker.place].take() {
            start.abort();
            state
                .scheduler
                .handle(now, Event::StartFailed(worker, StartFailure::Worker));
        }
    }

    /// When the pool is finished: waits until the crate's thread has let go of what it had for it.
    pub(crate) async fn let_go(&self) {
        self.keeper.over().await;
    }

    /// No job and no worker is left: lets go of the fork server and of the crate's thread.
    pub(super) fn finish(&self, state: &mut State) {
        let launcher = state.launcher.take();
        let keeper = state._keeper.take();
        let slabs = state._slabs.take();
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        self.keeper.spawn(async move {
            drop(slabs);
            if let Some(launcher) = launcher {
                launcher.close().await;
            }
            if let Some(place) = &driver.in_place {
                place.finalize().await;
            }
            driver.tellers.all_gone().await;
            // Nobody may be driving the pool's runtime.
            let _ = tokio::time::timeout(LET_GO, driver.servers.all_gone()).await;
            // Its thread is this one, which goes on for as long as this does.
            driver.keeper.give_back();
            drop(keeper);
            driver
                .progress
                .send_modify(|lifetime| lifetime.finished = true);
            driver.hub.close();
            driver.timer.notify_one();
            driver.busy.notify_one();
        });
    }
}
