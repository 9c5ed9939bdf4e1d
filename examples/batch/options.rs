//! What was asked for on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
Prints the SHA-256 of every file below a folder.

usage: batch [OPTIONS] FOLDER

  --compress DIR    also make a compressed copy of each file in DIR
  --processes N     how many files are worked on at once (default: one per core)
  --timeout SECS    how long a single file may take (default: as long as it likes)
  --help            print this";

pub(crate) enum Request {
    Work(Options),
    Help,
}

pub(crate) struct Options {
    pub(crate) folder: PathBuf,
    pub(crate) compress: Option<PathBuf>,
    pub(crate) processes: Option<usize>,
    pub(crate) timeout: Option<Duration>,
    /// For tests: a file of this name kills the process that works on it.
    pub(crate) poison: Option<OsString>,
}

impl Options {
    pub(crate) fn from_arguments() -> Result<Request, lexopt::Error> {
        let (mut folder, mut compress, mut poison) = (None, None, None);
        let (mut processes, mut timeout) = (None, None);
        let mut arguments = Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Long("compress") => compress = Some(arguments.value()?.into()),
                Arg::Long("processes") => processes = Some(arguments.value()?.parse_with(number)?),
                Arg::Long("timeout") => timeout = Some(arguments.value()?.parse_with(seconds)?),
                Arg::Long("poison") => poison = Some(arguments.value()?),
                Arg::Long("help") => return Ok(Request::Help),
                Arg::Value(value) if folder.is_none() => folder = Some(value.into()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Request::Work(Self {
            folder: folder.ok_or("which folder?")?,
            compress,
            processes,
            timeout,
            poison,
        }))
    }
}

fn number(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    let some = (1..=65_536).contains(&number);
    some.then_some(number)
        .ok_or_else(|| "not from 1 to 65536".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|limit| !limit.is_zero())
        .ok_or_else(|| "not a time that can pass".to_owned())
}
