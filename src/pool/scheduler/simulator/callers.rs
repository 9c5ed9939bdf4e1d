//! What the pool's callers do, and how a run comes to its end.

use std::time::Duration;

use super::plan::Ending;
use super::process::Hands;
use super::rules::require;
use super::terms::{WAITING, with_retries};
use super::world::{Office, World};
use crate::pool::scheduler::Event;

/// A pool that was closed, with nothing left to do, has ended after this.
const LEAVING: Duration = Duration::from_secs(2);
/// All that may delay the jobs of a pool without faults, beyond their own lengths.
const HEALING: Duration = Duration::from_secs(120);

impl World<'_> {
    /// Some caller does something.
    pub(super) fn act(&mut self) {
        if self.plan.acts == 0 {
            return self.curtain();
        }
        self.plan.acts -= 1;
        if self.rng.percent(self.plan.regrets) {
            self.regret();
        } else {
            match self.rng.below(200) {
                0 => self.close(),
                1 => self.cancel_pending(),
                2 => self.terminate(),
                3 | 4 => self.tell(Event::StartAll),
                5 => (0..70).for_each(|_| self.change_their_mind()),
                6 | 7 => self.resize(),
                8..100 => self.submit(),
                _ => (0..self.rng.below(12)).for_each(|_| self.submit()),
            }
        }
        let pause = self.rng.up_to(self.plan.pause);
        let wake = self.core.wake_at().filter(|_| self.rng.percent(10));
        // Now and then just when the core has something to do as well.
        self.office
            .enter(wake.unwrap_or(self.now + pause), Office::Act);
    }

    /// There may be more workers, or fewer.
    fn resize(&mut self) {
        let workers = 1 + self.rng.below(8);
        self.drain();
        self.starts.places = workers;
        self.ledger.turns.forget_homes();
        for process in &mut self.processes {
            process.surplus |= process.id.place >= workers;
        }
        self.tell(Event::Resize(workers));
    }

    /// A call is wanted and then not.
    fn change_their_mind(&mut self) {
        self.submit();
        if let Some(job) = self.ledger.len().checked_sub(1) {
            self.cancel(job);
        }
    }

    fn submit(&mut self) {
        let planned = self.plan.call(self.now, &mut self.rng);
        self.drain();
        let job = self.ledger.open(planned, self.now);
        self.trace
            .note(self.now, || format!("event   submit job {job} {planned:?}"));
        match self.core.submit(self.now, planned.spec, job) {
            Ok(key) => self.ledger.accepted(job, key),
            Err((refusal, job)) => {
                require(self.closed, "only a closed pool refuses", || {
                    format!("{refusal:?} {job}")
                });
                return self.ledger.refused();
            }
        }
        require(!self.closed, "a closed pool refuses", || {
            format!("job {job}")
        });
        self.promise(job, &planned.spec);
        self.longest_line = self.longest_line.max(self.core.waiting());
        self.drain();
        self.check_core();
    }

    /// A caller wants one of the latest calls back, or at an end.
    fn regret(&mut self) {
        let count = self.ledger.len();
        let open: Vec<_> = self.ledger.unanswered().collect();
        let job = match (count, &*open) {
            (0, _) => return,
            (_, []) => count - 1 - self.rng.below(count.min(20)),
            (_, open) => self.rng.pick(open),
        };
        match self.rng.percent(50) {
            true => self.cancel(job),
            false => self.abort(job),
        }
    }

    fn cancel(&mut self, job: usize) {
        if let Some(key) = self.ledger.cancel(job) {
            self.tell(Event::Cancel(key));
            self.ledger.check_cancelled(job);
        }
    }

    fn abort(&mut self, job: usize) {
        if let Some(key) = self.ledger.abort(job) {
            self.tell(Event::Abort(key));
            self.ledger.check_aborted(job, &self.processes);
        }
    }

    fn close(&mut self) {
        self.tell(Event::Close);
        require(self.closed, "close closes", String::new);
    }

    fn cancel_pending(&mut self) {
        self.ledger.cancelled_pending = true;
        self.tell(Event::CancelPending);
        require(self.closed, "cancel_pending closes", String::new);
        self.ledger.check_nothing_waits();
    }

    fn terminate(&mut self) {
        self.drain();
        self.ledger.terminated = true;
        self.tell(Event::Terminate);
        require(self.closed, "terminate closes", String::new);
        self.ledger.check_all_over(&self.processes);
    }

    /// The callers are through.
    fn curtain(&mut self) {
        match self.plan.ending {
            Ending::Safety => {
                self.terminate();
                self.office.enter(self.now + LEAVING, Office::Over);
            }
            Ending::Liveness => {
                self.calm_down();
                self.quiet_by = self.now + self.at_most();
                self.office.enter(self.quiet_by, Office::Quiet);
                self.look_around();
            }
        }
    }

    /// The faults stop. What nobody could tell from honest work is put right as well: stopped
    /// workers whose call has no limit, and calls that would run for ever.
    fn calm_down(&mut self) {
        self.trace.note(self.now, || "the faults stop".into());
        self.calm = true;
        for index in 0..self.processes.len() {
            let limited = |job| self.ledger.planned(job).spec.timeout.is_some();
            if self.processes[index].stopped_unseen(limited) {
                self.go_on(index);
            }
        }
        let unanswered: Vec<_> = self.ledger.unanswered().collect();
        for job in unanswered {
            let planned = self.ledger.planned(job);
            if planned.spec.timeout.is_none() && planned.length > HEALING {
                self.abort(job);
            }
        }
        for _ in 0..3 {
            self.submit_plain();
        }
    }

    /// A call that any pool can serve.
    fn submit_plain(&mut self) {
        let mut planned = self.plan.call(self.now, &mut self.rng);
        planned.length = planned.length.min(Duration::from_millis(1));
        planned.grows = false;
        (planned.spec.timeout, planned.spec.queue_timeout) = (None, None);
        planned.spec.deadline = None;
        let job = self.ledger.open(planned, self.now);
        match self.core.submit(self.now, planned.spec, job) {
            Ok(key) => {
                self.ledger.accepted(job, key);
                self.plain.push(job);
            }
            Err(_) => self.ledger.refused(),
        }
        self.longest_line = self.longest_line.max(self.core.waiting());
        self.drain();
    }

    /// How long all that is pending can take, one after the other.
    fn at_most(&self) -> Duration {
        let jobs = self.ledger.unanswered().map(|job| self.ledger.planned(job));
        let runs = jobs.map(|planned| {
            let limit = planned.spec.timeout.unwrap_or(Duration::from_secs(5));
            let run = planned.length.min(limit) + self.plan.rules.abort_grace + WAITING;
            with_retries(&planned.spec, run)
        });
        runs.sum::<Duration>() + HEALING
    }

    /// Where workers come and go by themselves, an idle pool is not watched for long.
    pub(super) fn look_around(&mut self) {
        if self.plan.rules.renewal.max_age.is_none() || self.now >= self.quiet_by {
            return;
        }
        let pause = Duration::from_millis(500);
        if self.ledger.open_count() > 0 {
            self.office.enter(self.now + pause, Office::LookAround);
        } else {
            self.quiet_by = self.now + 10 * pause;
            self.office.enter(self.quiet_by, Office::Quiet);
        }
    }

    /// Nothing is wrong any more and there was time enough.
    pub(super) fn quiet(&mut self) {
        if std::mem::replace(&mut self.was_quiet, true) {
            return;
        }
        self.drain();
        self.ledger
            .check_all_answered("when the faults have stopped");
        if !self.starts.may_give_up() && self.starts.loss.is_none() {
            for job in std::mem::take(&mut self.plain) {
                self.ledger.check_served(job);
            }
        }
        let busy = self.processes.iter().find(|process| {
            !process.dead && process.stopped.is_none() && !matches!(process.hands, Hands::Empty)
        });
        let forgotten = busy.is_some_and(|process| process.ended.is_none());
        require(!forgotten, "nobody works for nobody", || {
            format!("{busy:?}")
        });
        match self.rng.below(3) {
            0 => self.close(),
            1 => self.cancel_pending(),
            _ => self.terminate(),
        }
        self.office.enter(self.now + LEAVING, Office::Over);
    }
}
