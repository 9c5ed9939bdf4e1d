//! The example `examples/batch`, run over real files: what it finds, what it makes of files that
//! cannot be done, what it looks like at a terminal and elsewhere, and how it is interrupted.
//!
//! Where a moment has to be caught, a file holds its worker that is far too long to be read.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/example.rs"]
mod example;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use deeds::{Scratch, send};
use example::{Ended, Running, example};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use support::{HANG, scene};

/// A folder of files, and what their sums are to be.
struct Folder {
    scratch: Scratch,
    sums: BTreeMap<PathBuf, [u8; 32]>,
}

impl Folder {
    /// Makes so many small files, in folders of a hundred.
    fn of(files: usize) -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.at("in")).unwrap();
        let mut folder = Self {
            scratch,
            sums: BTreeMap::new(),
        };
        for number in 0..files {
            let bytes = format!("file {number}\n").repeat(1 + number % 50);
            let name = format!("{}/{number:03}", number / 100);
            folder.add(OsStr::new(&name), bytes.as_bytes());
        }
        folder
    }

    fn input(&self) -> PathBuf {
        self.scratch.at("in").into()
    }

    fn copies(&self) -> PathBuf {
        self.scratch.at("copies").into()
    }

    /// Makes a file that can be done.
    fn add(&mut self, name: &OsStr, bytes: &[u8]) {
        let path = self.add_bad(name, bytes);
        self.sums.insert(path, Sha256::digest(bytes).into());
    }

    /// Makes a file that will not be done.
    fn add_bad(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.input().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Makes a file that takes longer than any test waits, but no room.
    fn add_endless(&self, name: &str) -> PathBuf {
        let path = self.add_bad(name, b"");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        path
    }

    /// Makes a file that nobody can open, whatever his rights: its path is longer than any may be.
    fn add_unreadable(&self) -> PathBuf {
        let (short, long) = (self.input().join("s"), self.input().join("l".repeat(200)));
        let mut within = PathBuf::new();
        while short.join(&within).as_os_str().len() < 3_700 {
            within.push("d".repeat(100));
        }
        let name = "f".repeat(150);
        fs::create_dir_all(short.join(&within)).unwrap();
        fs::write(short.join(&within).join(&name), "unread").unwrap();
        fs::rename(short, &long).unwrap();
        long.join(within).join(name)
    }

    /// Starts the example on this.
    fn start(&self, arguments: &[&str]) -> Running {
        Running::start(example("batch").args(arguments).arg(self.input()))
    }

    /// Checks lines that the example has printed: each a file and its sum, none twice.
    fn check(&self, lines: &[Vec<u8>]) {
        let mut printed = BTreeMap::new();
        for line in lines {
            let escaped = line.strip_prefix(b"\\");
            let (sum, path) = escaped.unwrap_or(line).split_at(64);
            let mut path = path.strip_prefix(b"  ").unwrap().to_vec();
            if escaped.is_some() {
                let text = String::from_utf8(path).unwrap();
                let parts: Vec<_> = text
                    .split(r"\\")
                    .map(|part| part.replace(r"\n", "\n"))
                    .collect();
                path = parts.join(r"\").into_bytes();
            }
            let path = PathBuf::from(OsStr::from_bytes(&path));
            let twice = printed.insert(path.clone(), sum.to_vec());
            assert!(twice.is_none(), "{path:?} twice");
            let expected: String = self.sums[&path]
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert_eq!(sum, expected.as_bytes(), "{path:?}");
        }
    }
}

/// The number in a row of the summary.
fn row(ended: &Ended, name: &str) -> usize {
    let mut lines = ended.said.lines().map(str::split_whitespace);
    let row = lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()));
    row.flatten()
        .expect(&ended.said)
        .parse()
        .expect(&ended.said)
}

/// The reason why a file was not done.
fn reason<'a>(ended: &'a Ended, file: &Path) -> &'a str {
    let start = format!("cannot do {}: ", file.display());
    let mut lines = ended.said.lines();
    let reason = lines.find_map(|line| line.strip_prefix(&start));
    reason.unwrap_or_else(|| panic!("nothing of {file:?}\n{}", ended.said))
}

