//! What the way into a function promises: one exact verdict, before the result is dropped.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{panic_any, resume_unwind};

use serde::{Deserialize, Deserializer, Serializer};

use super::*;
use crate::task::ForeignFunction;

thread_local!(static ORDER: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) });

fn note(event: &'static str) {
    ORDER.with_borrow_mut(|order| order.push(event));
}

/// What a sink was told, kept.
#[derive(Debug)]
enum Told {
    Returned(Vec<u8>),
    Panicked(PanicInfo),
    ArgumentUndecodable(DecodeError),
    ResultUnencodable(EncodeError),
}

impl Sink for Vec<Told> {
    fn publish(&mut self, verdict: Verdict<'_>) {
        note("published");
        self.push(match verdict {
            Verdict::Returned(bytes, ..) => Told::Returned(bytes.to_vec()),
            Verdict::Panicked(panic) => Told::Panicked(panic),
            Verdict::ArgumentUndecodable(error) => Told::ArgumentUndecodable(error),
            Verdict::ResultUnencodable(error) => Told::ResultUnencodable(error),
        });
    }
}

/// Runs `function` as a worker would, and gives the one thing that the sink was told.
fn told<F, Arguments>(function: F, argument: &[u8]) -> Told
where
    F: Function<Arguments>,
    F::Output: Serialize,
    Arguments: DeserializeOwned,
{
    panic::install_hook();
    let target = Target::of(function).expect("it is a function of this program");
    let (mut scratch, mut sink) = (b"of the last call".to_vec(), Vec::new());
    run(target, argument.into(), &mut scratch, &mut sink).expect("this is its program");
    let told = sink.pop().expect("the sink is told");
    assert!(sink.is_empty(), "the sink is told once");
    told
}

fn panicked(function: fn()) -> PanicInfo {
    match told(function, &[]) {
        Told::Panicked(panic) => panic,
        other => panic!("{other:?}"),
    }
}

#[test]
fn functions_of_every_arity_are_called_with_their_arguments_in_order() {
    fn returned<F, A>(function: F, argument: &[u8]) -> Vec<u8>
    where
        F: Function<A>,
        F::Output: Serialize,
        A: DeserializeOwned,
    {
        match told(function, argument) {
            Told::Returned(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }
    type N = u8;
    let all = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(returned((|| 9) as fn() -> N, &[]), [9]);
    assert_eq!(returned((|a| a + 1) as fn(N) -> N, &[1]), [2]);
    let f: fn(N, N) -> [N; 2] = |a, b| [a, b];
    assert_eq!(returned(f, &all[..2]), all[..2]);
    let f: fn(N, N, N) -> [N; 3] = |a, b, c| [a, b, c];
    assert_eq!(returned(f, &all[..3]), all[..3]);
    let f: fn(N, N, N, N) -> [N; 4] = |a, b, c, d| [a, b, c, d];
    assert_eq!(returned(f, &all[..4]), all[..4]);
    let f: fn(N, N, N, N, N) -> [N; 5] = |a, b, c, d, e| [a, b, c, d, e];
    assert_eq!(returned(f, &all[..5]), all[..5]);
    let f: fn(N, N, N, N, N, N) -> [N; 6] = |a, b, c, d, e, f| [a, b, c, d, e, f];
    assert_eq!(returned(f, &all[..6]), all[..6]);
    let f: fn(N, N, N, N, N, N, N) -> [N; 7] = |a, b, c, d, e, f, g| [a, b, c, d, e, f, g];
    assert_eq!(returned(f, &all[..7]), all[..7]);
    type Eight = fn(N, N, N, N, N, N, N, N) -> [N; 8];
    let f: Eight = |a, b, c, d, e, f, g, h| [a, b, c, d, e, f, g, h];
    assert_eq!(returned(f, &all), all);
}

struct Bad;

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Err(serde::de::Error::custom("message raised in child")),
            1 => panic!("panic raised in child"),
            _ => Ok(Bad),
        }
    }
}

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("message raised in child"))
    }
}

#[test]
fn an_argument_that_cannot_be_decoded_is_told_and_the_function_not_called() {
    let takes_bad: fn(Bad) = |_| note("called");
    for (first, text) in [(0, "message raised in child"), (1, "panic raised in child")] {
        match told(takes_bad, &[first]) {
            Told::ArgumentUndecodable(error) => {
                assert!(error.reason().contains(text), "{error}");
                assert!(error.type_name().contains("Bad"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    ORDER.with_borrow(|order| assert_eq!(*order, ["published", "published"]));
}

#[test]
fn a_result_that_cannot_be_encoded_is_told() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("panic raised in child")
        }
    }
    match told((|| Bad) as fn() -> Bad, &[]) {
        Told::ResultUnencodable(error) => {
            assert_eq!(error.reason(), "message raised in child");
        }
        other => panic!("{other:?}"),
    }
    match told((|| Panics) as fn() -> Panics, &[]) {
        Told::ResultUnencodable(error) => {
            assert!(error.reason().contains("panic raised in child"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_is_told_with_its_message_and_its_place() {
    let panic = panicked(|| panic!("as plain text"));
    assert_eq!(panic.message(), "as plain text");
    let place = panic.location().expect("the hook saw it");
    assert!(place.starts_with(file!()), "{place}");
    let asked_for = Backtrace::capture().status() == BacktraceStatus::Captured;
    assert_eq!(panic.backtrace().is_some(), asked_for);

    let panic = panicked(|| panic!("with {} in it", String::from("values")));
    assert_eq!(panic.message(), "with values in it");

    let panic = panicked(|| panic_any(17));
    assert_eq!(panic.message(), "Box<dyn Any>");
    assert!(panic.location().is_some());
}

#[test]
fn a_panic_that_the_task_caught_lends_its_place_to_no_other() {
    let panic = panicked(|| {
        let caught = std::panic::catch_unwind(|| panic!("caught"));
        assert!(caught.is_err());
        resume_unwind(Box::new("passed on"));
    });
    assert_eq!((panic.message(), panic.location()), ("passed on", None));
}

#[test]
fn a_payload_that_panics_when_dropped_stays_inside() {
    struct Endless;
    impl Drop for Endless {
        fn drop(&mut self) {
            panic_any(Endless);
        }
    }
    let panic = panicked(|| panic_any(Endless));
    assert_eq!(panic.message(), "Box<dyn Any>");
}

#[test]
fn a_result_is_handed_over_before_it_is_dropped_and_its_drop_may_panic() {
    struct Dropped;
    impl Serialize for Dropped {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            note("encoded");
            serializer.serialize_u8(5)
        }
    }
    impl Drop for Dropped {
        fn drop(&mut self) {
            note("dropped");
            panic!("in drop");
        }
    }
    match told((|| Dropped) as fn() -> Dropped, &[]) {
        Told::Returned(bytes) => assert_eq!(bytes, [5]),
        other => panic!("{other:?}"),
    }
    ORDER.with_borrow(|order| assert_eq!(*order, ["encoded", "published", "dropped"]));
}

#[test]
fn a_task_may_run_in_place_inside_another() {
    let panic = panicked(|| {
        assert_eq!(panicked(|| panic!("inner")).message(), "inner");
        panic!("outer");
    });
    assert_eq!(panic.message(), "outer");
    assert!(panic.location().is_some());
}

#[test]
fn a_function_of_a_shared_library_has_no_name() {
    // SAFETY: the pointer is never called.
    let foreign =
        unsafe { <fn() as Function<()>>::from_address(libc::getpid as *const () as usize) };
    let error: ForeignFunction = Target::of(foreign).expect_err("it is libc's");
    assert!(error.to_string().contains("shared library"));
}
