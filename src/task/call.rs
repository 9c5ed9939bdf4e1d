//! A call: a function with its arguments, ready to be run in another process.
//!
//! Users write one with [`call!`](crate::call). How it is run is the pool's business.

use std::fmt;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::Function;
use super::error::{DecodeError, EncodeError};
use super::identity::{ForeignFunction, Target};
use super::payload;
use crate::wire::packed::Packed;

/// A function together with its arguments, to be run in a worker process.
///
/// Made by [`call!`](crate::call). The arguments are encoded at once, on the thread that makes
/// the call, so that nothing of it borrows and the whole can be kept, moved and sent, whatever
/// `R` is. What cannot be encoded, or is no function of this program, is found out here and told
/// by whoever runs the call.
///
/// ```
/// use procpool::{call, task::Call};
///
/// fn add(a: i32, b: i32) -> i32 {
///     a + b
/// }
///
/// let sum: Call<i32> = call!(add(1, 2));
/// ```
#[must_use = "a call does nothing until it is submitted"]
pub struct Call<R> {
    target: Result<Target, ForeignFunction>,
    argument: Result<Packed, EncodeError>,
    decode: fn(&Packed) -> Result<R, DecodeError>,
    is_async: bool,
}

/// A [`Call`] taken apart by who runs it.
pub(crate) struct Parts<R> {
    /// The function, or why no worker can find it.
    pub(crate) target: Result<Target, ForeignFunction>,
    /// The arguments, encoded, or why they cannot be.
    pub(crate) argument: Result<Packed, EncodeError>,
    /// Reads the result.
    pub(crate) decode: fn(&Packed) -> Result<R, DecodeError>,
    /// The function gives a future of the result.
    pub(crate) is_async: bool,
}

impl<R: Serialize + DeserializeOwned> Call<R> {
    /// A call of an async function, which gives an `R` in the end.
    pub(crate) fn of_async<F, A>(function: F, argument: &A) -> Self
    where
        F: Function<A>,
        F::Output: Future<Output = R> + 'static,
        A: Serialize + DeserializeOwned,
    {
        Self {
            target: Target::of_async(function),
            argument: payload::pack_call(argument),
            decode: payload::unpack::<R>,
            is_async: true,
        }
    }

    /// A call of a function that is more than a bare pointer.
    pub(crate) fn of<F, A>(function: F, argument: &A) -> Self
    where
        F: Function<A, Output = R>,
        A: Serialize + DeserializeOwned,
    {
        Self {
            target: Target::of(function),
            argument: payload::pack_call(argument),
            decode: payload::unpack::<R>,
            is_async: false,
        }
    }
}

impl<R> Call<R> {
    /// Takes the call apart.
    pub(crate) fn into_parts(self) -> Parts<R> {
        let Self {
            target,
            argument,
            decode,
            is_async,
        } = self;
        Parts {
            target,
            argument,
            decode,
            is_async,
        }
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.argument.as_ref().map(|argument| argument.len());
        f.debug_struct("Call")
            .field("target", &self.target)
            .field("argument_bytes", &bytes)
            .finish_non_exhaustive()
    }
}

/// Constructors, one per number of arguments: a function item becomes a pointer only where the
/// parameter's type says how many arguments that pointer takes. They are [`call!`](crate::call)'s
/// and take references because encoding needs no more.
macro_rules! constructors {
    ($($of:ident($($type:ident $name:ident),*) encodes $arguments:expr;)*) => {
        impl<R: Serialize + DeserializeOwned> Call<R> {$(
            #[doc(hidden)]
            #[allow(clippy::too_many_arguments, reason = "the arguments are the user's")]
            pub fn $of<$($type),*>(function: fn($($type),*) -> R $(, $name: &$type)*) -> Self
            where
                $($type: Serialize + DeserializeOwned),*
            {
                Self {
                    target: Target::of(function),
                    argument: payload::pack_call(&$arguments),
                    decode: payload::unpack::<R>,
                    is_async: false,
                }
            }
        )*}
    };
}

constructors! {
    of0() encodes ();
    of1(A a) encodes *a;
    of2(A a, B b) encodes (a, b);
    of3(A a, B b, C c) encodes (a, b, c);
    of4(A a, B b, C c, D d) encodes (a, b, c, d);
    of5(A a, B b, C c, D d, E e) encodes (a, b, c, d, e);
    of6(A a, B b, C c, D d, E e, F f) encodes (a, b, c, d, e, f);
    of7(A a, B b, C c, D d, E e, F f, G g) encodes (a, b, c, d, e, f, g);
    of8(A a, B b, C c, D d, E e, F f, G g, H h) encodes (a, b, c, d, e, f, g, h);
}
