//! What tasks do to their workers, and how tests look at processes from outside.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A way for a task to end its process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Misdeed {
    Exit(i32),
    ExitAtOnce(i32),
    Abort,
    WriteNowhere,
    IllegalInstruction,
    Overflow,
    Signal(i32),
}

/// Commits it.
#[expect(unsafe_code, reason = "nothing safe goes as wrong as native code can")]
pub fn commit(misdeed: Misdeed) {
    match misdeed {
        Misdeed::Exit(code) => std::process::exit(code),
        // SAFETY: ends the process, and takes a number.
        Misdeed::ExitAtOnce(code) => unsafe { libc::_exit(code) },
        Misdeed::Abort => std::process::abort(),
        // SAFETY: none. The page at zero is never mapped, so that this is a fault of the process
        // and nothing else.
        Misdeed::WriteNowhere => unsafe {
            std::ptr::without_provenance_mut::<u64>(8).write_volatile(1);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an instruction that is defined to be undefined traps.
        Misdeed::IllegalInstruction => unsafe { std::arch::asm!("ud2") },
        #[cfg(not(target_arch = "x86_64"))]
        Misdeed::IllegalInstruction => send(std::process::id(), libc::SIGILL),
        Misdeed::Overflow => assert_ne!(descend(1), 0),
        Misdeed::Signal(signal) => {
            send(std::process::id(), signal);
            // It may hit another thread of this process, which takes a moment.
            std::thread::sleep(Duration::from_secs(10));
        }
    }
}

fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 128]);
    if depth == 0 {
        return 0;
    }
    descend(depth + 1) + frame[7]
}

/// Sends a signal to a process; false if there is none.
pub fn send(pid: u32, signal: i32) -> bool {
    let signal = Signal::from_named_raw(signal).unwrap();
    kill_process(to_pid(pid), signal).is_ok()
}

pub fn to_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// The letter that the kernel shows for what a process is doing; `None` if there is none.
pub fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// The process groups' leader, as the kernel shows it.
pub fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(2)?.parse().ok()
}

/// A line of `/proc/self/status` or of another task's.
pub fn status_line(path: &str, name: &str) -> String {
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim_matches(['\t', ' ', ':']).to_owned()
}

/// A directory of a test's own.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("procpool-test-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Of another process with this number, in another namespace.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    /// The path of something in it, as text that can be sent to a task.
    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// How many things are in it.
    pub fn count(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a file.
pub fn touch(path: impl AsRef<Path>) {
    fs::write(path, []).unwrap();
}

/// As a task: waits until there is such a file, and returns its own process id.
pub fn wait_for(path: String) -> u32 {
    while !Path::new(&path).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::process::id()
}

/// As a task: returns its own process id.
pub fn own_pid(_: ()) -> u32 {
    std::process::id()
}

/// As a task: starts a program that sleeps, writes that one's process id to the file, and hangs.
pub fn start_a_sleeper_and_hang(path: String) {
    start_a_sleeper(path);
    hang(());
}

/// As a task: starts a program that sleeps, and writes that one's process id to the file.
pub fn start_a_sleeper(path: String) {
    let sleeper = std::process::Command::new("sleep").arg("600").spawn();
    // Appears whole, for whoever waits for it.
    fs::write(format!("{path}.new"), sleeper.unwrap().id().to_string()).unwrap();
    fs::rename(format!("{path}.new"), path).unwrap();
}

/// As a task: does nothing for ever.
pub fn hang(_: ()) {
    loop {
        std::thread::park();
    }
}

/// As a task: computes for ever.
pub fn spin(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}

/// A process id that a task has written to a file.
pub fn pid_in(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
