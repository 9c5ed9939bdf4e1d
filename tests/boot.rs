//! How processes become workers, in every kind of program that can contain the crate: the programs
//! under `tests/probes` are built, run, and asked what their workers saw.
//!
//! Unit tests, doc tests, examples and benches are such programs too; they are tested by being
//! there.

#[path = "probes/build.rs"]
mod build;

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use build::{dev, explicit, plain, temporary, two_versions};

const AS_EXPECTED: &str = "as expected";
/// The exit code of a process that was started as a worker and cannot be one.
const REFUSED: Option<i32> = Some(125);

/// What comes of each task in a worker of any program.
const OUTCOMES: [(&str, &str); 5] = [
    ("report", AS_EXPECTED),
    ("nested", "as expected, as expected"),
    ("program-again", PROGRAM_AGAIN),
    ("overflow", "lost by signal 6 (SIGABRT)"),
    ("fault", "lost by signal 11 (SIGSEGV)"),
];

/// What an ordinary run of a program prints, in one line.
const PROGRAM_AGAIN: &str = "main: reached; forkserver: as expected; spawn: as expected; ";

#[test]
fn a_worker_starts_clean_and_never_reaches_main() {
    for (act, answer) in OUTCOMES {
        Run::of(&dev("plain"), act).answers(answer);
    }
}

#[test]
fn every_profile_has_workers() {
    for profile in ["release", "fat"] {
        let plain = plain(profile);
        for (act, answer) in OUTCOMES {
            Run::of(&plain, act).answers(answer);
        }
    }
}

/// CF-082.
#[test]
fn where_a_panic_aborts_it_costs_its_worker() {
    let run = Run::of(&plain("fat"), "panic");
    run.answers("lost by signal 6 (SIGABRT)");
    assert_eq!(run.errors.matches("as a task does").count(), 2, "{run:?}");
}

#[test]
fn a_program_whose_library_uses_the_crate_has_workers() {
    let run = Run::of(&dev("through_library"), "report");
    run.answers(AS_EXPECTED);
    assert_eq!(run.errors, "");
}

/// CF-270.
#[test]
fn a_worker_has_the_arguments_of_its_program() {
    let mut command = Command::new(dev("plain"));
    command.args(["report", "", "two words", "--worker", "=\u{e8}"]);
    let run = Run::by(command.env("EMPTY", "").env("LINES", "two\nlines"));
    run.answers(AS_EXPECTED);
}

/// CF-295.
#[test]
fn what_a_program_has_begun_to_print_is_printed_once() {
    let run = Run::by(&mut Command::new(dev("partial")));
    let method = |name: &str| format!("worker: 1\nworker: begun; {name}: begun, ended\n");
    assert_eq!(run.lines, method("forkserver") + &method("spawn"));
    assert_eq!(run.errors, "worker: complains; worker: complains; ");
}

#[test]
fn nothing_is_printed_but_by_the_task() {
    let run = Run::of(&dev("plain"), "print");
    let lines = "main: reached\n\
        worker: a line\nforkserver: printed\n\
        worker: a line\nspawn: printed\n";
    assert_eq!(run.lines, lines, "{run:?}");
    assert_eq!(run.errors, "worker: a complaint\n".repeat(2), "{run:?}");
}

