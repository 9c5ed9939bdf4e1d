//! The way into a function: one piece of code per function type, which decodes the arguments,
//! calls, encodes the result and hands it over; and [`run`], which finds that code by address.
//!
//! # Why calling by address is sound here
//!
//! The only `unsafe` of this folder turns addresses back into the function pointers that they
//! were made from. That is right because
//!
//! 1. a [`Target`] is made in two places, [`Target::of`] and [`Target::of_async`], out of a
//!    function pointer and the [`enter`] or [`enter_async`] of that pointer's own type, and its
//!    two halves never part;
//! 2. it travels as offsets into the image, over a private channel, from the process that
//!    started this one to this one, after both have found that they are of the same build; so
//!    each offset means here what it meant there;
//! 3. offsets outside the image's code are refused by [`Target::resolve`].
//!
//! Point 2 is trust in the parent, which chose this process's program in the first place. It
//! does not extend the other way: a worker never names code to its parent.
#![allow(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::attached::{self, Attached, Origin};
use super::error::{DecodeError, EncodeError};
use super::hook::{Hook, HookOutcome};
use super::identity::{Target, UnknownTarget};
use super::panic::{self, PanicInfo};
use super::payload;
use super::progress::{Progress, Reporting};
use super::slabs::Use;
use crate::wire::packed::Packed;

/// What a function is called with.
#[derive(Debug)]
pub(crate) struct Argument<'a> {
    /// The arguments, encoded.
    pub(crate) bytes: &'a [u8],
    /// What came with them.
    pub(crate) beside: Attached,
}

impl<'a> Argument<'a> {
    /// What is to be called with once: what goes with it is taken from there.
    pub(crate) fn taken_from(packed: &'a Packed) -> Self {
        Self {
            bytes: packed,
            beside: packed.take_descriptors(),
        }
    }

    /// What may be called with again. Where a descriptor cannot be copied, it is missing.
    pub(crate) fn copied_from(packed: &'a Packed) -> Self {
        let held = packed.descriptors();
        let copies = held.iter().flat_map(|held| held.iter());
        Self {
            bytes: packed,
            beside: copies.map_while(|one| one.try_clone().ok()).collect(),
        }
    }
}

impl<'a> From<&'a [u8]> for Argument<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        let beside = Attached::new();
        Self { bytes, beside }
    }
}

/// How one call ended.
#[derive(Debug)]
pub(crate) enum Verdict<'a> {
    /// The function returned, and this is its result, encoded, and what goes with it; and how many
    /// bytes that are not among these.
    Returned(&'a [u8], Attached, usize),
    /// The function panicked.
    Panicked(PanicInfo),
    /// The arguments could not be read, and the function was not called.
    ArgumentUndecodable(DecodeError),
    /// The function returned what could not be encoded.
    ResultUnencodable(EncodeError),
}

/// Who is told how a call ended.
pub(crate) trait Sink {
    /// Takes the verdict of one call: exactly once, and before the result itself is dropped, so
    /// that a `Drop` which crashes or hangs does not cost a result that was there.
    fn publish(&mut self, verdict: Verdict<'_>);

    /// Takes a call of an async function, which has no verdict yet: to be gone on with until it has.
    /// Who runs nothing but blocking calls is never given one.
    fn take_over(&mut self, begun: Box<dyn Begun>) {
        drop(begun);
    }
}

/// A call of an async function that has been begun. Dropping it ends the call where it is; a panic
/// of what is dropped ends there, too.
pub(crate) trait Begun {
    /// Goes on with the call. When it is over, `sink` has its verdict.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        sink: &mut dyn Sink,
    ) -> Poll<()>;
}

/// Runs one call to its end and tells `sink` how it ended.
///
/// `scratch` is overwritten; it is a parameter so that its pages are kept between calls. No
/// panic of the user's code comes out of here: not from decoding, not from the function, not
/// from encoding, not from dropping the result.
///
/// # Errors
///
/// Where `target` names no code of this program. Nothing was run and `sink` was not told.
pub(crate) fn run(
    target: Target,
    argument: Argument<'_>,
    scratch: &mut Vec<u8>,
    sink: &mut dyn Sink,
) -> Result<(), UnknownTarget> {
    let code = target.resolve()?;
    scratch.clear();
    // SAFETY: by points 1 to 3 above, `code.entry` is the address of an `enter::<F, _>` or an
    // `enter_async::<F, _>`, whose type is `Entry` for every `F`. A code pointer goes through a data pointer and back
    // unchanged on every platform that the crate supports.
    let entry = unsafe { std::mem::transmute::<*const (), Entry>(code.entry as *const ()) };
    // SAFETY: by point 1, `code.function` is the address of an `F`, for that same `F`.
    unsafe { entry(code.function, argument, scratch, sink) };
    Ok(())
}

