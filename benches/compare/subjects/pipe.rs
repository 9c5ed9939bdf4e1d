//! The floor of a call: two processes that pass a message to and fro, and do nothing else.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::Instant;

use super::{Timed, tokio_worker::stdout};
use crate::place::Place;
use crate::role::command;

/// What this program is at the other end.
pub(crate) const ROLE: &str = "pipe";

struct Pipe {
    child: Child,
    there: ChildStdin,
    back: ChildStdout,
}

pub(crate) fn timed(place: Place) -> Timed {
    let mut pipe = Pipe::start(place);
    let timed = move |count| {
        place.take();
        let begun = Instant::now();
        (0..count).for_each(|n| assert_eq!(pipe.pass(n), n + 1));
        begun.elapsed()
    };
    ("pipe", Box::new(timed))
}

impl Pipe {
    fn start(place: Place) -> Self {
        let mut child = place
            .start(|| command(ROLE).spawn())
            .expect("this program, again");
        Self {
            there: child.stdin.take().expect("it is piped"),
            back: child.stdout.take().expect("it is piped"),
            child,
        }
    }

    fn pass(&mut self, n: u64) -> u64 {
        let mut message = [0; 16];
        message[..8].copy_from_slice(&n.to_ne_bytes());
        self.there.write_all(&message).expect("the child lives");
        self.back.read_exact(&mut message).expect("the child lives");
        number(&message)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end: sends back the number after the one that comes.
pub(crate) fn answer() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), stdout()?);
    let mut message = [0; 16];
    loop {
        input.read_exact(&mut message)?;
        let next = number(&message) + 1;
        message[..8].copy_from_slice(&next.to_ne_bytes());
        output.write_all(&message)?;
    }
}

fn number(message: &[u8; 16]) -> u64 {
    let (number, _) = message.split_first_chunk().expect("it is longer");
    u64::from_ne_bytes(*number)
}
