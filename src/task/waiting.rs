//! Futures in a task that wait for something which its parent says: in the page of a worker, or to a
//! thread of a pool.
//!
//! Who blocks its thread sleeps on a bell. A future cannot, so one thread of the process does it for
//! all of them: it is started when the first of them has to wait for a page, and looks after every
//! ring which of them have what they wait for. Where the news come from within the process,
//! whoever brings them [looks](look) by itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::wire::page::ControlPage;

/// Something that is not so, and will be so for good.
pub(crate) trait Condition: Clone + Unpin + Send + Sync + 'static {
    /// Whether it is so.
    fn holds(&self) -> bool;

    /// The page that tells, if one does.
    fn page(&self) -> Option<&Arc<ControlPage>>;
}

/// Waits until a condition holds.
///
/// To drop it loses nothing.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub(crate) struct Until<C: Condition> {
    condition: C,
    /// Its number among those that wait.
    number: Option<u64>,
}

/// Those that wait.
struct Waiting {
    numbered: u64,
    futures: BTreeMap<u64, Waiter>,
    /// A thread looks whenever the page's bell rings.
    watched: bool,
}

/// One of them.
struct Waiter {
    has_it: Box<dyn Fn() -> bool + Send>,
    waker: Waker,
}

static WAITING: Mutex<Waiting> = Mutex::new(Waiting {
    numbered: 0,
    futures: BTreeMap::new(),
    watched: false,
});

/// How many they are, or will be in a moment.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// There is somebody to be looked after.
static SOMEBODY: Condvar = Condvar::new();

/// Wakes all that have what they wait for, which must have been stored in a sequentially consistent
/// way.
pub(crate) fn look() {
    // A future is counted before it looks for its news the last time.
    if COUNT.load(Ordering::SeqCst) == 0 {
        return;
    }
    let mut waiting = lock();
    let futures = &mut waiting.futures;
    let ready = futures.iter().filter(|(_, waiter)| (waiter.has_it)());
    let ready: Vec<_> = ready.map(|(number, _)| *number).collect();
    let ready: Vec<_> = ready
        .iter()
        .filter_map(|number| futures.remove(number))
        .collect();
    COUNT.store(waiting.futures.len(), Ordering::SeqCst);
    drop(waiting);
    for waiter in ready {
        waiter.waker.wake();
    }
}

impl<C: Condition> Until<C> {
    pub(crate) fn new(condition: C) -> Self {
        Self {
            condition,
            number: None,
        }
    }

    /// Has this future woken when it can go on.
    fn register(&mut self, waker: &Waker) {
        let mut waiting = lock();
        if let Some(page) = self.condition.page() {
            if !waiting.watched {
                // Without a thread the future is polled again and again: busy, but not stuck.
                match watch(page.clone()) {
                    Ok(()) => waiting.watched = true,
                    Err(_) => return waker.wake_by_ref(),
                }
            }
        }
        let number = *self.number.get_or_insert(waiting.numbered);
        waiting.numbered = waiting.numbered.max(number + 1);
        let condition = self.condition.clone();
        let waiter = Waiter {
            has_it: Box::new(move || condition.holds()),
            waker: waker.clone(),
        };
        let old = waiting.futures.insert(number, waiter);
        COUNT.store(waiting.futures.len(), Ordering::SeqCst);
        SOMEBODY.notify_one();
        drop(waiting);
        drop(old);
    }

    fn forget(&mut self) {
        if let Some(number) = self.number.take() {
            let mut waiting = lock();
            let old = waiting.futures.remove(&number);
            COUNT.store(waiting.futures.len(), Ordering::SeqCst);
            drop(waiting);
            // What the waker does when it is dropped is the user's, and is done without the lock.
            drop(old);
        }
    }
}

impl<C: Condition> Future for Until<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.condition.holds() {
            self.register(context.waker());
            // It may have come to hold before anybody would have woken us for it.
            if !self.condition.holds() {
                return Poll::Pending;
            }
        }
        self.forget();
        Poll::Ready(())
    }
}

impl<C: Condition> Drop for Until<C> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Starts the thread that looks whenever this process's page rings.
fn watch(page: Arc<ControlPage>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("procpool-bell".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            loop {
                let mut waiting = lock();
                // Where nobody waits the bell is to cost nothing: this is no sleeper then.
                while waiting.futures.is_empty() {
                    let woken = SOMEBODY.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                }
                drop(waiting);
                page.bell().wait(None, || {
                    look();
                    lock().futures.is_empty()
                });
            }
        })
        .map(drop)
}

fn lock() -> MutexGuard<'static, Waiting> {
    // The conditions are our own, and nothing of the user's is run under the lock.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}