/// The address of the entry for functions of type `F`.
pub(super) fn address_for<F, Arguments>() -> usize
where
    F: Function<Arguments>,
    F::Output: Serialize,
    Arguments: DeserializeOwned,
{
    let entry: Entry = enter::<F, Arguments>;
    entry as *const () as usize
}

/// The address of the entry for async functions of type `F`.
pub(super) fn address_for_async<F, Arguments>() -> usize
where
    F: Function<Arguments>,
    F::Output: Future + 'static,
    <F::Output as Future>::Output: Serialize,
    Arguments: DeserializeOwned,
{
    let entry: Entry = enter_async::<F, Arguments>;
    entry as *const () as usize
}

/// [`enter`] with the types of the function erased.
type Entry = unsafe fn(usize, Argument<'_>, &mut Vec<u8>, &mut dyn Sink);

/// Decodes the arguments, calls the function and encodes the result, each caught apart, so that
/// the verdict says which of them failed.
///
/// # Safety
///
/// `function` is the [address](Function::address) of an `F`.
unsafe fn enter<F, Arguments>(
    function: usize,
    argument: Argument<'_>,
    scratch: &mut Vec<u8>,
    sink: &mut dyn Sink,
) where
    F: Function<Arguments>,
    F::Output: Serialize,
    Arguments: DeserializeOwned,
{
    // SAFETY: the caller vouches for just this.
    let function = unsafe { F::from_address(function) };

    let arguments = match decoded::<Arguments>(argument) {
        Ok(arguments) => arguments,
        Err(error) => return sink.publish(Verdict::ArgumentUndecodable(error)),
    };
    match panic::catch(|| function.call(arguments)) {
        Ok(result) => tell(result, scratch, sink),
        Err(panic) => sink.publish(Verdict::Panicked(panic)),
    }
}

/// The same for an async function: what it gives is handed over, to be gone on with.
///
/// # Safety
///
/// `function` is the [address](Function::address) of an `F`.
unsafe fn enter_async<F, Arguments>(
    function: usize,
    argument: Argument<'_>,
    _scratch: &mut Vec<u8>,
    sink: &mut dyn Sink,
) where
    F: Function<Arguments>,
    F::Output: Future + 'static,
    <F::Output as Future>::Output: Serialize,
    Arguments: DeserializeOwned,
{
    // SAFETY: the caller vouches for just this.
    let function = unsafe { F::from_address(function) };

    let arguments = match decoded::<Arguments>(argument) {
        Ok(arguments) => arguments,
        Err(error) => return sink.publish(Verdict::ArgumentUndecodable(error)),
    };
    match panic::catch(|| Box::pin(function.call(arguments))) {
        Ok(future) => sink.take_over(Box::new(Driven(Some(future)))),
        Err(panic) => sink.publish(Verdict::Panicked(panic)),
    }
}

fn decoded<Arguments: DeserializeOwned>(argument: Argument<'_>) -> Result<Arguments, DecodeError> {
    let Argument { bytes, beside } = argument;
    panic::catch(|| {
        attached::supply_from(Origin::Parent, beside, || {
            payload::decode::<Arguments>(bytes)
        })
    })
    .unwrap_or_else(|panic| Err(DecodeError::panicked::<Arguments>(&panic)))
}

/// Tells the verdict of a call that has returned.
fn tell<R: Serialize>(result: R, scratch: &mut Vec<u8>, sink: &mut dyn Sink) {
    scratch.clear();
    let encoded = panic::catch(|| {
        attached::collect_with_slabs(Use::Calls, || payload::encode(&result, scratch))
    });
    sink.publish(match encoded {
        Ok((Ok(()), beside, slabs)) => Verdict::Returned(scratch, beside, slabs),
        Ok((Err(error), ..)) => Verdict::ResultUnencodable(error),
        Err(panic) => Verdict::ResultUnencodable(EncodeError::panicked::<R>(&panic)),
    });
    panic::contain(|| drop(result));
}

/// An async function's call, until it is over.
struct Driven<F>(Option<Pin<Box<F>>>);

impl<F> Begun for Driven<F>
where
    F: Future,
    F::Output: Serialize,
{
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        sink: &mut dyn Sink,
    ) -> Poll<()> {
        let Some(future) = &mut self.0 else {
            return Poll::Ready(());
        };
        match panic::catch(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => tell(result, scratch, sink),
            Err(panic) => sink.publish(Verdict::Panicked(panic)),
        }
        let over = self.0.take();
        panic::contain(|| drop(over));
        Poll::Ready(())
    }
}

