//! One worker, seen from its parent: started, talked to, and seen off.
//!
//! ```text
//!    start ──▶ slot ──▶ serve: responses in, requests out, until the pidfd says "dead"
//!                │                                      │
//!             outgoing, incoming                   drain, outbox, exit
//! ```
//!
//! - [`policy`]: when a worker may be started (pure).
//! - [`start`]: from nothing to a worker that has said that it is ready.
//! - [`slot`]: a ready worker: its two pipes and what goes beside them, its page, its
//!   process.
//! - [`outgoing`], [`incoming`]: what is on its way there and back. [`oom`]: whether the kernel
//!   has killed for lack of memory.
//! - [`stdio`]: what a worker prints. [`callback`]: the thread that runs the program's callbacks.
//!
//! What happens to calls is not decided here; the pool is told through [`Owner`].

pub(crate) mod callback;
pub(crate) mod incoming;
pub(crate) mod oom;
pub(crate) mod outgoing;
pub(crate) mod policy;
pub(crate) mod slot;
pub(crate) mod start;
pub(crate) mod stdio;

use std::sync::Arc;

use crate::process::Exit;
use crate::wire::codec::Frame;
use slot::Slot;

/// Who is told what a worker says and how it ends.
pub(crate) trait Owner: Send + Sync + 'static {
    /// What is left to be done for responses once no lock of the slot is held.
    type Done;

    /// Takes the frames that have come from a worker, in their order.
    ///
    /// # Errors
    ///
    /// When a frame is none that this worker may send: the worker's words count no more.
    fn received(
        &self,
        slot: &Arc<Slot>,
        frames: &mut Vec<Frame>,
    ) -> (Self::Done, Result<(), String>);

    /// Does what is left to be done.
    fn deliver(&self, done: Self::Done);

    /// The worker's words count no more, for this reason.
    fn condemned(&self, slot: &Arc<Slot>, reason: String);

    /// The worker's response pipe is at its end. It is dead, or will be in a moment, or will never
    /// say anything again.
    fn hung_up(&self, slot: &Arc<Slot>);

    /// The fork server that made the worker is gone.
    fn orphaned(&self, slot: &Arc<Slot>);

    /// The worker is dead, and everything that it said has been handed in.
    fn gone(&self, slot: &Arc<Slot>, exit: Exit);
}
