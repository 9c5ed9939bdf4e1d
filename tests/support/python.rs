//! The Python programs of this machine, whichever there are, each to be the other end of a connection.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};

use procpool::Address;

use crate::support::{HANG, eventually};
use crate::surroundings::cannot_run;

/// One interpreter.
#[derive(Clone, Debug)]
pub struct Python {
    path: PathBuf,
    /// Such as 3, 12.
    pub version: (u32, u32),
}

impl fmt::Display for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "Python {major}.{minor}")
    }
}

/// All that can be found, from 3.8 on, the oldest first: one of each version. Where there is none,
/// says that the test did not run.
pub fn pythons(test: &str) -> &'static [Python] {
    static FOUND: OnceLock<Vec<Python>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let mut found: Vec<_> = candidates().filter_map(|path| Python::at(&path)).collect();
        found.retain(|python| python.version >= (3, 8));
        found.sort_by_key(|python| python.version);
        found.dedup_by_key(|python| python.version);
        found
    });
    if found.is_empty() {
        cannot_run(test, "no python3");
    }
    found
}

/// Where one may be: on the path, and where pyenv keeps them.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = env::split_paths(&path).collect();
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| root.join("versions").read_dir().ok());
    let installed = versions.into_iter().flatten().flatten();
    let installed = installed.map(|version| version.path().join("bin"));
    let folders = on_path.into_iter().chain(installed);
    folders.map(|folder| folder.join("python3"))
}

impl Python {
    fn at(path: &Path) -> Option<Self> {
        let script = "import multiprocessing.connection, sys; \
                      print(sys.version_info[0], sys.version_info[1])";
        let mut command = Command::new(path);
        let output = command.args(["-c", script]).stdin(Stdio::null()).output();
        let text = String::from_utf8(output.ok()?.stdout).ok()?;
        let (major, minor) = text.trim().split_once(' ')?;
        Some(Self {
            path: path.to_owned(),
            version: (major.parse().ok()?, minor.parse().ok()?),
        })
    }

    /// Where it lies, under the name `python3`.
    pub fn folder(&self) -> Option<&Path> {
        self.path.parent()
    }

    /// Whether it proves a key as Python does now, and not by HMAC-MD5 alone.
    pub fn knows_sha256(&self) -> bool {
        self.version >= (3, 12)
    }

    /// A command that runs a script of the repository.
    pub fn command(&self, script: &str) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(&self.path);
        command.arg("-B").arg(root.join(script));
        command.env("PYTHONUTF8", "1");
        command
    }

    /// Has it be the other end. See `tests/python/peer.py` for what it can be.
    pub fn play(&self, role: &str, address: &Address, key: &str) -> Peer {
        let mut command = self.command("tests/python/peer.py");
        command.arg(role).arg(address.to_string());
        Peer::start(&mut command, key)
    }
}

/// A Python program that runs; killed with the test.
pub struct Peer {
    process: Child,
    said: Receiver<String>,
}

impl Peer {
    /// Starts it, and says one line to it.
    pub fn start(command: &mut Command, line: &str) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(process.stdin.take().unwrap(), "{line}").unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { process, said }
    }

    /// Waits for what it says next.
    pub fn hear(&self) -> String {
        self.said.recv_timeout(HANG).expect("it says something")
    }

    /// Waits for its end.
    pub fn end(mut self) {
        let gone = eventually(HANG, || self.process.try_wait().unwrap().is_some());
        assert!(gone, "it does not end");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
