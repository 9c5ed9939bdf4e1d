//! A process that runs one call: it says how that ended, and ends itself.

use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::DEPTH;
use super::serve::{FAILED, flush_stdio};
use super::watch;
use crate::process::{Environment, StartMethod, lineage, private, unsent};
use crate::sys::{fork, mapping, title};
use crate::task::entry::{self, Argument, Begun, Sink, Verdict};
use crate::task::identity::Target;
use crate::task::{answer, panic};

/// What such a process is told, in a file, with the encoded argument behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// How many pools its parent is inside of.
    pub(crate) depth: u8,
    /// How its environment differs from the one that it has.
    pub(crate) environment: Environment,
    /// What it calls.
    pub(crate) target: Target,
    /// Whether descriptors come with the argument.
    pub(crate) beside: bool,
}

/// The exit code after a panic: that of any program whose `main` has panicked.
const PANICKED: i32 = 101;

/// Runs the call in the channel, and exits. `program` is the pidfd of the process to end with.
pub(super) fn run(program: Arc<OwnedFd>, channel: Vec<OwnedFd>) -> ! {
    let code = match Post::take(program, channel).and_then(Post::work) {
        Ok(code) => code,
        Err(error) => {
            // Not `eprintln!`, which panics where nobody can be told.
            let name = lineage::own_name();
            let _ = writeln!(io::stderr(), "procpool: process {name}: {error}");
            FAILED
        }
    };
    flush_stdio();
    unsent::settle();
    if is_copy() {
        // What was registered for an exit is its parent's.
        fork::exit_now(code);
    }
    std::process::exit(code)
}

/// Whether this is a copy of its parent, which the kernel ends with that.
fn is_copy() -> bool {
    lineage::standing().is_some_and(|own| own.lineage.method == StartMethod::Fork)
}

/// What there is to do, and who is told.
struct Post {
    target: Target,
    argument: Vec<u8>,
    beside: Vec<OwnedFd>,
    told: Told,
}

/// Who is told how it went.
struct Told {
    socket: OwnedFd,
    /// The exit code, once the parent was told.
    code: io::Result<i32>,
    /// An async call that is not over.
    begun: Option<Box<dyn Begun>>,
}

impl Post {
    /// Sets the process up.
    fn take(program: Arc<OwnedFd>, channel: Vec<OwnedFd>) -> io::Result<Self> {
        let [file, socket]: [OwnedFd; 2] = channel
            .try_into()
            .map_err(|_| io::Error::other("a process's channel has two ends"))?;
        let file = mapping::read_copy(file)?;
        let (assignment, argument) =
            postcard::take_from_bytes::<Assignment>(&file).map_err(io::Error::other)?;
        // While this is the only thread.
        assignment.environment.take_on()?;
        let name = lineage::own_name();
        title::set_title(&name, &format!("procpool: process {name}"));
        DEPTH.store(assignment.depth, Ordering::Relaxed);
        panic::install_hook();
        panic::print_as_well();
        if is_copy() {
            private::keep_for_life(&socket);
        } else {
            watch::end_with(program)?;
        }
        let beside = match assignment.beside {
            true => answer::receive_beside(&socket)?,
            false => Vec::new(),
        };
        Ok(Self {
            target: assignment.target,
            argument: argument.to_vec(),
            beside,
            told: Told {
                socket,
                code: Err(io::Error::other("the call has no end")),
                begun: None,
            },
        })
    }

    /// Runs the call; the code to exit with.
    fn work(mut self) -> io::Result<i32> {
        let mut scratch = Vec::new();
        let argument = Argument {
            bytes: &self.argument,
            beside: self.beside,
        };
        entry::run(self.target, argument, &mut scratch, &mut self.told)
            .map_err(io::Error::other)?;
        if let Some(mut begun) = self.told.begun.take() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(poll_fn(|context| {
                begun.poll(context, &mut scratch, &mut self.told)
            }));
            // What it has left running is dropped, and blocking work not waited for.
            runtime.shutdown_background();
        }
        self.told.code
    }
}

impl Sink for Told {
    fn publish(&mut self, verdict: Verdict<'_>) {
        let code = match verdict {
            Verdict::Returned(..) => 0,
            Verdict::Panicked(_) => PANICKED,
            Verdict::ArgumentUndecodable(_) | Verdict::ResultUnencodable(_) => FAILED,
        };
        self.code = answer::send(&self.socket, verdict).map(|()| code);
    }

    fn take_over(&mut self, begun: Box<dyn Begun>) {
        self.begun = Some(begun);
    }
}
