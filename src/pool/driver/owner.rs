//! What the slots report: frames, broken words, deaths.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::slow::SlowCall;
use super::{Done, Driver, id_of, look};
use crate::pool::error::{Fault, WorkerExit};
use crate::pool::events::PoolEvent;
use crate::pool::job::Client;
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, Progress, Restart};
use crate::process::Exit;
use crate::supervisor::slot::Slot;
use crate::supervisor::{Owner, oom};
use crate::sys::clock::Moment;
use crate::sys::pidfd;
use crate::wire::codec::Frame;

/// How long a worker that has closed its response pipe may take to be dead: a process that ends
/// does the one just before the other.
const HANG_UP: Duration = Duration::from_millis(500);

impl Owner for Driver {
    type Done = Done;

    fn received(&self, slot: &Arc<Slot>, frames: &mut Vec<Frame>) -> (Done, Result<(), String>) {
        let worker = id_of(slot);
        let now = Moment::now();
        let mut state = self.lock();
        let mut done = Done {
            replies: Vec::with_capacity(frames.len()),
            ..Done::default()
        };
        let mut verdict = Ok(());
        for frame in frames.drain(..) {
            let max_frame = self.plan.recipe.max_frame;
            verdict = state.take_in(worker, now, frame, max_frame, &mut done);
            if verdict.is_err() {
                break;
            }
        }
        state.scheduler.settle(now);
        self.perform_all(&mut state, now, &mut done);
        (done, verdict)
    }

    fn deliver(&self, done: Done) {
        let Done {
            mut replies,
            news,
            unsaid,
            tales,
            again,
            slow,
            readers,
            flush,
            ring,
            rearm,
            telling,
        } = done;
        flush.iter().for_each(|slot| slot.flush());
        ring.iter().for_each(|slot| slot.ring());
        readers.into_iter().for_each(Waker::wake);
        // Room is given back before the answer is, so that who has the answer finds the room.
        replies
            .iter_mut()
            .for_each(|answered| answered.permit = None);
        // Before the answers: whoever has one finds all that was logged on the way to it.
        self.teller.tell(tales);
        self.meters.tell(unsaid);
        slow.iter().for_each(SlowCall::log);
        for (number, trace, error) in again {
            tracing::debug!(target: "procpool", parent: trace.id(), call = number, error = format_args!("{error:#}"), "a call is run again");
        }
        for answered in replies {
            if let Raw::Failed(error) = &answered.raw {
                tracing::debug!(target: "procpool", parent: answered.trace.id(), call = answered.number, error = format_args!("{error:#}"), "a call has failed");
            }
            // The span ends before its caller goes on.
            answered.trace.end();
            if let Client::Call(reply) = answered.client {
                reply.resolve(answered.raw);
            }
        }
        if self.hub.is_heard() {
            self.hub.tell();
        }
        for (owner, news) in news {
            owner.hear(news);
        }
        drop(telling);
        if rearm {
            self.timer.notify_one();
        }
    }

    fn condemned(&self, slot: &Arc<Slot>, reason: String) {
        let worker = id_of(slot);
        tracing::error!(target: "procpool", worker = slot.name, reason, "a worker broke the protocol");
        let mut state = self.lock();
        // The place may be another's by now, and what is said first says why.
        if state.slot(worker).is_some() {
            state.faults[slot.place].get_or_insert(Fault::Violation(reason));
        }
        drop(state);
        self.tell(Event::Condemned(worker));
    }

    fn hung_up(&self, slot: &Arc<Slot>) {
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        let slot = slot.clone();
        self.keeper.spawn(async move {
            let dead = tokio::time::timeout(HANG_UP, slot.child.exited()).await;
            // How it has ended may take longer to be known than that it has.
            let ended = pidfd::has_ended(slot.child.pidfd().as_fd());
            if dead.is_err() && matches!(ended, Ok(false)) {
                driver.condemned(&slot, "it closed its response pipe".to_owned());
            }
        });
    }

    fn orphaned(&self, slot: &Arc<Slot>) {
        self.tell(Event::Orphaned(id_of(slot)));
    }

    fn gone(&self, slot: &Arc<Slot>, exit: Exit) {
        let worker = id_of(slot);
        if let Some(tail) = &slot.tail {
            while tail.pump() == Some(true) {}
        }
        let oom_kills = oom::kills();
        let now = Moment::now();
        let mut state = self.lock();
        if state.slot(worker).is_none() {
            return;
        }
        let mut lost = None;
        let ours = state.dismissed[worker.place] == Some(worker.number);
        let oom_suspected = !ours && exit.signal() == Some(9) && oom_kills > state.oom_kills;
        state.oom_kills = oom_kills;
        let running = state
            .scheduler
            .running(worker)
            .map(|(_, ticket)| look(&slot.page, ticket));
        let alone = state.rooms.guests(worker) == 0;
        let ran_for = match running.filter(|_| alone) {
            Some(Progress::Running(since)) => Some(since.until(now)),
            _ => None,
        };
        let reproach = state.scheduler.reproach(worker);
        let fault = state.faults[worker.place].take();
        let fault = fault.or_else(|| Some(Fault::Violation(reproach?.to_owned())));
        let exit = WorkerExit {
            pid: slot.child.pid(),
            name: slot.name.clone(),
            exit,
            ran_for,
            stderr_tail: slot.tail.as_ref().map(|tail| tail.text()),
            oom_suspected,
            fault,
        };
        if !ours || exit.fault.is_some() {
            lost = Some(exit.clone());
            if self.plan.rules.restart == Restart::Never {
                state.breaking.get_or_insert(exit.clone());
            }
        }
        state.ended.insert(worker.place, exit.pid);
        self.hub.note(|| match &lost {
            Some(exit) => PoolEvent::WorkerLost(exit.clone()),
            None => PoolEvent::WorkerEnded(exit.clone()),
        });
        state.exits[worker.place] = Some(exit);
        state.counts.ended += 1;
        state.scheduler.handle(now, Event::Exited(worker));
        self.perform(state, now);
        if let Some(exit) = lost {
            tracing::warn!(target: "procpool", %exit, "a worker was lost");
        }
    }
}