/// CF-005, CF-033, CF-046, CF-097: what goes wrong with a file costs that file.
#[test]
fn of_three_hundred_files_those_that_cannot_be_done_are_told_and_all_others_are_done() {
    let _scene = scene();
    let mut folder = Folder::of(293);
    folder.add(OsStr::new("empty"), b"");
    folder.add(OsStr::from_bytes(b"no \xff text"), b"but bytes");
    folder.add(OsStr::new("two\nlines and a \\n"), b"in one");
    let endless = folder.add_endless("#first");
    let poisoned = folder.add_bad("1/poison", b"drink me");
    let unreadable = folder.add_unreadable();
    let vanishing = folder.add_bad("zzz", b"soon gone");
    symlink("empty", folder.input().join("link")).unwrap();
    symlink("/nowhere", folder.input().join("1/dangling")).unwrap();
    let copies = folder.copies();

    let arguments = ["--processes", "1", "--timeout", "2", "--poison", "poison"];
    let copy_to = ["--compress", copies.to_str().unwrap()];
    let mut batch = folder.start(&[&arguments[..], &copy_to].concat());
    // It has read the folder, and its only worker is busy.
    batch.wait_until(|| copies.join("#first.gz.part").exists());
    fs::remove_file(&vanishing).unwrap();
    let ended = batch.end();

    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    folder.check(&ended.lines);
    assert_eq!(ended.lines.len(), 296, "{}", ended.said);
    assert_eq!([row(&ended, "done"), row(&ended, "failed")], [296, 4]);
    assert_eq!([row(&ended, "left"), row(&ended, "packed")], [0, 296]);
    assert_eq!(row(&ended, "skipped"), 2, "links");
    assert!(reason(&ended, &endless).contains("its limit of 2s"));
    assert!(reason(&ended, &poisoned).contains("signal 6 (SIGABRT)"));
    assert!(reason(&ended, &unreadable).starts_with("File name too long"));
    assert!(reason(&ended, &vanishing).starts_with("No such file"));

    for (path, sum) in &folder.sums {
        let place = path.strip_prefix(folder.input()).unwrap();
        let mut copy = copies.join(place).into_os_string();
        copy.push(".gz");
        let (mut unpacked, copy) = (Vec::new(), File::open(copy).unwrap());
        GzDecoder::new(copy).read_to_end(&mut unpacked).unwrap();
        assert_eq!(Sha256::digest(&unpacked).as_slice(), sum, "{path:?}");
    }
    assert_eq!(half_written(&copies), [] as [PathBuf; 0]);
}

/// All below a folder that has not got its name.
fn half_written(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let below = entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return half_written(&path);
        }
        let whole = path.extension().is_some_and(|extension| extension == "gz");
        if whole { Vec::new() } else { vec![path] }
    });
    below.collect()
}

/// Ctrl-C ends what runs, and what is done is told.
#[test]
fn an_interrupt_ends_the_work_at_once_and_the_summary_says_how_far_it_got() {
    let _scene = scene();
    let folder = Folder::of(300);
    // Both workers come to these in the middle, and never get over them.
    folder.add_endless("1/150-a");
    folder.add_endless("1/150-b");
    let copies = folder.copies();
    let copy_to = ["--compress", copies.to_str().unwrap()];
    let mut batch = folder.start(&[&["--processes", "2"], &copy_to[..]].concat());
    let mut lines: Vec<_> = (0..150).map(|_| batch.line()).collect();
    let drafts = ["1/150-a.gz.part", "1/150-b.gz.part"].map(|draft| copies.join(draft));
    batch.wait_until(|| drafts.iter().all(|draft| draft.exists()));
    assert!(send(batch.pid(), libc::SIGINT));
    let ended = batch.end();

    assert_eq!(ended.status.code(), Some(130), "{}", ended.said);
    lines.extend(ended.lines.iter().cloned());
    folder.check(&lines);
    assert_eq!(row(&ended, "done"), lines.len(), "{}", ended.said);
    assert_eq!(row(&ended, "failed"), 0, "{}", ended.said);
    assert_eq!(row(&ended, "left"), 302 - lines.len(), "{}", ended.said);
    assert!(ended.said.ends_with("interrupted\n"), "{}", ended.said);
    assert_eq!(half_written(&copies), [] as [PathBuf; 0]);
}

