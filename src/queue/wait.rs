//! Three ways to wait for one thing: not at all, in a future, and on a thread.
//!
//! What is tried is always the same function, each time with the lock. Who sleeps looks at the bell
//! first, then says so under the lock, and so misses nothing.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::core::{Core, Side};
use super::turn::{Locked, Turn};
use crate::sync::vigil::{Rest, Vigil};
use crate::sys::blocking;
use crate::sys::incarnation::Incarnation;

/// After so long a wait, and having been woken in vain, others step back.
const PATIENCE: Duration = Duration::from_millis(1);

/// After how many spins somebody looks for the first time whether the lock is free that he has missed, or
/// whether the queue has changed.
const FIRST_LOOK: u32 = 32;

/// After how many he looks at most, each time twice as many as before, until he does something else. All of
/// it is some microseconds, less than it costs to sleep and be woken; whoever runs on another CPU puts or
/// takes many items meanwhile, and has all that he needs in his own cache: it costs more to take turns than
/// to let him go on.
const LAST_LOOK: u32 = 256;

/// Who has found that the queue changes lets it change so often, for the same reason.
const CHANGES: u64 = 64;

/// How often somebody who has seen a change in vain looks on before he sleeps.
const LOOKS: u32 = 8;

/// How often the CPU is left to others who may have the lock there.
const YIELDS: u32 = 3;

/// Who does not want to wait waits so long for the lock, which nobody has for longer than it takes to
/// copy an item.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Somebody who wants something of one side.
struct Want<F> {
    side: Side,
    attempt: F,
    begun: Option<Instant>,
    /// How often he may look again before he sleeps.
    looks: u32,
    /// How often he was woken.
    wakes: u32,
    /// A process that he has found dead.
    dead: Option<Incarnation>,
}

/// It cannot be had: what he does before he tries again.
struct Pause {
    /// How long he may sleep at most.
    limit: Option<Duration>,
    /// Whose ends wake him as well.
    attended: Vec<Incarnation>,
}

impl<R, F: FnMut(&mut Turn<'_>) -> io::Result<Option<R>>> Want<F> {
    fn new(side: Side, attempt: F) -> Self {
        Self {
            side,
            attempt,
            begun: None,
            looks: LOOKS,
            wakes: 0,
            dead: None,
        }
    }

    /// Tries it.
    fn step(&mut self, mut turn: Turn<'_>) -> io::Result<Result<R, Pause>> {
        if let Some(dead) = self.dead.take() {
            turn.bury(dead);
        }
        let for_long = self.wakes > 1 && self.begun.is_some_and(|at| at.elapsed() > PATIENCE);
        let courtesy = if for_long {
            None
        } else {
            turn.courtesy(self.side)
        };
        if courtesy.is_none() {
            if let Some(done) = (self.attempt)(&mut turn)? {
                if for_long {
                    turn.thank(self.side);
                }
                return Ok(Ok(done));
            }
        }
        let mut pause = Pause {
            limit: courtesy,
            attended: Vec::new(),
        };
        if self.begun.is_some() {
            turn.mind(self.side);
            pause.attended = turn.attended(self.side);
        }
        if for_long {
            turn.ask_for_courtesy(self.side);
        }
        Ok(Err(pause))
    }

    /// Tells whether there is a change within a moment, so that it is worth another try.
    fn looks_on(&mut self, core: &Core, seen: u64) -> bool {
        let looks = self.looks > 0 && core.changes(seen);
        self.looks = self.looks.saturating_sub(1);
        looks
    }

    /// From now on he is woken.
    fn prepare(&mut self, core: &Core) -> io::Result<Vigil> {
        self.begun = Some(Instant::now());
        Vigil::at(&core.cell, self.side.bell)
    }
}

