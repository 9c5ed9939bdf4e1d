//! Subjects that take turns.

use std::time::Duration;

use crate::figure::{Against, Figure};
use crate::goals::OURS;
use crate::statistics::Spread;

/// One of those who do the same work.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    round: Box<dyn FnMut() -> f64>,
}

impl Subject {
    /// One whose rounds each measure by themselves.
    pub(crate) fn new(name: &'static str, round: impl FnMut() -> f64 + 'static) -> Self {
        Self {
            name,
            round: Box::new(round),
        }
    }

    /// One that does something so often in a round that it takes about `slice`: `pass` is told how often, and
    /// tells how long that took; `value` makes a figure of the time for one, in seconds.
    pub(crate) fn repeated(
        name: &'static str,
        slice: Duration,
        value: impl Fn(f64) -> f64 + 'static,
        mut pass: impl FnMut(u64) -> Duration + 'static,
    ) -> Self {
        // Warms up, too.
        let mut count = 1;
        while pass(count) < slice / 2 {
            count *= 2;
        }
        Self::new(name, move || {
            value(pass(count).as_secs_f64() / count as f64)
        })
    }
}

/// Has them measured in so many rounds. Each goes first in some of them: what one leaves behind, in caches and
/// with the scheduler, is not always for the same one to find.
pub(crate) fn interleave(subjects: &mut [Subject], rounds: usize) -> Vec<Vec<f64>> {
    let mut values = vec![Vec::with_capacity(rounds); subjects.len()];
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let index = (round + turn) % subjects.len();
            values[index].push((subjects[index].round)());
        }
    }
    values
}

/// The figures of all subjects: ours beside each of the others, where there are any, the others by themselves.
pub(crate) fn figures(
    workload: &'static str,
    unit: &'static str,
    subjects: &[Subject],
    values: &[Vec<f64>],
) -> Vec<Figure> {
    let figure = |index: usize, against: Option<Against>| Figure {
        workload,
        subject: subjects[index].name,
        value: Spread::of(&values[index]),
        unit,
        against,
    };
    let is_ours = |index: &usize| subjects[*index].name == OURS;
    let others: Vec<_> = (0..subjects.len())
        .filter(|index| !is_ours(index))
        .collect();
    let mut figures = Vec::new();
    for ours in (0..subjects.len()).filter(is_ours) {
        if others.is_empty() {
            figures.push(figure(ours, None));
        }
        figures.extend(others.iter().map(|other| {
            let against = Against {
                subject: subjects[*other].name,
                ratio: Spread::of_ratios(&values[ours], &values[*other]),
            };
            figure(ours, Some(against))
        }));
    }
    figures.extend(others.iter().map(|other| figure(*other, None)));
    figures
}
