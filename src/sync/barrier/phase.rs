//! What a barrier is at: one word, and what may become of it. It does no I/O and knows no processes.
//!
//! ```text
//!                all are in               all have left
//!   filling ───────────────▶ passed ──────────────────────▶ filling, the next round
//!      │                        │ abort
//!      │                        ▼           all have left
//!      │                 passed, breaks ──────────────────▶ broken
//!      │ abort, death, limit, drop                            ▲
//!      ├──────────────────────────────────────────────────────┘
//!      │ reset                    all have left
//!      └──────────▶ resetting ────────────────────────────▶ filling, the next round
//!                       ▲ reset, if any are in
//!                     broken
//! ```
//!
//! Each round has a number, and every change names the word that it has found. So a change that comes late,
//! for what was so in an earlier round, changes nothing.

/// What it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Parties come in.
    Filling,
    /// All were in, and leave.
    Passed,
    /// All were in, and leave; then it is broken.
    PassedBreaks(Why),
    /// Those who were in have failed, and leave.
    Resetting,
    /// Whoever comes fails.
    Broken(Why),
}

/// Why it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Aborted,
    /// A party's limit has passed.
    TimedOut,
    /// A party has given up.
    LeftEarly,
    /// A party's process has died.
    Died,
    /// The action has panicked.
    Panicked,
}

/// A stage and the number of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) round: u64,
    pub(super) stage: Stage,
}

impl Phase {
    pub(super) fn of(word: u64) -> Self {
        let stage = match word & 0xFF {
            0 => Stage::Filling,
            1 => Stage::Passed,
            2 => Stage::Resetting,
            low if low & 0xF0 == 0x10 => Stage::PassedBreaks(Why::of(low & 0xF)),
            low => Stage::Broken(Why::of(low & 0xF)),
        };
        Self {
            round: word >> 8,
            stage,
        }
    }

    pub(super) fn word(self) -> u64 {
        let low = match self.stage {
            Stage::Filling => 0,
            Stage::Passed => 1,
            Stage::Resetting => 2,
            Stage::PassedBreaks(why) => 0x10 | why.number(),
            Stage::Broken(why) => 0x20 | why.number(),
        };
        self.round << 8 | low
    }

    fn at(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }

    /// All are in.
    pub(super) fn pass(self) -> Option<Self> {
        (self.stage == Stage::Filling).then(|| self.at(Stage::Passed))
    }

    /// It is to be broken.
    pub(super) fn break_up(self, why: Why) -> Option<Self> {
        match self.stage {
            Stage::Filling | Stage::Resetting => Some(self.at(Stage::Broken(why))),
            Stage::Passed => Some(self.at(Stage::PassedBreaks(why))),
            Stage::PassedBreaks(_) | Stage::Broken(_) => None,
        }
    }

    /// The same, by one who is in: what has become of its round already stays so.
    pub(super) fn break_round(self, why: Why) -> Option<Self> {
        match self.stage {
            Stage::Filling => self.break_up(why),
            _ => None,
        }
    }

    /// It is to be as new, once those who are in have left.
    pub(super) fn reset(self) -> Option<Self> {
        match self.stage {
            Stage::Filling | Stage::Broken(_) => Some(self.at(Stage::Resetting)),
            Stage::PassedBreaks(_) => Some(self.at(Stage::Passed)),
            Stage::Passed | Stage::Resetting => None,
        }
    }

    /// All have left.
    pub(super) fn emptied(self) -> Option<Self> {
        match self.stage {
            Stage::Passed | Stage::Resetting => Some(Self {
                round: (self.round + 1) & (u64::MAX >> 8),
                stage: Stage::Filling,
            }),
            Stage::PassedBreaks(why) => Some(self.at(Stage::Broken(why))),
            Stage::Filling | Stage::Broken(_) => None,
        }
    }
}

impl Why {
    const ALL: [Self; 5] = [
        Self::Aborted,
        Self::TimedOut,
        Self::LeftEarly,
        Self::Died,
        Self::Panicked,
    ];

    fn of(number: u64) -> Self {
        // What is none was never written by anybody of this build.
        let why = Self::ALL.iter().find(|why| why.number() == number);
        *why.unwrap_or(&Self::Aborted)
    }

    fn number(self) -> u64 {
        self as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages() -> Vec<Stage> {
        let mut stages = vec![Stage::Filling, Stage::Passed, Stage::Resetting];
        stages.extend(Why::ALL.map(Stage::Broken));
        stages.extend(Why::ALL.map(Stage::PassedBreaks));
        stages
    }

    #[test]
    fn each_is_a_word_of_its_own() {
        for round in [0, 1, u64::MAX >> 8] {
            for stage in stages() {
                let phase = Phase { round, stage };
                assert_eq!(Phase::of(phase.word()), phase);
            }
        }
    }

    #[test]
    fn only_what_fills_is_passed_and_only_an_empty_barrier_begins_anew() {
        for stage in stages() {
            let phase = Phase { round: 7, stage };
            assert_eq!(phase.pass().is_some(), stage == Stage::Filling);
            let emptied = phase.emptied();
            if let Some(Phase {
                round,
                stage: Stage::Filling,
            }) = emptied
            {
                assert_eq!(round, 8, "nobody takes it for the round before");
            }
            let leaves = matches!(
                stage,
                Stage::Passed | Stage::PassedBreaks(_) | Stage::Resetting
            );
            assert_eq!(emptied.is_some(), leaves);
        }
    }

    #[test]
    fn whatever_is_broken_stays_so_until_it_is_reset() {
        for stage in stages() {
            let phase = Phase { round: 7, stage };
            let broken = phase.break_up(Why::Died).unwrap_or(phase);
            let at_last = broken.emptied().unwrap_or(broken);
            assert!(matches!(at_last.stage, Stage::Broken(_)), "{stage:?}");
            assert!(at_last.pass().is_none() && at_last.emptied().is_none());
            let reset = at_last.reset().and_then(Phase::emptied).unwrap();
            assert_eq!((reset.round, reset.stage), (8, Stage::Filling));
        }
    }

    #[test]
    fn who_has_passed_has_passed_whatever_comes_then() {
        let passed = Phase::of(0).pass().unwrap();
        let broken = passed.break_up(Why::Aborted).unwrap();
        assert!(matches!(broken.stage, Stage::PassedBreaks(Why::Aborted)));
        assert_eq!(broken.reset(), Some(passed));
        assert_eq!(passed.reset(), None);
    }
}
