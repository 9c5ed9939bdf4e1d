//! What happens after a time, on the crate's own thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::driver::{Driver, Place};
use super::roster::Stand;
use crate::pool::error::Kind;
use crate::pool::events::PoolEvent;
use crate::process::Sleep;
use crate::sys::clock::Moment;
use crate::task::cancel::Asked;
use crate::task::panic;
use crate::wire::page::Request;

/// Something that happens after a time, unless this is dropped before.
pub(super) struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Driver {
    /// Closes the pool after a time and answers all that has not been started with this, unless
    /// everything is over by then.
    pub(super) fn close_and_drop_after(&self, limit: Duration, reason: Kind) {
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        let mut lifetime = self.watch();
        self.keeper.spawn(async move {
            let over = lifetime.wait_for(|lifetime| lifetime.finished);
            if tokio::time::timeout(limit, over).await.is_err() {
                driver.close_and_drop(&reason);
                driver.end_all(&Kind::ShutDown { started: true });
                driver
                    .lifetime
                    .send_modify(|lifetime| lifetime.expired = true);
            }
        });
    }

    /// Takes a call back that has not been started by then.
    pub(super) fn expire_after(&self, limit: Duration, number: u64) -> Timer {
        self.after(limit, move |driver| {
            driver.withdraw(number, &Kind::WaitedTooLong(limit));
        })
    }

    /// Ends a call by then, whether it waits or runs, of which this was the deadline.
    pub(super) fn expire_in(&self, left: Duration, limit: Duration, number: u64) -> Timer {
        self.after(left, move |driver| {
            let expired = |started| Kind::Expired { limit, started };
            if !driver.withdraw(number, &expired(false)) {
                driver.end(number, &expired(true));
            }
        })
    }

    /// Ends an async call that has run for so long.
    pub(super) fn end_after(&self, limit: Duration, number: u64) -> Timer {
        self.after(limit, move |driver| {
            driver.end(number, &Kind::RanTooLong(limit));
        })
    }

    /// Waits on the crate's thread, for whoever has no runtime.
    pub(super) fn sleep(&self, limit: Duration) -> Sleep {
        Sleep::on(&self.keeper, limit)
    }

    /// Asks a running call to come to its end after a time.
    pub(super) fn ask_after(&self, limit: Duration, number: u64, asked: Arc<Asked>) -> Timer {
        self.after(limit, move |_| asked.ask(number, Request::SoftLimit))
    }

    /// Tells of a running call after a time.
    pub(super) fn tell_after(&self, bound: Duration, number: u64, started: Moment) -> Timer {
        self.after(bound, move |driver| driver.is_slow(number, started))
    }

    fn after(&self, limit: Duration, act: impl FnOnce(&Driver) + Send + 'static) -> Timer {
        let driver = self.this.clone();
        let timer = self.keeper.spawn(async move {
            tokio::time::sleep(limit).await;
            if let Some(driver) = driver.upgrade() {
                act(&driver);
            }
        });
        Timer(timer.abort_handle())
    }

    /// A call has been running for longer than is usual; nothing is told of one that is over.
    fn is_slow(&self, number: u64, started: Moment) {
        let state = self.lock();
        let Some(Stand::Running(place, _)) = state.roster.stand(number) else {
            return;
        };
        let (name, trace) = match state.guests.get(&number) {
            Some(guest) => (guest.name.clone(), guest.trace()),
            None => {
                let Place { call, trace, .. } = &state.places[place];
                (call.clone(), trace.clone())
            }
        };
        let ran_for = started.until(Moment::now());
        self.hub.note(|| PoolEvent::SlowCall {
            task: number,
            name: name.clone(),
            pid: std::process::id(),
            ran_for,
        });
        drop(state);
        self.tell();
        let worker = self.thread_name(place);
        // A subscriber may do anything, and this is not a thread to be lost.
        panic::contain(move || {
            tracing::warn!(
                target: "procpool",
                parent: trace.id(),
                call = number,
                name = name.as_deref(),
                worker,
                pid = std::process::id(),
                ?ran_for,
                "a call is slow",
            );
            trace.end();
        });
    }
}
