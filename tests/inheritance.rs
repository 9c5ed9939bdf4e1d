//! What workers have of the program, and what they have not: descriptors, standard streams, signal
//! masks and dispositions.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use deeds::{Misdeed, commit, own_pid, status_line};
use procpool::{StartMethod, Stdio};
use support::{PROMPTLY, builder, children, everywhere, pool, runtime, scene, soon};

/// As a task: what its process holds open, by number.
fn descriptors(_: ()) -> BTreeMap<i32, String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let entries = entries.map(|entry| entry.unwrap().path());
    let open = entries.filter_map(|path| {
        let target = std::fs::read_link(&path).ok()?;
        let number = path.file_name()?.to_str()?.parse().ok()?;
        Some((number, target.to_string_lossy().into_owned()))
    });
    // Without the directory itself, which is being read.
    open.filter(|(_, target)| !target.ends_with("/fd"))
        .collect()
}

/// The descriptors of a program that is started here: `ls`, which needs one for the directory.
fn list_descriptors() -> Vec<String> {
    let mut ls = Command::new("ls");
    let output = ls.arg("/proc/self/fd").stdin(std::process::Stdio::null());
    let list = String::from_utf8(output.output().unwrap().stdout).unwrap();
    list.split_whitespace().map(str::to_owned).collect()
}

/// Checks that these are standard streams, two pipes and a socket, what tells of the program's end (where the
/// worker is not the program's own child, another pipe, which wakes it then), and the bell between
/// the worker's threads.
fn check(method: StartMethod, open: &BTreeMap<i32, String>) {
    assert_eq!(open[&0], "/dev/null");
    let kinds = open.range(3..).map(|(_, target)| {
        let kind = target.split([':', ' ']).next().unwrap();
        let kind = target.strip_prefix("anon_inode:").unwrap_or(kind);
        kind.trim_matches(['[', ']']).to_owned()
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort();
    let pipes = if method == StartMethod::Spawn { 2 } else { 3 };
    let wanted = [&["eventfd", "pidfd"], &["pipe"; 3][..pipes], &["socket"]].concat();
    assert_eq!(kinds, wanted, "{open:?}");
}

/// Rows 2 and 3.
#[test]
fn a_worker_holds_its_channel_and_nothing_else_whatever_the_program_starts_meanwhile() {
    for method in StartMethod::available() {
        let _scene = scene();
        // A program that somebody else starts has nothing of ours either.
        let before = list_descriptors();
        let (stop, listed) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(list_descriptors(), before);
                        listed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let starter = scope.spawn(|| {
                runtime(2).block_on(async {
                    for _ in 0..3 {
                        let pool = pool(8, *method);
                        pool.ready().await.unwrap();
                        for _ in 0..8 {
                            check(*method, &pool.submit(descriptors, ()).await.unwrap());
                            pool.submit(commit, Misdeed::ExitAtOnce(1))
                                .await
                                .unwrap_err();
                        }
                        pool.shutdown().await;
                    }
                });
            });
            let started = starter.join();
            stop.store(true, Ordering::Relaxed);
            started.unwrap();
        });
        assert!(listed.load(Ordering::Relaxed) > 0);
    }
}

/// Row 3: nor has a program that a task starts.
#[test]
fn a_program_that_a_task_starts_has_nothing_of_the_channel() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let list = pool.submit(|()| list_descriptors(), ()).await.unwrap();
        assert_eq!(list, ["0", "1", "2", "3"]);
        pool.shutdown().await;
    });
}

/// CF-294.
#[test]
fn standard_input_is_at_its_end_for_tasks_and_what_they_start() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let read: fn(()) -> (usize, usize, bool) = |()| {
            let mut bytes = Vec::new();
            let own = std::io::stdin().read_to_end(&mut bytes).unwrap();
            let cat = Command::new("cat").output().unwrap();
            (own, cat.stdout.len(), cat.status.success())
        };
        assert_eq!(pool.submit(read, ()).await.unwrap(), (0, 0, true));
        pool.shutdown().await;
    });
}

/// Row 18.
#[test]
fn what_a_task_does_to_its_standard_streams_does_not_touch_the_channel() {
    everywhere(|method| async move {
        let pool = builder(1, method)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let pool = pool.build().unwrap();
        let pid = pool.submit(own_pid, ()).await.unwrap();
        let flood: fn(()) -> usize = |()| {
            let bytes = vec![b'x'; 1 << 20];
            std::io::stdout().write_all(&bytes).unwrap();
            std::io::stderr().write_all(&bytes).unwrap();
            bytes.len()
        };
        assert_eq!(pool.submit(flood, ()).await.unwrap(), 1 << 20);
        pool.submit(close_the_standard_streams, ()).await.unwrap();
        assert_eq!(pool.submit(own_pid, ()).await.unwrap(), pid);
        pool.shutdown().await;
    });
}

