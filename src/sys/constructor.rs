//! A function of this crate that libc calls before `main`, and the constructors that stand behind
//! it in the same array. What is done at that moment is the caller's affair.
//!
//! libc walks the array `.init_array` of the image from its front to its end. Who never returns to
//! it must run what stands behind, or C++ statics and registries filled by constructors would be
//! incomplete. The array's bounds are not taken from the linker's symbols: a strong reference to
//! them breaks the loading of shared objects, and weak ones need an unstable feature.

use std::ffi::{c_char, c_int};
use std::mem::{self, size_of};
use std::{ptr, slice};

use super::image::main_image;

/// What stands in the array. glibc hands over what `main` gets; with other libcs a constructor takes
/// no arguments, and is not disturbed by any.
pub(crate) type Entry = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Has libc call a function, once, before `main`: `at_program_start!(path)` where the path names a
/// `fn(ProgramStart)`.
macro_rules! at_program_start {
    ($hook:path) => {
        #[allow(unsafe_code)]
        const _: () = {
            use $crate::sys::constructor::{Entry, ProgramStart};

            // SAFETY: the section is an array of pointers to such functions, and this is one. It
            // unwinds into nobody: its ABI turns a panic into an abort.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static OWN_ENTRY: Entry = called_by_libc;

            extern "C" fn called_by_libc(
                argc: std::ffi::c_int,
                argv: *const *const std::ffi::c_char,
                envp: *const *const std::ffi::c_char,
            ) {
                let hook: fn(ProgramStart) = $hook;
                hook(ProgramStart::new(&OWN_ENTRY, argc, argv, envp));
            }
        };
    };
}
pub(crate) use at_program_start;

/// The moment before `main`, handed to the function that `at_program_start!` names, and to nobody
/// else.
#[derive(Debug)]
pub(crate) struct ProgramStart {
    own_entry: usize,
    arguments: Arguments,
}

/// What a constructor is given.
#[derive(Clone, Copy, Debug)]
struct Arguments {
    argc: c_int,
    argv: *const *const c_char,
    envp: *const *const c_char,
}

impl ProgramStart {
    /// For `at_program_start!` alone: it passes on what libc passed in. Other libcs than glibc pass
    /// nothing, and what is in those registers then is worth nothing either.
    pub(crate) fn new(
        own_entry: &'static Entry,
        argc: c_int,
        argv: *const *const c_char,
        envp: *const *const c_char,
    ) -> Self {
        let given = Arguments { argc, argv, envp };
        ProgramStart {
            own_entry: ptr::from_ref(own_entry) as usize,
            arguments: if cfg!(target_env = "gnu") {
                given
            } else {
                Arguments::NONE
            },
        }
    }

    /// Runs all constructors that libc would have run after this one. The caller must not go back
    /// to libc after that, which would run them again: it becomes the program.
    ///
    /// # Errors
    ///
    /// Nothing was run if the array of constructors, or our place in it, cannot be found.
    pub(crate) fn run_constructors_behind(self) -> Result<(), ConstructorsNotFound> {
        let constructors = constructors_behind(self.own_entry).ok_or(ConstructorsNotFound)?;
        for constructor in constructors {
            constructor.run(self.arguments);
        }
        Ok(())
    }
}

impl Arguments {
    const NONE: Self = Arguments {
        argc: 0,
        argv: ptr::null(),
        envp: ptr::null(),
    };
}

/// The image does not say which constructors it has: its section table was cut off.
#[derive(Debug, thiserror::Error)]
#[error("the program's constructors cannot be found in its image")]
pub(crate) struct ConstructorsNotFound;

/// A function of the main program that libc would run before `main`, not run yet.
#[derive(Debug)]
struct Constructor(usize);

impl Constructor {
    fn run(self, arguments: Arguments) {
        // SAFETY: the word stands in the program's array of constructors, all of which have this
        // type or take nothing. It is not zero: those were left out.
        let entry = unsafe { mem::transmute::<usize, Entry>(self.0) };
        entry(arguments.argc, arguments.argv, arguments.envp);
    }
}

/// Lists the constructors behind the entry that lies at the given place in the array.
fn constructors_behind(own: usize) -> Option<Vec<Constructor>> {
    let array = main_image().init_array()?;
    let behind = own.checked_add(size_of::<Entry>())?;
    if !array.contains(&own) || (own - array.start) % size_of::<Entry>() != 0 {
        return None;
    }
    let count = array.end.saturating_sub(behind) / size_of::<Entry>();
    // SAFETY: `init_array` gives an aligned range of words in a readable segment of the main
    // program, of which this is the rest behind a word that lies in it. The loader relocated it
    // before it ran the first constructor, and nobody writes to it afterwards.
    let words = unsafe { slice::from_raw_parts(behind as *const usize, count) };
    Some(
        words
            .iter()
            .copied()
            .filter(is_entry)
            .map(Constructor)
            .collect(),
    )
}

/// Zero and all ones are no functions: both have been used to mark the ends of such arrays.
fn is_entry(word: &usize) -> bool {
    !matches!(*word, 0 | usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_in_the_array_has_one_constructor_less_behind_it() {
        let array = main_image()
            .init_array()
            .expect("a test program has constructors");
        let places = array.clone().step_by(size_of::<Entry>());
        let behind: Vec<_> = places
            .map(|place| {
                constructors_behind(place)
                    .expect("a place in the array")
                    .len()
            })
            .collect();
        assert_eq!(behind.last(), Some(&0));
        assert!(
            behind
                .windows(2)
                .all(|pair| matches!(pair[0] - pair[1], 0 | 1))
        );
        assert!(behind[0] >= 1, "our own constructor and libc's, at least");
    }

    #[test]
    fn a_place_outside_the_array_or_between_two_entries_has_nothing_behind_it() {
        let array = main_image()
            .init_array()
            .expect("a test program has constructors");
        assert!(constructors_behind(array.end).is_none());
        assert!(constructors_behind(array.start + 1).is_none());
        assert!(constructors_behind(array.start - size_of::<Entry>()).is_none());
    }

    #[test]
    fn the_marks_of_an_end_are_no_constructors() {
        assert!(!is_entry(&0) && !is_entry(&usize::MAX) && is_entry(&0x1000));
    }
}
