//! The thread on which the program's callbacks run: done-callbacks, and handlers of what workers
//! print. They may block, panic, submit; nothing of the crate waits for them but other callbacks.
//!
//! The thread starts with the first callback and ends when there has been none for a moment.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the thread waits for another callback before it ends.
const LINGER: Duration = Duration::from_millis(100);

type Callback = Box<dyn FnOnce() + Send>;

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    waiting: VecDeque::new(),
    served: false,
});
static ARRIVED: Condvar = Condvar::new();

struct Queue {
    waiting: VecDeque<Callback>,
    /// A thread serves the queue.
    served: bool,
}

/// Runs `callback` on the callback thread, after those that were handed in before it.
pub(crate) fn run_aside(callback: impl FnOnce() + Send + 'static) {
    let mut queue = lock();
    queue.waiting.push_back(Box::new(callback));
    if queue.served {
        ARRIVED.notify_one();
        return;
    }
    let thread = std::thread::Builder::new().name(String::from("procpool-callbacks"));
    queue.served = thread.spawn(serve).is_ok();
    if !queue.served {
        // No thread is to be had. A callback that runs here is better than one that never runs.
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(run);
    }
}

fn serve() {
    let mut queue = lock();
    loop {
        while let Some(callback) = queue.waiting.pop_front() {
            drop(queue);
            run(callback);
            queue = lock();
        }
        let (woken, waited) = ARRIVED
            .wait_timeout(queue, LINGER)
            .unwrap_or_else(PoisonError::into_inner);
        queue = woken;
        if waited.timed_out() && queue.waiting.is_empty() {
            queue.served = false;
            return;
        }
    }
}

fn run(callback: Callback) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(callback)) {
        report_panic(&*panic);
        // The payload is the program's, and dropping it may panic again.
        std::mem::forget(panic);
    }
}

/// Logs that a callback panicked.
pub(crate) fn report_panic(panic: &(dyn std::any::Any + Send)) {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(target: "procpool", panic = message.unwrap_or("Box<dyn Any>"), "a callback panicked");
}

fn lock() -> MutexGuard<'static, Queue> {
    // Callbacks run without the lock; nothing panics under it.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}