#[test]
fn where_all_goes_well_there_is_nothing_to_tell_but_the_summary() {
    let _scene = scene();
    for files in [0, 1, 30] {
        let folder = Folder::of(files);
        let ended = folder.start(&[]).end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
        folder.check(&ended.lines);
        assert_eq!(row(&ended, "done"), files, "{}", ended.said);
        // No bar, no colours: this is no terminal.
        assert_eq!(ended.said.lines().count(), 5, "{}", ended.said);
        let plain = |c: char| c == '\n' || !c.is_control();
        assert!(ended.said.chars().all(plain), "{:?}", ended.said);
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let _scene = scene();
    let folder = Folder::of(1);
    for (arguments, complaint) in [
        (&["--processes", "many"][..], "not a number"),
        (&["--processes", "0"], "not from 1 to 65536"),
        (&["--processes", "70000"], "not from 1 to 65536"),
        (&["--timeout", "0"], "not a time that can pass"),
        (&["--timeout", "-1"], "not a time that can pass"),
        (&["--timeout", "soon"], "not a number"),
        (&["--faster"], "--faster"),
        (&["another-folder"], "unexpected argument"),
    ] {
        let ended = folder.start(arguments).end();
        assert_eq!(
            ended.status.code(),
            Some(2),
            "{arguments:?}: {}",
            ended.said
        );
        assert!(
            ended.said.contains(complaint),
            "{arguments:?}: {}",
            ended.said
        );
        assert!(ended.lines.is_empty(), "{arguments:?}");
    }
    let ended = Running::start(&mut example("batch")).end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.said);
    let ended = Running::start(example("batch").arg("--help")).end();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.text().contains("usage: batch"));

    let nowhere = folder.input().join("nowhere");
    let ended = Running::start(example("batch").arg(&nowhere)).end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    assert!(
        ended.said.contains("nowhere: No such file"),
        "{}",
        ended.said
    );
}

/// As with `batch .. | head`.
#[test]
fn when_nobody_reads_what_it_prints_it_ends() {
    let _scene = scene();
    let folder = Folder::of(3);
    folder.add_endless("1/endless");
    let copies = folder.copies();
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    drop(reading);
    let copy_to = ["--compress", copies.to_str().unwrap()];
    let mut command = example("batch");
    let command = command.args(copy_to).arg(folder.input());
    let ended = Running::start_printing(command, writing).end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    assert_eq!(ended.said, "batch: Broken pipe (os error 32)\n");
    assert_eq!(half_written(&copies), [] as [PathBuf; 0]);
}

/// At a terminal there is a bar, and it keeps out of what is printed.
#[test]
#[expect(unsafe_code, reason = "terminals are made through libc")]
fn at_a_terminal_a_bar_is_drawn_beside_the_output() {
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::process::Stdio;
    use std::ptr::{null, null_mut};

    let _scene = scene();
    let folder = Folder::of(20);
    let (mut seen, mut screen) = (-1, -1);
    let size = libc::winsize {
        ws_row: 24,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: both numbers may be written to, and the size may be read.
    let done = unsafe { libc::openpty(&mut seen, &mut screen, null_mut(), null(), &size) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call has just opened both, and nobody else has them.
    let [seen, screen] = [seen, screen].map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    let mut command = example("batch");
    command
        .arg(folder.input())
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    let mut batch = command
        .stdout(Stdio::piped())
        .stderr(screen)
        .spawn()
        .unwrap();
    // The command has a copy of the terminal, which would keep it open.
    drop(command);

    let mut lines = Vec::new();
    let mut output = batch.stdout.take().unwrap();
    output.read_to_end(&mut lines).unwrap();
    let (mut drawn, mut seen) = (Vec::new(), File::from(seen));
    // When nobody has the other end any more, that is an error.
    let _ = seen.read_to_end(&mut drawn);
    let ended = support::eventually(HANG, || batch.try_wait().unwrap().is_some());
    assert!(ended && batch.wait().unwrap().success());

    let lines: Vec<_> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    let lines: Vec<_> = lines
        .iter()
        .map(|line| line[..line.len() - 1].to_vec())
        .collect();
    folder.check(&lines);
    assert_eq!(lines.len(), 20);
    let drawn = String::from_utf8_lossy(&drawn);
    assert!(
        drawn.contains("0/20") && drawn.contains(" left"),
        "{drawn:?}"
    );
    assert!(
        drawn.contains('\x1b') && drawn.contains("done "),
        "{drawn:?}"
    );
}
