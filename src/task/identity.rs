//! Which function a call means: its address relative to the program's own image, which is the
//! same in every process of one build, wherever the loader has put it.
//!
//! That both ends are of one build is compared when they meet, before any of this travels.

use std::future::Future;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::entry::{self, Function};
use crate::sys::image::main_image;

/// A function and the entry that decodes its arguments, calls it and encodes its result.
///
/// The two belong together: the entry is the one made for the function's own type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Target {
    entry: u64,
    function: u64,
}

/// A [`Target`] in this process: both as addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    pub(super) entry: usize,
    pub(super) function: usize,
}

impl Target {
    /// Names `function` for every process of this program.
    ///
    /// # Errors
    ///
    /// Where the function, or the code made for its type, is not part of the program's own
    /// image: it then has no address that another process could know.
    pub(crate) fn of<F, Arguments>(function: F) -> Result<Self, ForeignFunction>
    where
        F: Function<Arguments>,
        F::Output: Serialize,
        Arguments: DeserializeOwned,
    {
        Self::at(entry::address_for::<F, Arguments>(), function.address())
    }

    /// Names an async function.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub(crate) fn of_async<F, Arguments>(function: F) -> Result<Self, ForeignFunction>
    where
        F: Function<Arguments>,
        F::Output: Future + 'static,
        <F::Output as Future>::Output: Serialize,
        Arguments: DeserializeOwned,
    {
        Self::at(
            entry::address_for_async::<F, Arguments>(),
            function.address(),
        )
    }

    fn at(entry: usize, function: usize) -> Result<Self, ForeignFunction> {
        let image = main_image();
        let offset = |address| image.offset_of_code(address).ok_or(ForeignFunction(()));
        Ok(Self {
            entry: offset(entry)?,
            function: offset(function)?,
        })
    }

    /// Where the entry and the function lie in the image.
    pub(super) fn offsets(self) -> (u64, u64) {
        (self.entry, self.function)
    }

    /// A number that is the same for all calls of one function.
    pub(crate) fn kind(self) -> u64 {
        self.function
    }

    /// Finds the target in this process.
    ///
    /// # Errors
    ///
    /// Where either part lies outside the code of this program's image.
    pub(super) fn resolve(self) -> Result<Resolved, UnknownTarget> {
        let image = main_image();
        let code = |offset| image.code_at(offset).ok_or(UnknownTarget(self));
        Ok(Resolved {
            entry: code(self.entry)?,
            function: code(self.function)?,
        })
    }
}

/// A function cannot be called in a worker, because it is not part of the program's own image.
///
/// A worker is the same program started again. It finds the program's functions in the same
/// place, but not those of a shared library, which may be loaded elsewhere there or not at all.
/// A function of the program's own that calls the library's does find it.
///
/// The error of such a call [is one of encoding](crate::TaskError::is_encode), and this is its
/// source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the function is in a shared library and not in the program itself, so no worker can find it"
)]
pub struct ForeignFunction(());

/// A request names code that this program does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no code of this program at {0:x?}")]
pub(crate) struct UnknownTarget(Target);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::payload::{decode, encode};

    fn double(n: u8) -> u8 {
        n * 2
    }

    fn generic<T: Default>(_: ()) -> T {
        T::default()
    }

    #[test]
    fn a_target_survives_the_journey() {
        let target = Target::of(double as fn(u8) -> u8).expect("it is ours");
        let mut bytes = Vec::new();
        encode(&target, &mut bytes).expect("two numbers");
        let back: Target = decode(&bytes).expect("two numbers");
        assert_eq!(back, target);
        let resolved = back.resolve().expect("it is ours");
        assert_eq!(
            resolved.function,
            double as fn(u8) -> u8 as *const () as usize
        );
    }

    #[test]
    fn each_instance_of_a_generic_function_is_a_target() {
        Target::of(generic::<u8> as fn(()) -> u8).expect("it is ours");
        Target::of(generic::<String> as fn(()) -> String).expect("it is ours");
    }

    #[test]
    fn offsets_outside_the_code_are_refused() {
        let good = Target::of(double as fn(u8) -> u8).expect("it is ours");
        for wrong in [0, 1, u64::MAX, u64::MAX / 2] {
            Target {
                entry: wrong,
                ..good
            }
            .resolve()
            .expect_err("no code there");
            Target {
                function: wrong,
                ..good
            }
            .resolve()
            .expect_err("no code there");
        }
    }
}
