//! # How it is made
//!
//! What both ends agree on: which function a call means, and how its arguments and its result
//! look as bytes. It knows no processes and no pipes.
//!
//! A *task* is what can be run: a plain function of this program. A *call* is a task with its
//! arguments. The life of an argument, from the left end to the right and back as a result:
//!
//! ```text
//!    caller                                      worker
//!    call!(f(a, b))                              run
//!      Target::of(f)  entry + function  ------>    Target::resolve
//!      payload::encode((a, b))  bytes   ------>    payload::decode        ArgumentUndecodable
//!                                                  f(a, b)                Panicked
//!                                                  payload::encode        ResultUnencodable
//!      Parts::decode  <---------------  bytes      Sink::publish          Returned
//!                                                  drop(result)
//! ```
//!
//! Each step of the worker's side is caught apart, so that the verdict on the right is exact.
//! The result is handed over before it is dropped: what a `Drop` does then costs no result.
//!
//! - `call`: a function with its arguments; `notation`: the macro that makes one
//! - `items`: many arguments in one request
//! - `head`: what goes before the arguments; `context`: what a running task knows of itself
//! - `cancel`: how it learns that it is to come to its end; `waiting`: futures that wait for that
//! - `place`: how it does where there is no worker
//! - `progress`: what it says while it runs
//! - `hook`: what is run around the calls
//! - `identity`: a function's name among processes of one build
//! - `entry`: from that name to the function and to its verdict
//! - `payload`: values and bytes, with `encoder`, `decoder` and their `limits`; `transit`: that a
//!   value is between the two
//! - `attached`: descriptors, which travel beside the bytes; `fd`: what owns one, as a value
//! - `slabs`: memory by which large bytes travel; `bulk`: large bytes, as a value
//! - `json`: for types that this format cannot carry
//! - `panic`: what is known of a panic, and how it is caught
//! - `answer`: how the one call of a process ended, on its way to its parent
//! - `record`: what a task has logged, on its way to the program
//! - `error`: how encoding and decoding fail; `remote`: an error that a task can return

pub(crate) mod answer;
pub(crate) mod attached;
pub(crate) mod bulk;
pub(crate) mod call;
pub(crate) mod cancel;
pub(crate) mod context;
mod decoder;
mod encoder;
pub(crate) mod entry;
mod error;
mod fd;
pub(crate) mod head;
pub(crate) mod hook;
pub(crate) mod identity;
pub(crate) mod items;
#[cfg(feature = "json")]
mod json;
mod limits;
mod notation;
pub(crate) mod panic;
pub(crate) mod payload;
pub(crate) mod place;
pub(crate) mod progress;
#[cfg(feature = "tracing")]
pub(crate) mod record;
pub(crate) mod remote;
pub(crate) mod slabs;
mod transit;
pub(crate) mod waiting;

pub use call::Call;
pub use cancel::{CancelReason, CancellationToken};
pub use context::{TaskContext, current, retire_worker};
pub(crate) use error::write_sources;
pub use error::{DecodeError, EncodeError};
pub use fd::Fd;
pub use hook::HookOutcome;
pub use identity::ForeignFunction;
#[cfg(feature = "json")]
pub use json::Json;
#[doc(hidden)]
pub use notation::__pass;
pub use panic::PanicInfo;
pub use progress::{Progress, ProgressError};
pub use remote::RemoteError;
pub use transit::in_transit;