impl<F> Drop for Driven<F> {
    fn drop(&mut self) {
        if let Some(unfinished) = self.0.take() {
            panic::contain(|| drop(unfinished));
        }
    }
}

/// A plain function pointer that takes `Arguments`: the one argument itself, else a tuple.
///
/// Only pointers (bare, or as a [`Hook`] or [`Reporting`]), never closures or function items: those have types that a stranger could make
/// a value of here without ever having been given one.
pub(crate) trait Function<Arguments>: Copy {
    /// What it returns.
    type Output;

    /// Where its code is, in this process.
    fn address(self) -> usize;

    /// Makes the pointer whose code is at `address`.
    ///
    /// # Safety
    ///
    /// `address` came from [`address`](Self::address) of a pointer of this very type, in this
    /// process or, moved with the image, in another of the same build.
    unsafe fn from_address(address: usize) -> Self;

    /// Calls it.
    fn call(self, arguments: Arguments) -> Self::Output;
}

impl<F, Arguments> Function<Arguments> for Hook<F>
where
    F: Function<Arguments>,
    F::Output: HookOutcome,
{
    type Output = Result<(), String>;

    fn address(self) -> usize {
        self.0.address()
    }

    unsafe fn from_address(address: usize) -> Self {
        // SAFETY: the caller vouches that the address came from a `Hook<F>`, and so from an `F`.
        Self(unsafe { F::from_address(address) })
    }

    fn call(self, arguments: Arguments) -> Self::Output {
        self.0.call(arguments).into_result()
    }
}

impl<A, P, Output> Function<A> for Reporting<fn(A, Progress<P>) -> Output> {
    type Output = Output;

    fn address(self) -> usize {
        self.0.address()
    }

    unsafe fn from_address(address: usize) -> Self {
        // SAFETY: the caller vouches that the address came from a `Reporting` of this type, and so
        // from the pointer in it.
        Self(unsafe { Function::from_address(address) })
    }

    fn call(self, argument: A) -> Output {
        (self.0)(argument, Progress::of_current())
    }
}

macro_rules! function {
    ($arguments:ty, $pattern:pat, $($type:ident $name:ident),*) => {
        impl<Output, $($type),*> Function<$arguments> for fn($($type),*) -> Output {
            type Output = Output;

            fn address(self) -> usize {
                self as *const () as usize
            }

            unsafe fn from_address(address: usize) -> Self {
                // SAFETY: the caller vouches that a pointer of this type was at `address`, and
                // all function pointers are as large as a data pointer.
                unsafe { std::mem::transmute::<*const (), Self>(address as *const ()) }
            }

            fn call(self, $pattern: $arguments) -> Output {
                self($($name),*)
            }
        }
    };
}

function!((), (),);
function!(A, a, A a);
function!((A, B), (a, b), A a, B b);
function!((A, B, C), (a, b, c), A a, B b, C c);
function!((A, B, C, D), (a, b, c, d), A a, B b, C c, D d);
function!((A, B, C, D, E), (a, b, c, d, e), A a, B b, C c, D d, E e);
function!((A, B, C, D, E, F), (a, b, c, d, e, f), A a, B b, C c, D d, E e, F f);
function!((A, B, C, D, E, F, G), (a, b, c, d, e, f, g), A a, B b, C c, D d, E e, F f, G g);
function!((A, B, C, D, E, F, G, H), (a, b, c, d, e, f, g, h), A a, B b, C c, D d, E e, F f, G g, H h);

#[cfg(test)]
mod tests;
