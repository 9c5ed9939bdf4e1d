//! Errors by which the runs of an item can be told apart: each names the worker that it was.

use std::time::Duration;

use super::plan::Flaw;
use crate::pool::error::{Kind, RESULT, TaskError, WorkerExit};
use crate::pool::scheduler::{Outcome, WorkerId};
use crate::process::Exit;
use crate::task::panic::PanicInfo;

/// What is said where no worker is to blame.
pub(super) fn error() -> TaskError {
    TaskError::new(Kind::Cancelled)
}

/// What is said of a run in this worker that was ended, or of an item that was not begun.
pub(super) fn of_outcome(outcome: Outcome, worker: Option<WorkerId>) -> TaskError {
    let number = worker.map_or(0, |worker| worker.number);
    TaskError::new(match outcome {
        Outcome::Lost(worker) => Kind::WorkerLost(WorkerExit {
            pid: worker.number as u32,
            name: String::new(),
            exit: Exit::UNKNOWN,
            ran_for: None,
            stderr_tail: None,
            oom_suspected: false,
            fault: None,
        }),
        Outcome::RanTooLong => Kind::RanTooLong(Duration::from_nanos(number)),
        _ => Kind::Aborted {
            started: number > 0,
        },
    })
}

/// What is said of a run in this worker that went wrong by itself; `None` if it did not.
pub(super) fn of_flaw(flaw: Flaw, worker: WorkerId) -> Option<TaskError> {
    let kind = match flaw {
        Flaw::Panics => Kind::Panicked(PanicInfo::of_text(&worker.number.to_string())),
        Flaw::Fails => Kind::TooLarge {
            what: RESULT,
            size: worker.number as usize,
            limit: 0,
        },
        Flaw::None | Flaw::Deadly => return None,
    };
    Some(TaskError::new(kind))
}

/// All that an error says, of each run.
pub(super) fn story(error: &TaskError) -> Vec<String> {
    let history = error.history().iter();
    let texts = history.map(|earlier| format!("{earlier:#}"));
    let own = error.clone().after(Vec::new());
    texts.chain([format!("{own:#}")]).collect()
}
