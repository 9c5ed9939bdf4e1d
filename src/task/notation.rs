//! The notation for calls: [`call!`](crate::call), which reads like the call it stands for.
//!
//! A macro, because a function cannot take "a function and as many arguments as it has". It
//! takes the tokens apart only as far as it must: the last parenthesised group holds the
//! arguments, what stands before it is the function, and an argument that begins with `&` is
//! lent. All else is left to the compiler, whose errors then point at the user's own tokens.

use std::path::{Path, PathBuf};

/// Makes a [`Call`](crate::task::Call): a function with its arguments, to be run in a worker
/// process.
///
/// It is written like the call itself. The arguments are evaluated and encoded here and now; the
/// function runs later, in the worker.
///
/// ```
/// use procpool::call;
/// # use procpool::task::Call;
///
/// fn resize(image: Vec<u8>, width: u32) -> Vec<u8> {
/// #   let _ = width; image
///     // ..
/// }
///
/// let image = vec![0; 16];
/// let call = call!(resize(image, 300));
/// # let _: Call<Vec<u8>> = call;
/// ```
///
/// The function may be anything that is a plain function, named in any way:
///
/// ```
/// # use procpool::call;
/// use std::str::FromStr;
///
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Image;
/// # impl Image { fn empty() -> Image { Image } }
/// fn parse<T: FromStr>(text: String) -> Option<T> {
///     text.parse().ok()
/// }
/// fn double(n: i32) -> i32 {
///     n * 2
/// }
/// # let _ = (
/// call!(parse::<u32>("7".to_owned())),  // a generic function
/// call!(Image::empty()),                // an associated function
/// call!(<u32 as Default>::default()),   // a trait's function
/// # );
/// let chosen: fn(i32) -> i32 = double;
/// # let _ =
/// call!(chosen(21));                    // a function pointer
/// ```
///
/// # Lending an argument
///
/// An argument written `&value` is encoded from the reference, so `value` stays with the caller.
/// The worker decodes a value of its own, and passes it to the function as the function wants
/// it: as a value, or by reference (for a `Vec<T>` also as `&[T]`, for a `String` as `&str`, for
/// a `PathBuf` as `&Path`, for a `Box<T>` as `&T`).
///
/// ```
/// # use procpool::call;
/// fn total(values: &[u64]) -> u64 {
///     values.iter().sum()
/// }
///
/// let values = vec![1, 2, 3];
/// let call = call!(total(&values));
/// # drop(call);
/// assert_eq!(values.len(), 3);
/// ```
///
/// What is a reference already, a string literal or a slice in hand, has nothing to lend: send
/// `text.to_owned()`. A function that is held in a variable takes its arguments by value only. An expression that
/// begins with `&` and is more than a reference, such as `&a + &b`, goes in parentheses.
///
/// # What it does not compile
///
/// A wrong number or type of arguments, arguments and results that serde does not know, `&mut`,
/// more than eight arguments, and closures that capture something:
///
/// ```compile_fail
/// # use procpool::call;
/// fn add(a: i32, b: i32) -> i32 {
///     a + b
/// }
/// call!(add(1)); // expected a `fn(_) -> _`, found one of two arguments
/// ```
#[macro_export]
macro_rules! call {
    ($($call:tt)*) => {
        $crate::__call!(@split [] $($call)*)
    };
}

