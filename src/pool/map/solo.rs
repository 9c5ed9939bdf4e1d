//! A map over a pool without workers: each item is run where the stream is polled.

use std::sync::{Arc, Mutex, PoisonError};

use crate::pool::driver::Driver;
use crate::pool::job::{Client, Deadline};
use crate::pool::reply::{Answer, Raw};
use crate::pool::task::Options;
use crate::pool::trace::Origin;
use crate::task::identity::Target;
use crate::wire::packed::Packed;

/// Who runs the items.
pub(super) struct Solo {
    driver: Arc<Driver>,
    target: Target,
    options: Options,
    /// Where the map was asked for.
    origin: Origin,
    deadline: Option<Deadline>,
}

impl Solo {
    pub(super) fn new(driver: Arc<Driver>, target: Target, options: Options) -> Self {
        Self {
            driver,
            target,
            deadline: options.deadline.map(Deadline::after),
            options,
            origin: Origin::here(),
        }
    }

    /// The longest item that may be sent.
    pub(super) fn max_item(&self) -> usize {
        self.driver.plan.recipe.max_frame
    }

    /// Runs one item.
    pub(super) fn run(&self, item: Packed) -> Raw {
        let slip = Arc::new(Slip(Mutex::new(None)));
        let client = Client::Call(slip.clone());
        let (target, options) = (self.target, &self.options);
        let origin = &self.origin;
        let job = options.job(&self.driver, origin, target, item, self.deadline, client);
        match self.driver.submit(job) {
            Ok(_) => slip
                .take()
                .expect("a job is answered before who ran it is back"),
            Err(error) => Raw::Failed(error),
        }
    }
}

/// Where the answer to an item is put.
struct Slip(Mutex<Option<Raw>>);

impl Slip {
    fn take(&self) -> Option<Raw> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Answer for Slip {
    fn resolve(self: Arc<Self>, raw: Raw) {
        let mut slip = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slip.get_or_insert(raw);
    }
}