/// CF-293.
#[test]
fn what_the_program_inherited_is_not_handed_down() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=INT,CHLD", "--block-signal=USR1,TERM"]);
    command.arg("sh").args(["-c", r#"exec "$0" report 9<"$0""#]);
    Run::by(command.arg(dev("plain"))).answers(AS_EXPECTED);
}

#[test]
fn a_program_without_standard_descriptors_has_workers() {
    let closed = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"];
    let by_shell = closed.map(|closed| (dev("plain"), closed));
    for (program, closed) in by_shell.into_iter().chain([(dev("closed"), "")]) {
        let answers = temporary().join(format!("closed-answers-{}", std::process::id()));
        let script = format!(r#"exec "$0" report {closed}"#);
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(program);
        let run = Run::by(command.env("PROBE_ANSWERS", &answers));
        let given = fs::read_to_string(&answers).unwrap_or_default();
        let _ = fs::remove_file(&answers);
        let expected = "forkserver: as expected\nspawn: as expected\n";
        assert_eq!(given, expected, "{closed}: {run:?}");
    }
}

#[test]
fn the_variable_without_a_socket_ends_the_process_before_main() {
    let (end, other_end) = UnixStream::pair().expect("a pair");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let tcp = TcpStream::connect(address).expect("a connection");
    let program = dev("plain");
    let not_a_socket = "standard input is not a Unix socket";
    let stranger = "the socket on standard input is not connected, or belongs to another user";
    let inputs: [(Stdio, &str); 5] = [
        (Stdio::null(), not_a_socket),
        (File::open(&program).expect("a file").into(), not_a_socket),
        (Stdio::piped(), not_a_socket),
        (OwnedFd::from(tcp).into(), not_a_socket),
        (
            OwnedFd::from(UnixDatagram::unbound().expect("a socket")).into(),
            stranger,
        ),
    ];
    let value = boot_value();
    for (input, why) in inputs {
        let mut command = Command::new(&program);
        command.stdin(input).env("PROCPOOL_BOOT", &value);
        let run = Run::by(&mut command);
        let line = format!("procpool: this process was started as a worker, but {why}\n");
        assert_eq!((run.code, run.lines.as_str()), (REFUSED, ""), "{run:?}");
        assert_eq!(run.errors, line);
    }
    // There is a socket, and nobody who says what this process is for.
    drop(other_end);
    let mut command = Command::new(&program);
    command
        .stdin(OwnedFd::from(end))
        .env("PROCPOOL_BOOT", value);
    let run = Run::by(&mut command);
    assert_ne!(run.code, Some(0), "{run:?}");
    assert_eq!(run.lines, "", "{run:?}");
}

#[test]
fn a_variable_that_names_nobody_is_left_alone() {
    for value in ["", "0", "1234", "not a number"] {
        let mut command = Command::new(dev("plain"));
        let run = Run::by(command.arg("report").env("PROCPOOL_BOOT", value));
        run.answers(AS_EXPECTED);
    }
}

#[test]
fn a_stack_overflow_is_reported_under_every_limit() {
    // In KiB. Not a whole number of pages; less and more than usual.
    for limit in ["250", "9001", "65536"] {
        let script = format!(r#"ulimit -s {limit}; exec "$0" overflow"#);
        let mut command = Command::new("sh");
        let run = Run::by(command.args(["-c", &script]).arg(dev("plain")));
        run.answers("lost by signal 6 (SIGABRT)");
        let reports = run.errors.matches("' has overflowed its stack\n").count();
        assert_eq!(reports, 2, "{limit}: {run:?}");
    }
}

#[test]
fn a_stack_overflow_is_reported_in_what_a_worker_forks() {
    let run = Run::of(&dev("plain"), "overflow-in-fork");
    run.answers("signal 6");
    assert!(run.errors.contains("has overflowed its stack"), "{run:?}");
}

#[test]
fn any_other_fault_ends_the_worker_by_its_own_signal() {
    for act in ["fault", "segv-sent"] {
        let run = Run::of(&dev("plain"), act);
        run.answers("lost by signal 11 (SIGSEGV)");
        assert_eq!(run.errors, "", "{act}");
    }
}

#[test]
fn what_constructors_register_is_there_in_a_worker() {
    let run = Run::of(&dev("registry"), "items");
    run.answers("of a library, of the program");
}

#[test]
fn constructors_before_and_behind_ours_have_run() {
    let run = Run::of(&dev("registry"), "orders");
    run.answers("1 before, 1 behind");
}

#[test]
fn a_copy_in_a_shared_library_says_what_to_do() {
    let value = boot_value();
    let variable = |value: &str| vec![("PROCPOOL_BOOT", value.to_owned())];
    for environment in [vec![], variable("1234"), variable(""), variable(&value)] {
        let mut command = Command::new(dev("host"));
        command.arg(dev("libplugin.so")).envs(environment);
        let run = Run::by(&mut command);
        let error = "plugin: true this copy of the crate is part of a shared library, and workers \
            are started from the program that loaded it; start them in a program of your own \
            that contains the crate\n";
        assert_eq!(run.lines, error.repeat(2) + "host: done\n", "{run:?}");
        assert_eq!((run.code, run.errors.as_str()), (Some(0), ""));
    }
}

#[test]
fn without_the_constructor_init_makes_the_worker() {
    for (act, answer) in OUTCOMES {
        Run::of(&explicit("explicit"), act).answers(answer);
    }
}

#[test]
fn without_the_constructor_and_init_no_pool_is_built() {
    let run = Run::by(&mut Command::new(explicit("uninitialised")));
    let error = "true this program cannot start workers: the crate's start-up code has not run; \
        call `procpool::init()` first thing in `main`, or enable the feature `auto-init`\n";
    assert_eq!((run.lines.as_str(), run.errors.as_str()), (error, ""));
}

#[test]
fn init_beside_other_threads_refuses_to_become_a_worker() {
    let run = Run::of(&explicit("late"), "report");
    assert_eq!(run.lines.matches("main: reached").count(), 1, "{run:?}");
    assert_eq!(run.lines.matches("exit code 125").count(), 2, "{run:?}");
    let why = "`procpool::init()` was not called before other threads were started\n";
    assert!(run.errors.contains(why), "{run:?}");
}

#[test]
fn two_versions_in_one_program_have_workers_of_their_own() {
    let run = Run::by(&mut Command::new(two_versions()));
    let of_each = "forkserver 144 144; spawn 144 144; \n";
    let expected = format!("main: reached\n{of_each}{of_each}");
    assert_eq!(run.lines, expected, "{run:?}");
}

#[test]
fn a_program_whose_file_is_taken_away_has_workers_of_the_same_image() {
    for by_another in [false, true] {
        let dir = temporary().join(format!("taken-away-{by_another}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let (program, other) = (dir.join("replaced"), dir.join("other"));
        // A link and no copy: a file that is open for writing anywhere cannot be executed.
        fs::hard_link(dev("replaced"), &program).expect("a link");
        fs::hard_link(dev("plain"), &other).expect("a link");
        let mut command = Command::new(program);
        if by_another {
            command.arg(other);
        }
        let run = Run::by(&mut command);
        let _ = fs::remove_dir_all(&dir);
        let workers = [
            "of the same fork server",
            "of a new fork server",
            "of no fork server",
        ];
        let expected: String = workers
            .map(|worker| format!("{worker}: the same\n"))
            .concat();
        assert_eq!(run.lines, expected, "{run:?}");
    }
}

/// What makes a process a worker of the plain program.
fn boot_value() -> String {
    let run = Run::of(&dev("plain"), "boot-value");
    let value = run
        .lines
        .rsplit("spawn: ")
        .next()
        .unwrap_or_default()
        .trim();
    assert!(u64::from_str_radix(value, 16).is_ok(), "{run:?}");
    run.answers(value);
    value.to_owned()
}

/// What a probe printed, and how it ended.
#[derive(Debug)]
struct Run {
    lines: String,
    errors: String,
    code: Option<i32>,
}

impl Run {
    /// Runs a program, and in its workers the act of that name.
    fn of(program: &Path, act: &str) -> Self {
        Self::by(Command::new(program).arg(act))
    }

    fn by(command: &mut Command) -> Self {
        let output = command.env("PROBE", "kept").output();
        let output = output.expect("a program that was built");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run {
            lines: text(&output.stdout),
            errors: text(&output.stderr),
            code: output.status.code(),
        }
    }

    /// Asserts that the workers of each start method have answered so, and that nothing else was
    /// printed. Had a worker gone on to `main`, it would have said so.
    #[track_caller]
    fn answers(&self, answer: &str) {
        let expected = format!("main: reached\nforkserver: {answer}\nspawn: {answer}\n");
        assert_eq!(self.lines, expected, "{self:?}");
        assert_eq!(self.code, Some(0), "{self:?}");
    }
}