impl Core {
    /// Does it if there is nothing to wait for at this moment: neither the lock, nor what is wanted.
    #[inline]
    pub(super) fn quickly<R>(
        &self,
        side: Side,
        attempt: &mut impl FnMut(&mut Turn<'_>) -> io::Result<Option<R>>,
    ) -> io::Result<Option<R>> {
        let Ok(held) = self.lock.try_hold() else {
            return Ok(None);
        };
        let mut turn = Turn::begin(self, Ok(held))?;
        match turn.courtesy(side) {
            None => attempt(&mut turn),
            Some(_) => Ok(None),
        }
    }

    /// Tries it once.
    pub(super) fn at_once<R>(
        &self,
        mut attempt: impl FnMut(&mut Turn<'_>) -> io::Result<Option<R>>,
    ) -> io::Result<Option<R>> {
        match self.turn_here(Some(Instant::now()))? {
            Some(mut turn) => attempt(&mut turn),
            None => Ok(None),
        }
    }

    /// Waits in a future. Dropped, it has not been done.
    pub(super) async fn in_future<R>(
        &self,
        side: Side,
        attempt: impl FnMut(&mut Turn<'_>) -> io::Result<Option<R>>,
    ) -> io::Result<R> {
        let mut want = Want::new(side, attempt);
        let mut asleep: Option<(Vigil, Rest)> = None;
        loop {
            let seen = self.version();
            let locked = match self.lock_soon() {
                Some(locked) => locked,
                None => self.lock.hold().await,
            };
            let pause = match want.step(Turn::begin(self, locked)?)? {
                Ok(done) => return Ok(done),
                Err(pause) => pause,
            };
            match &mut asleep {
                Some((vigil, rest)) => {
                    want.dead = vigil.attend_to(&pause.attended)?;
                    if want.dead.is_none() {
                        rest.sleep(pause.limit).await?;
                        want.wakes += 1;
                    }
                }
                None if want.looks_on(self, seen) => {}
                None => {
                    let vigil = want.prepare(self)?;
                    let rest = vigil.in_future()?;
                    asleep = Some((vigil, rest));
                }
            }
        }
    }

    /// Waits on this thread; `None` when the limit has passed.
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks.
    #[track_caller]
    pub(super) fn on_thread<R>(
        &self,
        side: Side,
        limit: Option<Duration>,
        attempt: impl FnMut(&mut Turn<'_>) -> io::Result<Option<R>>,
    ) -> io::Result<Option<R>> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut want = Want::new(side, attempt);
        let mut asleep: Option<Vigil> = None;
        loop {
            let seen = self.version();
            let Some(turn) = self.turn_here(deadline)? else {
                return Ok(None);
            };
            let pause = match want.step(turn)? {
                Ok(done) => return Ok(Some(done)),
                Err(pause) => pause,
            };
            if limit.is_some_and(|limit| limit.is_zero())
                || deadline.is_some_and(|deadline| deadline <= Instant::now())
            {
                return Ok(None);
            }
            match &mut asleep {
                Some(vigil) => {
                    want.dead = vigil.attend_to(&pause.attended)?;
                    if want.dead.is_none() {
                        let limit = pause.limit.map(|limit| Instant::now() + limit);
                        vigil.sleep(deadline.into_iter().chain(limit).min())?;
                        want.wakes += 1;
                    }
                }
                None if want.looks_on(self, seen) => {}
                None => {
                    blocking::must_be_allowed();
                    asleep = Some(want.prepare(self)?);
                }
            }
        }
    }

    /// The right to change it, waited for on this thread: nobody has it for longer than it takes to copy
    /// an item.
    pub(super) fn turn(&self) -> io::Result<Turn<'_>> {
        let turn = self.turn_here(None)?;
        turn.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// The lock on this thread, whatever that drives: it is there in a moment. `None` where it is not
    /// until long after the deadline.
    fn turn_here(&self, deadline: Option<Instant>) -> io::Result<Option<Turn<'_>>> {
        let locked = match self.lock_soon() {
            Some(locked) => locked,
            None => {
                let soon = Instant::now() + AT_ONCE;
                self.lock
                    .hold_here(deadline.map(|deadline| deadline.max(soon)))
            }
        };
        match locked {
            Err(error) if error.is_timeout() => Ok(None),
            locked => Turn::begin(self, locked).map(Some),
        }
    }

    /// The lock, unless somebody has it for longer than he should.
    fn lock_soon(&self) -> Option<Locked<'_>> {
        let mut pauses = Pauses::new();
        let mut yields = 0..YIELDS;
        loop {
            match self.lock.try_hold() {
                Err(error) if error.is_would_block() => {}
                locked => return Some(locked),
            }
            // Who only looks takes nothing from the CPU of who has it.
            while pauses.pause() && self.lock.is_locked() {}
            if pauses.are_over() {
                yields.next()?;
                std::thread::yield_now();
            }
        }
    }

    /// Tells whether the queue changes from what it was within a moment; and if so, lets it change for as
    /// long as it does so at once.
    fn changes(&self, seen: u64) -> bool {
        let mut pauses = Pauses::new();
        let mut version = seen;
        while pauses.pause() {
            let now = self.version();
            if now != seen && (now == version || now.wrapping_sub(seen) >= CHANGES) {
                break;
            }
            if now != version {
                pauses = Pauses::new();
            }
            version = now;
        }
        version != seen
    }
}

/// Looks on without doing anything, for longer each time.
struct Pauses(u32);

impl Pauses {
    fn new() -> Self {
        // Where nobody else runs there is nothing to look at.
        Self(if has_company() { FIRST_LOOK } else { u32::MAX })
    }

    /// Whether it has been long enough.
    fn are_over(&self) -> bool {
        self.0 > LAST_LOOK
    }

    /// Does nothing for a while; `false` where that has been long enough.
    fn pause(&mut self) -> bool {
        if self.are_over() {
            return false;
        }
        (0..self.0).for_each(|_| std::hint::spin_loop());
        self.0 *= 2;
        true
    }
}

/// Whether others run while this thread looks on.
fn has_company() -> bool {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)) > 1
}