#[expect(unsafe_code, reason = "what native code may do")]
fn close_the_standard_streams(_: ()) {
    for descriptor in 0..3 {
        // SAFETY: nobody owns the standard streams.
        unsafe { libc::close(descriptor) };
    }
}

/// CF-032; the tail of what a worker complained about comes with its death.
#[test]
fn captured_output_comes_line_by_line_and_with_the_error() {
    everywhere(|method| async move {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collect = {
            let lines = lines.clone();
            move |line: &procpool::WorkerLine<'_>| {
                let line = (line.worker.to_owned(), line.pid, line.text.to_owned());
                lines.lock().unwrap().push(line);
            }
        };
        let pool = builder(1, method).worker_name("printer");
        let pool = pool.stdout(Stdio::lines(collect)).stderr(Stdio::capture());
        let pool = pool.build().unwrap();
        let print: fn(()) -> u32 = |()| {
            println!("first");
            print!("second, without an end");
            std::process::id()
        };
        let pid = pool.submit(print, ()).await.unwrap();
        let complain: fn(()) = |()| {
            for number in 0..2_000 {
                eprintln!("complaint {number}");
            }
            eprint!("the end");
            std::process::exit(4);
        };
        let error = pool.submit(complain, ()).await.unwrap_err();
        let exit = error.worker_exit().unwrap();
        let tail = exit.stderr_tail().unwrap();
        assert!(tail.ends_with("complaint 1999\nthe end"), "{tail:?}");
        assert!(tail.len() <= 8 * 1024 && !tail.contains("complaint 100\n"));
        assert!(exit.name().starts_with("printer-") && exit.pid() == pid);
        let expected = ["first", "second, without an end"];
        let expected = expected.map(|text| (exit.name().to_owned(), pid, text.to_owned()));
        let all = soon(PROMPTLY, || *lines.lock().unwrap() == expected).await;
        assert!(all, "{:?}", lines.lock().unwrap());
        pool.shutdown().await;
    });
}

/// Row 19.
#[test]
fn the_programs_own_standard_streams_keep_their_flags() {
    let flags = || {
        [0, 1, 2].map(|number| {
            let path = format!("/proc/self/fdinfo/{number}");
            status_line(&path, "flags")
        })
    };
    let before = flags();
    everywhere(|method| async move {
        let pool = pool(1, method);
        pool.submit(own_pid, ()).await.unwrap();
        pool.shutdown().await;
    });
    assert_eq!(flags(), before);
}

const STATUS: &str = "/proc/thread-self/status";

#[expect(unsafe_code, reason = "libc alone changes a thread's mask")]
fn change_mask(how: i32, signals: &[i32]) {
    // SAFETY: the set is a local that libc initialises before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        assert_eq!(libc::pthread_sigmask(how, &set, std::ptr::null_mut()), 0);
    }
}

/// CF-293.
#[test]
fn signal_masks_are_left_alone_here_and_empty_there() {
    let blocked = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1];
    // Before there is a runtime, whose threads then have the same mask.
    change_mask(libc::SIG_BLOCK, &blocked);
    let before = status_line(STATUS, "SigBlk");
    assert_ne!(before.trim_matches('0'), "");
    everywhere(|method| {
        let before = before.clone();
        async move {
            let pool = pool(1, method);
            let seen: fn(()) -> [String; 3] =
                |()| ["SigBlk", "SigIgn", "SigCgt"].map(|line| status_line(STATUS, line));
            let [mask, ignored, caught] = pool.submit(seen, ()).await.unwrap();
            let bit = |signal: i32| 1_u64 << (signal - 1);
            // Two signals are libc's own.
            let of_libc = bit(32) | bit(33);
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap() & !of_libc;
            assert_eq!(number(&mask), 0, "{mask}");
            assert_eq!(number(&ignored), bit(libc::SIGPIPE), "{ignored}");
            let overflows = bit(libc::SIGSEGV) | bit(libc::SIGBUS);
            assert_eq!(number(&caught) & !overflows, 0, "{caught}");
            assert_eq!(status_line(STATUS, "SigBlk"), before);
            pool.shutdown().await;
        }
    });
    assert_eq!(status_line(STATUS, "SigBlk"), before);
    change_mask(libc::SIG_UNBLOCK, &blocked);
}

/// CF-290; row 7.
#[test]
fn workers_that_die_leave_no_zombies_while_the_pool_lives() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        for code in 0..100 {
            pool.submit(commit, Misdeed::ExitAtOnce(code))
                .await
                .unwrap_err();
        }
        pool.ready().await.unwrap();
        let zombies = || {
            let below = support::descendants(std::process::id());
            below
                .into_iter()
                .filter(|pid| !support::is_alive(*pid))
                .count()
        };
        assert!(soon(PROMPTLY, || zombies() == 0).await);
        // Two workers, or one server: nothing that was there before is there still.
        assert!(children().len() <= 2);
        pool.shutdown().await;
    });
}
