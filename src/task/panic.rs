//! What is known of a panic, and how it is learned: a hook for worker processes, and the one
//! place of the crate where panics of user code are caught.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

/// How much of a panic's text travels; the rest is cut off …
const MESSAGE: usize = 16 * 1024;
/// … and of its backtrace.
const BACKTRACE: usize = 32 * 1024;

/// What a task said when it panicked, and where.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let error = pool.submit(|n: usize| [1, 2, 3][n], 7).await.unwrap_err();
/// let panic = error.panic().expect("an index out of bounds");
/// assert!(panic.message().starts_with("index out of bounds"));
/// assert!(panic.location().is_some());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicInfo {
    message: Box<str>,
    location: Option<Box<str>>,
    backtrace: Option<Box<str>>,
}

impl PanicInfo {
    /// Gives the text of the panic, or `Box<dyn Any>` where its payload was not text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Names the source line as `file:line:column`, where it is known.
    ///
    /// It is unknown where the task replaced the panic hook, or passed on a panic of another
    /// thread.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Gives the worker's backtrace, where `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asks for it.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }

    /// All that a payload tells.
    fn of_payload(payload: &(dyn Any + Send)) -> Self {
        Self {
            message: cut(message(payload), MESSAGE).into(),
            location: None,
            backtrace: None,
        }
    }

    /// A text that says why nothing could be run.
    pub(crate) fn of_text(text: &str) -> Self {
        Self {
            message: cut(text, MESSAGE).into(),
            location: None,
            backtrace: None,
        }
    }

    /// All that a hook is told.
    fn of_hook(info: &PanicHookInfo<'_>) -> Self {
        let backtrace = Backtrace::capture();
        Self {
            message: cut(message(info.payload()), MESSAGE).into(),
            location: info.location().map(|location| location.to_string().into()),
            backtrace: (backtrace.status() == BacktraceStatus::Captured)
                .then(|| cut(&backtrace.to_string(), BACKTRACE).into()),
        }
    }
}

/// The first `limit` bytes of a text, or a little less where that would cut a character.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

impl std::error::Error for PanicInfo {}

impl fmt::Display for PanicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.location {
            Some(location) => write!(f, " (at {location})"),
            None => Ok(()),
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "Box<dyn Any>"
    }
}

thread_local! {
    /// Whether this thread is inside [`catch`], and so whether somebody will be told of a panic
    /// without its being printed.
    static CATCHING: Cell<bool> = const { Cell::new(false) };

    /// Whether the hook saw anything inside the innermost [`catch`]. Mostly it did not, and then nobody
    /// looks there.
    static HAS_SEEN: Cell<bool> = const { Cell::new(false) };

    /// What the hook saw last inside the innermost [`catch`].
    static SEEN: RefCell<Option<PanicInfo>> = const { RefCell::new(None) };
}

/// Lets panics of tasks be recorded rather than printed, in a process that is a worker.
///
/// Panics of threads that run no task go to the hook that was there before. A second install
/// does nothing.
pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !recorded(info) || PRINTS.load(Ordering::Relaxed) {
                previous(info);
            }
        }));
    });
}

/// From now on panics of tasks are printed as well: for a process whose own they are.
pub(crate) fn print_as_well() {
    PRINTS.store(true, Ordering::Relaxed);
}

static PRINTS: AtomicBool = AtomicBool::new(false);

/// Records a panic, and says whether it need not be printed.
fn recorded(info: &PanicHookInfo<'_>) -> bool {
    // Thread-locals may be gone where a destructor of one of them panics.
    if !CATCHING.try_with(Cell::get).unwrap_or(false) {
        return false;
    }
    let now = PanicInfo::of_hook(info);
    HAS_SEEN.set(true);
    let earlier = SEEN.try_with(|seen| seen.replace(Some(now)));
    match earlier {
        // Nobody catches a panic that aborts: what is not printed now is lost.
        Ok(None) => cfg!(panic = "unwind"),
        // Either the task caught the earlier one, or this is a panic on the way out of it, or
        // out of a function that cannot unwind, and the process is about to abort. The two look
        // alike from here; for the second case both are printed while that is possible.
        Ok(Some(earlier)) => {
            // Not `eprintln!`: it panics where stderr is closed, which aborts inside a hook.
            let _ = writeln!(std::io::stderr(), "earlier panic in this task: {earlier}");
            false
        }
        Err(_) => false,
    }
}

/// Runs `work` and tells how it panicked, if it did.
///
/// Where [`install_hook`] has run, nothing is printed and the answer is complete; elsewhere the
/// message still is. The payload is dropped here, and a panic of its own `Drop` ends here too.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, PanicInfo> {
    // A task may run in place inside another, so both are put back as they were.
    let outer = Recording {
        catching: CATCHING.replace(true),
        seen: seen_last(),
    };
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let seen = outer.restore();
    result.map_err(|payload| {
        let told = PanicInfo::of_payload(&*payload);
        contain(|| drop(payload));
        match seen {
            // The hook may have seen another panic last, which the task caught; and a panic that
            // is passed on (`resume_unwind`) runs no hook.
            Some(seen) if seen.message == told.message => seen,
            _ => told,
        }
    })
}

/// Runs `work` and ends its panic here, which the hook prints as it would any other's: for what
/// happens when nobody is left to be told.
pub(crate) fn contain(work: impl FnOnce()) {
    let catching = CATCHING.replace(false);
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(work)) {
        // A payload's own `Drop` may panic too, and so may that panic's payload's; the second is
        // leaked rather than followed.
        let second = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
        std::mem::forget(second);
    }
    CATCHING.set(catching);
}

/// The state of this thread's recording around a [`catch`].
struct Recording {
    catching: bool,
    seen: Option<PanicInfo>,
}

impl Recording {
    /// Puts the state back, and takes out what was seen since.
    fn restore(self) -> Option<PanicInfo> {
        CATCHING.set(self.catching);
        let seen = seen_last();
        if self.seen.is_some() {
            HAS_SEEN.set(true);
            SEEN.set(self.seen);
        }
        seen
    }
}

/// Takes out what the hook saw last.
fn seen_last() -> Option<PanicInfo> {
    HAS_SEEN.replace(false).then(|| SEEN.take()).flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("second, while unwinding");
        }
    }

    #[test]
    #[ignore = "ends its process; run by the test below"]
    fn panics_on_the_way_out_of_a_panic() {
        install_hook();
        let _ = catch(|| {
            let _inside = PanicsWhenDropped;
            panic!("first");
        });
    }

    #[test]
    fn a_panic_that_ends_the_process_is_printed_with_the_one_before_it() {
        let child = Command::new(std::env::current_exe().expect("the test program"))
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("task::panic::tests::panics_on_the_way_out_of_a_panic")
            .output()
            .expect("the test program starts");
        let printed = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{printed}");
        assert!(
            printed.contains("earlier panic in this task: first"),
            "{printed}"
        );
        assert!(printed.contains("second, while unwinding"), "{printed}");
    }

    #[test]
    fn a_recorded_panic_is_told_and_an_other_threads_is_left_to_the_hook_before() {
        install_hook();
        let panic = catch(|| {
            let other = std::thread::spawn(|| panic!("on another thread"));
            other.join().map_err(std::panic::resume_unwind).is_ok()
        })
        .expect_err("it is passed on");
        assert_eq!(panic.to_string(), "on another thread");
        assert_eq!(panic.location(), None);
    }
}
