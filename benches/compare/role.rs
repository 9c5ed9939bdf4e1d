//! What this program is when it is executed again.

use std::env;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::apart;
use crate::subjects::{pipe, tokio_worker};

/// Its value says what the program is.
const ROLE: &str = "PROCPOOL_BENCH_ROLE";

/// This program, to be executed again as something.
pub(crate) fn command(role: &str) -> Command {
    let program = env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Plays the role, if there is one, to its end.
pub(crate) fn play() -> bool {
    let Ok(role) = env::var(ROLE) else {
        return false;
    };
    let played = match &*role {
        pipe::ROLE => pipe::answer(),
        tokio_worker::ROLE => tokio_worker::answer(),
        tokio_worker::ECHO => tokio_worker::echo(),
        BEGINNER => io::stdout().write_all(b"!"),
        measurement => apart::measure(measurement),
    };
    // Its other end may go at any time, and that is how it ends.
    played.unwrap_or_default();
    true
}

/// Says that it is there.
pub(crate) const BEGINNER: &str = "beginner";
