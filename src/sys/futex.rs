//! Sleeping until somebody rings, be it another thread or another process that maps the same memory.
//!
//! A [`Bell`] says nothing but "look again": what is waited for is stored elsewhere before it is
//! rung, and whoever sleeps looks there before and after. Ringing where nobody sleeps is an
//! addition and a load.
//!
//! ```text
//!   who rings: store the news; rung += 1; wake if sleepers > 0
//!   who sleeps: sleepers += 1; look at rung; look for the news; sleep while rung is what it was
//! ```
//!
//! If the one who rings sees no sleeper, the sleeper came after, and looks at `rung` after the
//! addition, so it sees the news. If it sees one, the system compares `rung` once more before it
//! lets that one sleep.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::futex::{self, Flags};
use rustix::time::Timespec;

/// Nobody sleeps longer without a look: no limit of the kernel's is met, and no sleeper is lost.
const LONGEST: Duration = Duration::from_secs(3600);

/// Two words in memory: how often it was rung, and how many sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bell<'a> {
    /// How often it was rung.
    pub(crate) rung: &'a AtomicU32,
    /// How many sleep, or are about to.
    pub(crate) sleepers: &'a AtomicU32,
}

impl Bell<'_> {
    /// Wakes all who sleep.
    pub(crate) fn ring(self) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // It fails only for a word that is none, and there is nobody to be told.
            let _ = futex::wake(self.rung, Flags::empty(), i32::MAX as u32);
        }
    }

    /// The same where nobody may sleep, which then costs a load. The news must have been stored in
    /// a sequentially consistent way.
    pub(crate) fn ring_if_awaited(self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
    }

    /// Sleeps until `news` is there, which is asked for whenever the bell is rung; until the
    /// deadline at the longest. Tells whether it is there.
    pub(crate) fn wait(self, deadline: Option<Instant>, mut news: impl FnMut() -> bool) -> bool {
        if news() {
            return true;
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let _asleep = Asleep(self.sleepers);
        loop {
            let seen = self.rung.load(Ordering::SeqCst);
            if news() {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            let pause = left.map_or(LONGEST, |left| left.min(LONGEST));
            let pause = Timespec {
                tv_sec: pause.as_secs() as i64,
                tv_nsec: pause.subsec_nanos().into(),
            };
            // Whatever ends the sleep (news, time, a signal) is found out by looking.
            let _ = futex::wait(self.rung, Flags::empty(), seen, Some(&pause));
        }
    }
}

/// Somebody who is counted among the sleepers, until it is dropped.
struct Asleep<'a>(&'a AtomicU32);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn who_sleeps_is_woken_by_the_news_however_the_two_meet() {
        for _ in 0..2_000 {
            let (rung, sleepers, news) =
                (AtomicU32::new(7), AtomicU32::new(0), AtomicBool::new(false));
            let bell = Bell {
                rung: &rung,
                sleepers: &sleepers,
            };
            let limit = Some(Instant::now() + Duration::from_secs(60));
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| bell.wait(limit, || news.load(Ordering::Acquire)));
                news.store(true, Ordering::Release);
                bell.ring();
                assert!(sleeper.join().unwrap());
            });
            assert_eq!(sleepers.load(Ordering::SeqCst), 0);
        }
    }

    #[test]
    fn a_bell_that_rings_without_news_wakes_nobody_for_good() {
        let (rung, sleepers) = (AtomicU32::new(0), AtomicU32::new(0));
        let bell = Bell {
            rung: &rung,
            sleepers: &sleepers,
        };
        let limit = Duration::from_millis(30);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| bell.wait(Some(begun + limit), || false));
            while !sleeper.is_finished() {
                bell.ring_if_awaited();
            }
            assert!(!sleeper.join().unwrap());
        });
        assert!(begun.elapsed() >= limit);
    }
}
