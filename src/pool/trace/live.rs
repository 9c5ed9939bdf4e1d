//! The spans of calls, and what there is to tell of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Id, Span, dispatcher, field};

use super::{End, replay};
use crate::supervisor::slot::Slot;
use crate::task::head::Caller;
use crate::task::panic;
use crate::task::record::{Record, number_of};
use crate::wire::packed::Packed;

/// Where a call is submitted: the span there, if anybody listens at all.
#[derive(Clone, Debug)]
pub(crate) struct Origin(Option<Box<Span>>);

impl Origin {
    /// Here.
    pub(crate) fn here() -> Self {
        // One load where nobody listens.
        let heard = LevelFilter::current() != LevelFilter::OFF;
        Self(heard.then(|| Box::new(Span::current())))
    }
}

/// The span of a call, if anybody wants to see it, or what it logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallTrace(Option<Arc<Traced>>);

#[derive(Debug)]
struct Traced {
    span: Span,
    caller: Span,
    /// Who listened where the call was submitted: it is told elsewhere.
    dispatch: Dispatch,
    /// The process of which the span says that it runs there; zero for none yet.
    pid: AtomicU32,
}

impl CallTrace {
    /// Begins it: of a call, or of so many items of a map.
    pub(crate) fn begin(origin: &Origin, name: Option<&str>, items: u32) -> Self {
        let Some(caller) = origin.0.as_deref() else {
            return Self(None);
        };
        let span = tracing::info_span!(
            target: "procpool",
            parent: caller,
            "call",
            call = field::Empty,
            name,
            items = (items > 0).then_some(items),
            worker = field::Empty,
            pid = field::Empty,
            attempt = field::Empty,
            outcome = field::Empty,
            waited = field::Empty,
            ran = field::Empty,
        );
        Self(Some(Arc::new(Traced {
            span,
            caller: caller.clone(),
            dispatch: dispatcher::get_default(Dispatch::clone),
            pid: AtomicU32::new(0),
        })))
    }

    /// Whether there is one.
    pub(crate) fn is_live(&self) -> bool {
        self.0.is_some()
    }

    /// What its worker is told; nothing where neither the call nor its caller has a span.
    pub(crate) fn caller(&self) -> Option<Caller<'_>> {
        let traced = self.0.as_ref()?;
        let (Some(metadata), Some(id)) = (traced.caller.metadata(), traced.caller.id()) else {
            return (!traced.span.is_none()).then(Caller::default);
        };
        Some(Caller {
            id: id.into_u64(),
            name: metadata.name(),
            target: metadata.target(),
            level: number_of(*metadata.level()),
        })
    }

    /// The call has got its number.
    pub(crate) fn numbered(&self, call: u64) {
        if let Some(traced) = &self.0 {
            traced.span.record("call", call);
        }
    }

    /// The call was not accepted.
    pub(crate) fn refused(&self, why: &'static str) {
        if let Some(traced) = &self.0 {
            traced.span.record("outcome", why);
        }
    }

    /// The call runs on the thread of that name of this process.
    pub(crate) fn runs_on(&self, thread: impl FnOnce() -> String) {
        if let Some(traced) = &self.0 {
            traced.place(&thread(), std::process::id());
        }
    }

    /// Does the call's work on a thread of this process: what is logged is inside of the span, and goes
    /// to who listened where the call was submitted.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(traced) = &self.0 else {
            return work();
        };
        let Traced { span, dispatch, .. } = &**traced;
        let _listening = dispatcher::set_default(dispatch);
        // A subscriber that panics keeps nobody from the work. Two panics at once would be too many, so
        // each step is contained by itself, and no guard is there to be dropped meanwhile.
        let id = span.id();
        panic::contain(|| id.iter().for_each(|id| dispatch.enter(id)));
        let done = work();
        panic::contain(|| id.iter().for_each(|id| dispatch.exit(id)));
        done
    }

    /// The call has ended like this.
    pub(crate) fn ended(&self, end: &End<'_>) {
        if let Some(traced) = &self.0 {
            traced.ended(end);
        }
    }

    /// The call is over; the span is when nobody else has it.
    pub(crate) fn end(self) {}

    /// The span, as the parent of an event; where nobody wants to see it, that of the caller.
    pub(crate) fn id(&self) -> Option<Id> {
        let traced = self.0.as_ref()?;
        traced.span.id().or_else(|| traced.caller.id())
    }
}

impl Traced {
    /// It runs, or has run, in that worker.
    fn place(&self, worker: &str, pid: u32) {
        if self.pid.swap(pid, Ordering::Relaxed) != pid {
            self.span.record("worker", worker);
            self.span.record("pid", pid);
        }
    }

