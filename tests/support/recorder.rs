//! A recorder of the `metrics` facade that keeps all that it is told, to be looked at.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// The instruments by name, labels and what is described of them.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<BTreeMap<String, Instrument>>>);

/// What was told of one.
#[derive(Clone, Default)]
pub struct Instrument {
    pub value: f64,
    pub count: u64,
}

/// One instrument of them.
struct Pen(Kept, String);

impl Kept {
    /// Does something with an instrument; its labels follow its name.
    pub fn change<T>(&self, name: &str, change: impl FnOnce(&mut Instrument) -> T) -> T {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(kept.entry(name.to_owned()).or_default())
    }

    /// How far it has come.
    pub fn value(&self, name: &str) -> f64 {
        self.change(name, |instrument| instrument.value)
    }

    fn pen(&self, key: &Key) -> Arc<Pen> {
        let labels = key
            .labels()
            .filter(|label| label.value() != "process")
            .map(|label| format!("{}={}", label.key(), label.value()));
        let name = [key.name().to_owned()].into_iter().chain(labels);
        Arc::new(Pen(self.clone(), name.collect::<Vec<_>>().join(" ")))
    }
}

impl CounterFn for Pen {
    fn increment(&self, by: u64) {
        self.0
            .change(&self.1, |instrument| instrument.value += by as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters grow by what happens");
    }
}

impl GaugeFn for Pen {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.0
            .change(&self.1, |instrument| instrument.value = value);
    }
}

impl HistogramFn for Pen {
    fn record(&self, value: f64) {
        self.0.change(&self.1, |instrument| {
            instrument.value += value;
            instrument.count += 1;
        });
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.pen(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.pen(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.pen(key))
    }
}
