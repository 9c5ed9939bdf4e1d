//! How long workers stay with which nothing is wrong, and rules about that: who is old, idle, too
//! large or too many goes, one at a time where that was planned, and nobody else does.

use std::time::Duration;

use super::rules::require;
use super::world::{Office, World};
use crate::pool::scheduler::Event;
use crate::pool::scheduler::place::Phase;
use crate::sys::clock::Moment;

/// How often the parent looks at the memory of its workers.
const MEASURE: Duration = Duration::from_millis(250);

impl World<'_> {
    /// The parent looks at the memory of its workers.
    pub(super) fn measure(&mut self) {
        let max = self.plan.rules.renewal.max_memory;
        let Some(max) = max.filter(|_| !self.finished) else {
            return;
        };
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            // What is as it was is mostly not worth the telling.
            let told = process.grown || self.rng.percent(10);
            if !process.ready || process.reaped || !told {
                continue;
            }
            let (id, grown) = (process.id, process.grown);
            let used = if grown { max + 1 } else { max };
            self.tell(Event::Measured(id, used));
            let process = &self.processes[index];
            require(
                !grown || process.killed || process.dead || !process.runs(),
                "what grows too large is ended",
                || format!("{process:?}"),
            );
        }
        self.office.enter(self.now + MEASURE, Office::Measure);
    }

    /// At a tick: nobody stays longer than it may.
    pub(super) fn check_ages(&self, now: Moment) {
        let Some(max_age) = self.plan.rules.renewal.max_age.filter(|_| !self.closed) else {
            return;
        };
        let workers = self.core.places.iter();
        let ready = workers
            .filter_map(|place| place.worker.as_ref())
            .filter(|worker| worker.phase == Phase::Ready);
        for worker in ready {
            let process = &self.processes[worker.id.number as usize - 1];
            require(
                process.ready_at + max_age > now,
                "nobody stays longer than it may",
                || format!("{worker:?}"),
            );
        }
    }

    /// At a tick: who has nothing to do leaves in time, as far as it may.
    pub(super) fn check_idle(&self, now: Moment) {
        let Some(timeout) = self.plan.rules.idle_timeout.filter(|_| !self.closed) else {
            return;
        };
        let workers = self.core.places.iter();
        let ready = workers
            .filter_map(|place| place.worker.as_ref())
            .filter(|worker| worker.phase == Phase::Ready);
        let least = self.plan.rules.min_workers.min(self.starts.places);
        for worker in ready.clone().filter(|worker| worker.is_idle()) {
            let process = &self.processes[worker.id.number as usize - 1];
            let since = process.touched_at.max(self.last_ready);
            require(
                ready.clone().count() <= least || since + timeout > now,
                "nobody is idle for longer than it may be",
                || format!("{worker:?}"),
            );
        }
    }

    /// Who has resigned is on its way out.
    pub(super) fn check_resignations(&self) {
        let workers = self.core.places.iter();
        for worker in workers.filter_map(|place| place.worker.as_ref()) {
            let process = &self.processes[worker.id.number as usize - 1];
            let resigned = process.resignation;
            let stays = matches!(worker.phase, Phase::Starting | Phase::Ready);
            require(
                !(resigned && stays),
                "a worker that has resigned is renewed",
                || format!("{worker:?}"),
            );
            let holds = || !worker.ahead.is_empty() && process.page.waiting() > 0;
            require(
                !(resigned && holds()),
                "what a worker that has resigned has not begun goes elsewhere",
                || format!("{process:?}"),
            );
        }
    }

    /// Who finishes without need is being renewed by plan, and nobody else is.
    pub(super) fn check_plans(&mut self) {
        if self.closed {
            return;
        }
        let now = self.now;
        let (max_age, idle) = (
            self.plan.rules.renewal.max_age,
            self.plan.rules.idle_timeout,
        );
        let leaving: Vec<_> = (self.core.places.iter())
            .filter_map(|place| Some((place.worker.as_ref()?, place.wanted)))
            .filter(|(worker, _)| matches!(worker.phase, Phase::Finishing | Phase::Retiring))
            .map(|(worker, wanted)| (worker.id.number as usize - 1, wanted))
            .collect();
        for (index, wanted) in leaving {
            let process = &mut self.processes[index];
            let old = max_age.is_some_and(|age| process.ready_at + age <= now);
            // An item that was ended while its large answer was read counts twice: it cannot be told
            // from the one after it.
            let ended = process.ended.is_some();
            let spent = process.tasks_left == 0 || old || process.grown || ended;
            let busy_at = process.ready_at.max(process.assigned_at);
            let idle = !wanted && idle.is_some_and(|idle| busy_at + idle <= now);
            let told = process.orphaned || process.resignation || process.surplus;
            let needed = told || spent || idle;
            // What it was when it was seen first counts.
            if std::mem::replace(&mut process.leaves, true) || needed {
                continue;
            }
            process.planned = true;
            let under_way = |other: &usize| {
                let place = self.processes[*other].id.place;
                let after = &self.processes[other + 1..];
                let replaced = after
                    .iter()
                    .any(|next| next.id.place == place && next.ready);
                let planned = self.processes[*other].planned && !self.processes[*other].surplus;
                planned && !replaced
            };
            let others = (0..self.processes.len()).filter(|other| *other != index);
            let other = others.clone().find(under_way);
            require(
                other.is_none(),
                "one worker at a time is renewed by plan",
                || format!("{index} and {other:?}"),
            );
        }
    }
}
