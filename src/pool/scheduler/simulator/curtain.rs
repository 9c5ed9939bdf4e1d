//! How a run comes to its end: the callers are through, and what must be true then.

use std::time::Duration;

use super::maps::Map;
use super::plan::{Ending, Flaw};
use super::process::Hands;
use super::rules::require;
use super::terms::{WAITING, with_retries};
use super::visits::Wish;
use super::world::{Office, World};
use crate::pool::map::roster::Ending as Loss;
use crate::pool::rooms::CallSpec;
use crate::pool::scheduler::{Event, Retry};

/// A pool that was closed, with nothing left to do, has ended after this.
const LEAVING: Duration = Duration::from_secs(2);
/// All that may delay the jobs of a pool without faults, beyond their own lengths.
const HEALING: Duration = Duration::from_secs(120);

impl World<'_> {
    /// The callers are through.
    pub(super) fn curtain(&mut self) {
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
            let limited_visit = |visit| self.visits.get(visit).planned.spec.timeout.is_some();
            if self.processes[index].stopped_unseen(limited, limited_visit) {
                self.go_on(index);
            }
        }
        self.give_up_endless_maps();
        let unanswered: Vec<_> = self.ledger.unanswered().collect();
        for job in unanswered {
            let planned = self.ledger.planned(job);
            if planned.spec.timeout.is_none() && planned.length > HEALING {
                self.abort(job);
            }
        }
        let visits: Vec<_> = self.visits.unanswered().collect();
        for visit in visits {
            let planned = self.visits.get(visit).planned;
            if planned.spec.timeout.is_none() && planned.work.length > HEALING {
                self.wish(visit, Wish::Abort);
            }
        }
        for _ in 0..3 {
            self.submit_plain();
        }
        for _ in 0..2 {
            self.calm_visit();
        }
        self.read_all();
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

    /// An async call that any pool can serve.
    fn calm_visit(&mut self) {
        let mut planned = self.plan.visit(self.now, &mut self.rng);
        let work = &mut planned.work;
        work.length = work.length.min(Duration::from_millis(1));
        (work.flaw, work.grows) = (Flaw::None, false);
        // Each run of those who are in its room may take it with them, and so may each of the workers
        // that are there, of which some are stopped.
        let visits = self.visits.unanswered();
        let retries = visits.map(|visit| self.visits.get(visit).planned.spec.retry.times());
        let runs: u32 = retries.map(|times| times + 1).sum();
        let workers = self.processes.iter().filter(|process| !process.dead);
        planned.spec = CallSpec {
            priority: planned.spec.priority,
            retry: Retry::new(runs + workers.count() as u32),
            ..CallSpec::default()
        };
        let visit = self.submit_visit(planned);
        self.plain_visits.extend(visit);
    }

    /// How long all that is pending can take, one after the other.
    fn at_most(&self) -> Duration {
        let jobs = self.ledger.unanswered().map(|job| self.ledger.planned(job));
        let runs = jobs.map(|planned| {
            let limit = planned.spec.timeout.unwrap_or(Duration::from_secs(5));
            let run = planned.length.min(limit) + self.plan.rules.abort_grace + WAITING;
            with_retries(planned.spec.retry, run)
        });
        let visits = self.visits.unanswered();
        let visits = visits.map(|visit| {
            let planned = self.visits.get(visit).planned;
            let limit = planned.spec.timeout.unwrap_or(Duration::from_secs(5));
            let rules = self.plan.rooms;
            let run = planned.work.length.min(limit) + rules.grace + rules.yield_limit + WAITING;
            with_retries(planned.spec.retry, run)
        });
        runs.chain(visits).sum::<Duration>() + self.maps_at_most() + HEALING
    }

    /// Where workers come and go by themselves, an idle pool is not watched for long.
    pub(super) fn look_around(&mut self) {
        if self.plan.rules.renewal.max_age.is_none() || self.now >= self.quiet_by {
            return;
        }
        let pause = Duration::from_millis(500);
        let open = self.ledger.open_count() + self.visits.open_count();
        if open > 0 || self.open_map_left().is_some() {
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
        self.visits
            .check_all_answered("when the faults have stopped");
        self.read_all();
        self.check_maps_ended();
        if !self.starts.hopeless && self.starts.loss.is_none() {
            for job in std::mem::take(&mut self.plain) {
                self.ledger.check_served(job);
            }
            for visit in std::mem::take(&mut self.plain_visits) {
                self.visits.check_served(visit);
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

    /// Maps whose items would run for ever lose their readers, and what runs of them is ended.
    fn give_up_endless_maps(&mut self) {
        self.hurry();
        for index in 0..self.maps.len() {
            let map = &self.maps[index];
            let endless = map.works().any(|work| work.length > HEALING);
            if map.spec.timeout.is_some() || !endless {
                continue;
            }
            self.abandon_by(index, Loss::Abort);
            let open: Vec<_> = self.ledger.unanswered().collect();
            for job in open {
                if self
                    .chunks
                    .get(&job)
                    .is_some_and(|chunk| chunk.map == index)
                {
                    if let Some(key) = self.ledger.abort(job) {
                        self.tell(Event::Abort(key));
                    }
                }
            }
        }
    }

    /// How long all that is left of the maps can take, one after the other.
    fn maps_at_most(&self) -> Duration {
        let runs = self.maps.iter().flat_map(|map| {
            let limit = map.spec.timeout.unwrap_or(Duration::from_secs(5));
            let grace = self.plan.rules.abort_grace;
            let once = move |length: Duration| length.min(limit) + grace + WAITING;
            map.works()
                .map(move |work| with_retries(map.retry, once(work.length)))
        });
        runs.sum()
    }

    /// Everybody reads what there is.
    fn read_all(&mut self) {
        self.hurry();
        for index in 0..self.maps.len() {
            self.read_map(index);
        }
        self.deliver();
    }

    /// Everybody reads to the end; there is one, however the pool has ended.
    pub(super) fn read_to_the_end(&mut self) {
        loop {
            let given = |world: &Self| world.maps.iter().map(|map| map.given).sum::<usize>();
            let before = given(self);
            self.read_all();
            self.read_all();
            if given(self) == before {
                break;
            }
        }
        self.check_maps_ended();
        require(self.core.held == 0, "nothing is held in the end", || {
            format!("{}", self.core.held)
        });
        self.check_nothing_left();
    }

    fn open_map_left(&self) -> Option<&Map> {
        self.maps.iter().find(|map| !map.abandoned && !map.ended)
    }

    fn check_maps_ended(&self) {
        let left = self.open_map_left();
        require(left.is_none(), "every map comes to its end", || {
            format!("{left:#?}")
        });
    }
}