    fn ended(&self, end: &End<'_>) {
        let span = &self.span;
        if let Some(slot) = end.slot {
            self.place(&slot.name, slot.child.pid());
        }
        if end.attempt > 0 {
            span.record("attempt", end.attempt);
        }
        span.record("outcome", end.outcome);
        for (name, time) in [("waited", end.waited), ("ran", end.ran)] {
            if let Some(time) = time {
                span.record(name, field::debug(time));
            }
        }
    }
}

/// What there is to tell, in its order.
#[derive(Debug, Default)]
pub(crate) struct Tales {
    tales: Vec<Tale>,
    /// Whose turn it is then.
    turn: u64,
}

/// Has tales told in the order in which they were noted, by whatever threads: else a result could
/// be told by one while another has not come to what was logged before it.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    /// The next turn.
    next: Mutex<u64>,
    told: Condvar,
}

/// Nobody waits longer for his turn: a subscriber may take its time, and may itself wait for what
/// the next one would tell. What is told after that is out of order, and nothing hangs.
const PATIENCE: Duration = Duration::from_millis(100);

impl Teller {
    /// Tells, which runs code of the program's subscriber.
    pub(crate) fn tell(&self, tales: Tales) {
        let Tales { tales, turn } = tales;
        if tales.is_empty() {
            return;
        }
        let before = |next: &mut u64| *next < turn;
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(next, PATIENCE, before);
        drop(waited);
        let _after = After(self, turn);
        tales.into_iter().for_each(Tale::tell);
    }
}

/// The turn after this one comes, also if a subscriber panics.
struct After<'a>(&'a Teller, u64);

impl Drop for After<'_> {
    fn drop(&mut self) {
        let Self(teller, turn) = self;
        let mut next = teller.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(*turn + 1);
        teller.told.notify_all();
    }
}

#[derive(Debug)]
enum Tale {
    Logged {
        trace: Option<Arc<Traced>>,
        slot: Arc<Slot>,
        record: Packed,
        dropped: u64,
    },
    Ended {
        trace: Arc<Traced>,
        slot: Option<Arc<Slot>>,
        outcome: &'static str,
        attempt: u32,
        waited: Option<Duration>,
        ran: Option<Duration>,
    },
}

impl Tales {
    /// A worker has logged something, in that call, after so many records that it had to drop.
    ///
    /// # Errors
    ///
    /// When it is no record.
    pub(crate) fn logged(
        &mut self,
        trace: Option<&CallTrace>,
        slot: &Arc<Slot>,
        record: Packed,
        dropped: u64,
    ) -> Result<(), String> {
        if !record.is_empty() && read(&record).is_none() {
            return Err("a record that says nothing".to_owned());
        }
        self.tales.push(Tale::Logged {
            trace: trace.and_then(|trace| trace.0.clone()),
            slot: slot.clone(),
            record,
            dropped,
        });
        Ok(())
    }

    /// A call has ended.
    pub(crate) fn ended(&mut self, trace: &CallTrace, end: End<'_>) {
        let End {
            slot,
            outcome,
            attempt,
            waited,
            ran,
        } = end;
        self.tales.extend(trace.0.clone().map(|trace| Tale::Ended {
            trace,
            slot: slot.cloned(),
            outcome,
            attempt,
            waited,
            ran,
        }));
    }

    /// Nothing more is noted here; the turns are counted there.
    pub(crate) fn take_turn(&mut self, turns: &mut u64) {
        if !self.tales.is_empty() {
            self.turn = *turns;
            *turns += 1;
        }
    }
}

impl Tale {
    fn tell(self) {
        match self {
            Self::Logged {
                trace,
                slot,
                record,
                dropped,
            } => tell_record(trace.as_deref(), &slot, &record, dropped),
            Self::Ended {
                trace,
                slot,
                outcome,
                attempt,
                waited,
                ran,
            } => {
                trace.ended(&End {
                    slot: slot.as_ref(),
                    outcome,
                    attempt,
                    waited,
                    ran,
                });
            }
        }
    }
}

fn tell_record(trace: Option<&Traced>, slot: &Slot, record: &[u8], dropped: u64) {
    if dropped > 0 {
        tracing::warn!(
            target: "procpool",
            worker = slot.name,
            pid = slot.child.pid(),
            dropped,
            "a worker has logged faster than it could be read",
        );
    }
    let Some(record) = read(record) else {
        return;
    };
    let Some(trace) = trace else {
        // Nobody's: logged between two calls, or by a thread that has outlived its own.
        let pid = slot.child.pid();
        let span = tracing::info_span!(target: "procpool", "worker", worker = slot.name, pid);
        return dispatcher::get_default(|dispatch| replay::replay(&record, dispatch, span.id()));
    };
    trace.place(&slot.name, slot.child.pid());
    let parent = trace.span.id().or_else(|| trace.caller.id());
    replay::replay(&record, &trace.dispatch, parent);
}

fn read(bytes: &[u8]) -> Option<Record<'_>> {
    let record: Record<'_> = postcard::from_bytes(bytes).ok()?;
    record.is_sound().then_some(record)
}
