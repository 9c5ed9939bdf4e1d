//! What is run in a worker around its calls: an initializer before the first of them, a finalizer
//! after the last; and what a fork server preloads.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::entry::{self, Function, Sink, Verdict};
use super::error::EncodeError;
use super::identity::{ForeignFunction, Target};
use super::panic::cut;
use super::payload;

/// How much of what a hook says travels; the rest is cut off.
const TEXT: usize = 16 * 1024;

/// What an initializer or a finalizer returns: nothing, or a `Result` whose error says why it
/// failed.
///
/// See [`initializer`](crate::ProcessPoolBuilder::initializer). Errors are told by their `{:#}`,
/// which for a [`RemoteError`](crate::RemoteError) is the whole chain.
#[diagnostic::on_unimplemented(
    message = "an initializer, a finalizer or a preloaded function cannot return `{Self}`",
    note = "it returns `()`, or a `Result<(), E>` with an `E` that has a `Display`"
)]
pub trait HookOutcome {
    /// Tells whether it worked, or why not.
    fn into_result(self) -> Result<(), String>;
}

impl HookOutcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> HookOutcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// A function as a hook: what it returns is brought into a form that travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook<F>(pub(super) F);

/// Why something can be no hook.
#[derive(Clone, Debug, Error)]
pub(crate) enum NoHook {
    /// No worker can find the function.
    #[error("function given to the builder cannot be called in a worker")]
    Foreign(#[from] ForeignFunction),
    /// The argument cannot be encoded.
    #[error("argument of a function given to the builder could not be encoded")]
    Argument(#[from] EncodeError),
}

/// Encodes a hook and its argument, to be [run](run) in a worker.
pub(crate) fn encode<F, A>(function: F, argument: &A) -> Result<Vec<u8>, NoHook>
where
    F: Function<A>,
    F::Output: HookOutcome,
    A: Serialize + DeserializeOwned,
{
    let target = Target::of(Hook(function))?;
    let mut bytes = postcard::to_stdvec(&target).expect("two numbers always encode");
    payload::encode(argument, &mut bytes)?;
    Ok(bytes)
}

/// Runs an encoded hook. Its panics end here.
///
/// # Errors
///
/// When it said so, or panicked, or could not be run; with the reason.
pub(crate) fn run(hook: &[u8]) -> Result<(), String> {
    let (target, argument) =
        postcard::take_from_bytes(hook).map_err(|_| "it does not decode".to_owned())?;
    let mut said = Said(Ok(()));
    entry::run(target, argument.into(), &mut Vec::new(), &mut said)
        .map_err(|error| error.to_string())?;
    said.0.map_err(|text| cut(&text, TEXT).to_owned())
}

/// How a hook went.
struct Said(Result<(), String>);

impl Sink for Said {
    fn publish(&mut self, verdict: Verdict<'_>) {
        self.0 = match verdict {
            Verdict::Returned(result, ..) => {
                payload::decode(result).unwrap_or_else(|error| Err(error.to_string()))
            }
            Verdict::Panicked(panic) => Err(format!("it panicked: {panic}")),
            Verdict::ArgumentUndecodable(error) => Err(error.to_string()),
            Verdict::ResultUnencodable(error) => Err(error.to_string()),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static LEVEL: Cell<u32> = const { Cell::new(0) };
    }

    fn ran<A, R>(function: fn(A) -> R, argument: A) -> Result<(), String>
    where
        A: Serialize + DeserializeOwned,
        R: HookOutcome,
    {
        run(&encode(function, &argument).unwrap())
    }

    #[test]
    fn it_is_run_on_the_calling_thread_with_its_argument() {
        ran(|level| LEVEL.set(level), 7).unwrap();
        assert_eq!(LEVEL.get(), 7);
    }

    #[test]
    fn errors_and_panics_come_back_as_texts() {
        let fails = |text: String| -> Result<(), String> { Err(text) };
        assert_eq!(
            ran(fails, "no license".to_owned()),
            Err("no license".to_owned())
        );
        assert_eq!(ran(|_: ()| Ok::<_, fmt::Error>(()), ()), Ok(()));
        let panicked = ran(|n: u8| assert_eq!(n, 0, "boom"), 1).unwrap_err();
        assert!(
            panicked.starts_with("it panicked: ") && panicked.contains("boom"),
            "{panicked}"
        );
        let chain = crate::RemoteError::msg("cause").context("outside");
        let fails = |error: crate::RemoteError| Err::<(), _>(error);
        assert_eq!(ran(fails, chain), Err("outside: cause".to_owned()));
    }

    #[test]
    fn a_long_text_is_cut_off() {
        let long = ran(|length: usize| Err::<(), _>("x".repeat(length)), 1 << 20);
        assert_eq!(long.unwrap_err().len(), TEXT);
    }

    #[test]
    fn bytes_that_are_no_hook_are_an_error() {
        run(&[]).unwrap_err();
        run(&[1, 1]).unwrap_err();
        let takes_a_text: fn(String) = drop;
        let mut cut_short = encode(takes_a_text, &"argument".to_owned()).unwrap();
        cut_short.pop();
        run(&cut_short).unwrap_err();
    }
}
