//! A flag that processes wait for.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cell::Cell;
use super::vigil::Vigil;
use super::waiting::{self, Look, Waiter};
use crate::sys::blocking;
use crate::sys::incarnation::Incarnation;

const KIND: &str = "event";

/// The flag in the lowest bit, above it how often it was set.
const FLAG: usize = 0;
/// Whether anybody may sleep.
const SLEEPERS: usize = 1;
/// Who is about to set it: what dies before it has rung is missed by those who sleep.
const SETTER: usize = 2;

/// A flag that any process can set and clear, and any number wait for, in tasks and on threads; as
/// Python's `multiprocessing.Event`.
///
/// A clone is the same event, and so is what arrives where one was sent. A process that dies leaves the
/// event as it is.
///
/// ```
/// use procpool::{Event, ProcessPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let ready = Event::new()?;
/// let task = pool.submit(|ready: Event| ready.set(), ready.clone());
/// ready.wait().await?; // until the task says so
/// assert!(ready.is_set());
/// task.await?;
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Event(Arc<Cell>);

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings; and where there is no `/proc`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Cell::new(KIND, 3, 1)?)))
    }

    /// Tells whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.word(FLAG).load(SeqCst) & 1 == 1
    }

    /// Sets it, and lets go on all who wait, even if it is cleared at once. Setting it again does
    /// nothing.
    pub fn set(&self) {
        // Without a `/proc` there would be no event here.
        let me = Incarnation::own().map_or(0, Incarnation::to_word);
        let setter = self.0.word(SETTER);
        // Whoever sleeps by now learns whom to attend to, and whoever is about to sleep as well.
        setter.store(me, SeqCst);
        if self.0.word(SLEEPERS).load(SeqCst) != 0 {
            self.0.ring(0);
        }
        let set = |flag: u64| (flag & 1 == 0).then(|| flag.wrapping_add(2) | 1);
        let _ = self.0.word(FLAG).fetch_update(SeqCst, SeqCst, set);
        // Also for another who has set it and died.
        let sleepers = self.0.word(SLEEPERS);
        if sleepers.load(SeqCst) != 0 && sleepers.swap(0, SeqCst) != 0 {
            self.0.ring(0);
        }
        let _ = setter.compare_exchange(me, 0, SeqCst, SeqCst);
    }

    /// Clears it: who waits from now on waits until it is set again.
    pub fn clear(&self) {
        self.0.word(FLAG).fetch_and(!1, SeqCst);
    }

    /// Waits until it is set.
    ///
    /// # Errors
    ///
    /// Where the system has no room for one who sleeps: it is short of descriptors or memory.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait(&self) -> io::Result<()> {
        self.wait_until(None).await.map(drop)
    }

    /// The same, at most for that long; tells whether it was set.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait_timeout(&self, limit: Duration) -> io::Result<bool> {
        self.wait_until(waiting::deadline(Some(limit))).await
    }

    async fn wait_until(&self, deadline: Option<Instant>) -> io::Result<bool> {
        let Some(mut wait) = Wait::begin(self)? else {
            return Ok(true);
        };
        let waited = waiting::in_future(&mut wait, deadline).await?;
        Ok(waited.is_some())
    }

    /// Waits on a thread that may block, at most for `limit`; tells whether it was set.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks: those need [`wait`](Self::wait).
    #[track_caller]
    pub fn blocking_wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        if self.is_set() {
            return Ok(true);
        }
        if limit != Some(Duration::ZERO) {
            blocking::must_be_allowed();
        }
        let deadline = waiting::deadline(limit);
        let Some(mut wait) = Wait::begin(self)? else {
            return Ok(true);
        };
        let waited = waiting::on_thread(&mut wait, deadline)?;
        Ok(waited.is_some())
    }
}

/// Somebody who waits.
struct Wait<'a> {
    event: &'a Event,
    vigil: Vigil,
    /// What the flag was when this began.
    before: u64,
}

impl<'a> Wait<'a> {
    /// Begins, unless there is nothing to wait for.
    fn begin(event: &'a Event) -> io::Result<Option<Self>> {
        let before = event.0.word(FLAG).load(SeqCst);
        if before & 1 == 1 {
            return Ok(None);
        }
        let vigil = Vigil::at(&event.0, 0)?;
        Ok(Some(Self {
            event,
            vigil,
            before,
        }))
    }
}

impl Waiter for Wait<'_> {
    type End = ();

    /// It is over once it was set; if it was not, the next who sets it rings, or dies before it can.
    fn look(&mut self) -> io::Result<Look<()>> {
        let cell = &self.event.0;
        cell.word(SLEEPERS).store(1, SeqCst);
        loop {
            let setter = cell.word(SETTER).load(SeqCst);
            let lives = match Incarnation::of_word(setter) {
                Some(process) if process != Incarnation::own()? => self.vigil.attend(process)?,
                _ => true,
            };
            let now = cell.word(FLAG).load(SeqCst);
            if now & 1 == 1 || now >> 1 != self.before >> 1 {
                return Ok(Look::Over(()));
            }
            if lives {
                return Ok(Look::Sleep(None));
            }
            // It has died without having set it.
            let _ = cell
                .word(SETTER)
                .compare_exchange(setter, 0, SeqCst, SeqCst);
        }
    }

    fn vigil(&self) -> &Vigil {
        &self.vigil
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cell::arrive(KIND, (3, 1), deserializer).map(|cell| Self(Arc::new(cell)))
    }
}