/// The parts of [`call!`](crate::call), each rule handing on to the next:
///
/// - `@split [function so far] rest` moves tokens over until one group in parentheses is left;
/// - `@each mode constructor [function] [(parameter constructor)..] [done..] rest` takes one
///   argument off `rest`. Each becomes `(parameter, passed, sent)`: its name in a wrapper, how
///   the wrapper passes it on, and the reference it is encoded from. The mode becomes `lending`
///   with the first that is lent;
/// - `@lent` is the rest of `@each` for an argument that begins with `&`;
/// - `@made` writes the constructor's call. Without lending that names the function itself, with
///   it a wrapper that takes owned arguments and captures nothing.
#[doc(hidden)]
#[macro_export]
macro_rules! __call {
    (@split [$($function:tt)+] ($($arguments:tt)*)) => {
        $crate::__call!(@each plain of0 [$($function)+]
            [(a of1) (b of2) (c of3) (d of4) (e of5) (f of6) (g of7) (h of8)] [] $($arguments)*)
    };
    (@split [$($value:tt)+] . $method:ident ($($arguments:tt)*)) => {
        ::core::compile_error!(
            "`call!` takes a method as the function that it is, `Type::method(value, ..)`"
        )
    };
    (@split [$($function:tt)*] $next:tt $($rest:tt)+) => {
        $crate::__call!(@split [$($function)* $next] $($rest)+)
    };
    (@split $($other:tt)*) => {
        ::core::compile_error!(
            "`call!` takes a function with its arguments, such as `call!(resize(image, 300))`"
        )
    };

    (@each $mode:ident $of:ident $function:tt $left:tt [$($done:tt)*]) => {
        $crate::__call!(@made $mode $of $function $($done)*)
    };
    (@each $mode:ident $of:ident $function:tt [] $done:tt $($rest:tt)+) => {
        ::core::compile_error!(
            "`call!` takes at most eight arguments; put some of them into a tuple or a struct"
        )
    };
    (@each $mode:ident $of:ident $function:tt $left:tt $done:tt &mut $($rest:tt)*) => {
        ::core::compile_error!(
            "a worker cannot change a value of the caller's: pass it and return the changed one"
        )
    };
    (@each $mode:ident $of:ident $function:tt $left:tt $done:tt & $($rest:tt)*) => {
        $crate::__call!(@lent $function $left $done & $($rest)*)
    };
    (@each $mode:ident $of:ident $function:tt [($name:ident $next:ident) $($left:tt)*]
        [$($done:tt)*] $argument:expr $(, $($rest:tt)*)?
    ) => {
        // The block moves the argument, as the call would; a bare `&` would only borrow it.
        $crate::__call!(@each $mode $next $function [$($left)*]
            [$($done)* ($name, $name, &{ $argument })] $($($rest)*)?)
    };
    (@lent $function:tt [($name:ident $next:ident) $($left:tt)*]
        [$($done:tt)*] $argument:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__call!(@each lending $next $function [$($left)*]
            [$($done)* ($name, $crate::task::__pass($name, &mut None), $argument)] $($($rest)*)?)
    };

    (@made plain $of:ident [$($function:tt)+] $(($name:ident, $passed:expr, $sent:expr))*) => {
        $crate::task::Call::$of($($function)+ $(, $sent)*)
    };
    (@made lending $of:ident [$($function:tt)+] $(($name:ident, $passed:expr, $sent:expr))*) => {
        $crate::task::Call::$of(|$($name),*| $($function)+($($passed),*) $(, $sent)*)
    };
}

/// Passes a lent argument to the function as the function wants it, kept in `place` meanwhile.
#[doc(hidden)]
pub fn __pass<'a, T: Pass<'a, P>, P>(value: T, place: &'a mut Option<T>) -> P {
    value.pass(place)
}

/// How an owned value becomes a parameter of type `P`: as itself or by reference.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "an argument lent to `call!` as `&{Self}` cannot be passed as `{P}`",
    label = "the function wants `{P}` here",
    note = "the worker has an owned `{Self}` of its own and can pass it as `{Self}` or `&{Self}`"
)]
pub trait Pass<'a, P>: Sized {
    /// Passes `self`, which may stay in `place` for as long as it is borrowed.
    fn pass(self, place: &'a mut Option<Self>) -> P;
}

impl<'a, T> Pass<'a, T> for T {
    fn pass(self, _place: &'a mut Option<T>) -> T {
        self
    }
}

impl<'a, T> Pass<'a, &'a T> for T {
    fn pass(self, place: &'a mut Option<T>) -> &'a T {
        place.insert(self)
    }
}

impl<'a, T> Pass<'a, &'a [T]> for Vec<T> {
    fn pass(self, place: &'a mut Option<Vec<T>>) -> &'a [T] {
        place.insert(self)
    }
}

impl<'a> Pass<'a, &'a str> for String {
    fn pass(self, place: &'a mut Option<String>) -> &'a str {
        place.insert(self)
    }
}

impl<'a> Pass<'a, &'a Path> for PathBuf {
    fn pass(self, place: &'a mut Option<PathBuf>) -> &'a Path {
        place.insert(self)
    }
}

impl<'a, T: ?Sized> Pass<'a, &'a T> for Box<T> {
    fn pass(self, place: &'a mut Option<Box<T>>) -> &'a T {
        place.insert(self)
    }
}

#[cfg(test)]
mod tests;

/// Each of these was seen to fail for the reason that it names.
///
/// ```compile_fail
/// fn double(n: i32) -> i32 { n * 2 }
/// procpool::call!(double("a wrong type"));
/// ```
/// ```compile_fail
/// let captured = 5;
/// procpool::call!((|n: i32| n + captured)(2));
/// ```
/// ```compile_fail
/// fn clear(mut values: Vec<u8>) { values.clear() }
/// procpool::call!(clear(&mut vec![1]));
/// ```
/// ```compile_fail
/// fn total(values: &[u32]) -> u32 { values.iter().sum() }
/// procpool::call!(total(&vec![1_u64]));
/// ```
/// ```compile_fail
/// struct UnknownToSerde;
/// fn take(_: UnknownToSerde) {}
/// procpool::call!(take(UnknownToSerde));
/// ```
/// ```compile_fail
/// let values = vec![1];
/// procpool::call!(values.len());
/// ```
/// ```compile_fail
/// procpool::call!(i32::abs);
/// ```
#[cfg(doctest)]
struct Refusals;
