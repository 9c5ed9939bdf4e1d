//! What the tests of this folder share: orders, reports, waiting with a limit,
//! and processes of their own for what would disturb the other tests.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use super::script::{Report, STEPS, Step};
use crate::process::lineage::Lineage;
use crate::process::{
    Child, Environment, Exit, Keeper, Launcher, Order, Program, StartError, StartMethod, key,
};
use crate::sys::{fork, pidfd, wait};
use crate::worker::boot::boot_variable;

/// More than anything here takes on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// Ends a child of these tests that its boot did not recognise.
pub(super) fn stop_here_if_not_booted() {
    if std::env::var_os(CHILD).is_some() {
        eprintln!("a child of these tests was not recognised as one, and came to main");
        std::process::exit(NOT_BOOTED);
    }
}

/// A child that its boot does not recognise goes on to the test harness, with
/// the arguments of this process: left alone it would run this test again, and
/// start children that do the same. So every child carries the mark by which
/// that ends here, before anything is executed a second time.
pub(super) fn program(method: StartMethod) -> Program {
    stop_here_if_not_booted();
    let mut environment = Environment::default();
    environment.set("PROCPOOL_TEST_VARIABLE".into(), "from the pool".into());
    environment.set(CHILD.into(), "1".into());
    Program {
        method,
        environment,
        boot: boot_variable(),
        shared: None,
        handshake_timeout: Duration::from_secs(10),
        preload: Vec::new(),
        preload_limit: LIMIT,
    }
}

pub(super) fn launcher(method: StartMethod) -> Launcher {
    Launcher::new(Keeper::get().expect("a keeper"), program(method))
}

pub(super) fn order(steps: &[Step]) -> Order {
    Order {
        lineage: Lineage::of_child("tested", false, StartMethod::default()),
        key: key::hand_down().expect("a key"),
        first: [STEPS, &postcard::to_stdvec(steps).expect("a script")].concat(),
        channel: Vec::new(),
        stdout: None,
        stderr: None,
    }
}

pub(super) fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe")
}

/// Launches a worker that reports, and waits for its report.
pub(super) async fn launch(
    launcher: &Launcher,
    steps: &[Step],
) -> Result<(Child, Report), StartError> {
    let (read, write) = pipe();
    let mut order = order(steps);
    order.channel.push(write);
    let child = launcher.launch(order).await?;
    let report = read_report(read.as_fd()).expect("a report");
    Ok((child, report))
}

fn read_report(pipe: impl AsFd) -> Option<Report> {
    let mut bytes = vec![0; 16 * 1024];
    wait_readable(&pipe, LIMIT).then_some(())?;
    let length = rustix::io::read(&pipe, &mut bytes).ok()?;
    postcard::from_bytes(&bytes[..length]).ok()
}

pub(super) fn wait_readable(descriptor: impl AsFd, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).expect("a short time");
    let mut entry = [PollFd::new(&descriptor, PollFlags::IN)];
    matches!(poll(&mut entry, Some(&limit)), Ok(1))
}

/// Waits until `condition` holds.
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn exit_within_limit(child: &Child) -> impl Future<Output = Exit> {
    let exited = child.exited();
    async {
        tokio::time::timeout(LIMIT, exited)
            .await
            .expect("an exit in time")
    }
}

/// A process, whoever's child, that these tests have started in some way.
pub(super) struct Seen(pub(super) u32, OwnedFd);

impl Seen {
    /// Must be called while the process is known to be there.
    pub(super) fn new(pid: u32) -> Self {
        Self::try_new(pid).expect("a process that is there")
    }

    pub(super) fn has_ended_within(&self, limit: Duration) -> bool {
        wait_readable(&self.1, limit)
    }

    pub(super) fn try_new(pid: u32) -> Option<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        Some(Self(pid, pidfd::open(number).ok()?))
    }

    pub(super) fn signal(&self, signal: Signal) {
        pidfd::send(self.1.as_fd(), signal).expect("a process of ours");
    }
}

/// The fields of `stat` behind the name: state, parent, group ..
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

pub(super) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat[0] == "T")
}

pub(super) fn group_of(pid: u32) -> Option<u32> {
    stat(pid)?[2].parse().ok()
}

/// The processes whose parent is `parent`.
pub(super) fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("a /proc");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|stat| stat[1] == parent.to_string()))
        .collect()
}

pub(super) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a /proc").count()
}

pub(super) fn has_thread(name: &str) -> bool {
    let threads = std::fs::read_dir("/proc/self/task").expect("a /proc");
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .any(|comm| comm.trim() == name)
}

/// Runs `body` in a copy of this process, and returns how that ended.
pub(super) fn in_a_copy(body: impl FnOnce()) -> Exit {
    let copy = fork::copy(|| {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        fork::exit_now(i32::from(done.is_err()))
    });
    let copy = pidfd::open(copy.expect("a copy")).expect("our child");
    assert!(wait_readable(&copy, LIMIT));
    let status = wait::reap(copy.as_fd()).expect("our child");
    Exit::from_waitid(&status.expect("it has ended"))
}

/// Marks every child of a launcher of these tests.
const CHILD: &str = "PROCPOOL_TEST_CHILD";

/// How a child ends that went on to main.
pub(super) const NOT_BOOTED: i32 = 44;

pub(super) const ROLE: &str = "PROCPOOL_TEST_ROLE";

/// The test binary again, running the test `name` alone in the part `role`.
pub(super) fn again(name: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test binary"));
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::null());
    command
}

/// The part that this process was given, if it is one made by [`again`].
pub(super) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Runs `test`, which is the body of the test `name`, in a process of its own.
pub(super) fn alone(name: &str, test: impl Future<Output = ()>) {
    stop_here_if_not_booted();
    if role().is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        return runtime.block_on(test);
    }
    let mut child = again(name, "alone")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test binary");
    let mut output = String::new();
    let mut errors = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let _ = stderr.read_to_string(&mut errors);
        errors
    });
    let mut stdout = child.stdout.take().expect("piped");
    let _ = stdout.read_to_string(&mut output);
    let status = child.wait().expect("our child");
    let errors = reader.join().expect("a reader");
    assert!(status.success(), "{status}\n{output}\n{errors}");
    assert!(output.contains("1 passed"), "{output}");
}
