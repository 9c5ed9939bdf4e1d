//! Starting workers: what they find, by either method.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::script::Step;
use super::support::{
    LIMIT, NOT_BOOTED, alone, exit_within_limit, launch, launcher, order, pipe, program,
    wait_readable,
};
use crate::process::{Keeper, Launcher, StartMethod};

/// CF-267, CF-270, CF-293.
#[tokio::test]
async fn a_worker_finds_its_process_in_order() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let (child, report) = launch(&launcher, &[Step::Report, Step::Exit(7)])
            .await
            .unwrap();
        assert_eq!(report.pid, child.pid(), "{method}");
        assert_eq!(report.group, report.pid, "{method}: it leads its own group");
        assert_eq!(report.name, "tested", "{method}");
        assert_eq!(
            report.variable.as_deref(),
            Some("from the pool"),
            "{method}"
        );
        assert_eq!(
            report.boot, None,
            "{method}: what it starts is not a worker"
        );
        assert_eq!(report.blocked, 0, "{method}: {:x}", report.blocked);
        // The two that libc keeps for itself are as whoever started us left them.
        let ignored = report.ignored & !(0b11 << 31);
        assert_eq!(ignored, 1 << (libc::SIGPIPE - 1), "{method}: {ignored:x}");
        assert_eq!(
            report.arguments,
            std::env::args().collect::<Vec<_>>(),
            "{method}"
        );
        let of_program = report.parent == std::process::id();
        assert_eq!(of_program, method == StartMethod::Spawn, "{method}");
        assert_eq!(exit_within_limit(&child).await.code(), Some(7), "{method}");
        launcher.close().await;
    }
}

/// CF-294; row 2 and 3 of the fault list: exactly the descriptors that are its
/// own, while other threads execute other programs.
#[tokio::test]
async fn a_worker_has_its_own_descriptors_and_no_others() {
    let enough = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..8)
        .map(|_| {
            let enough = Arc::clone(&enough);
            std::thread::spawn(move || {
                let mut count = 0;
                while !enough.load(Ordering::Relaxed) {
                    count += 1;
                    let mut other = Command::new("ls");
                    let output = other.args(["-l", "/proc/self/fd"]).stdin(Stdio::null());
                    let listing = output.output().expect("ls").stdout;
                    let listing = String::from_utf8_lossy(&listing);
                    let foreign = ["socket:", "pidfd", "eventpoll", "memfd"];
                    for kind in foreign {
                        assert!(!listing.contains(kind), "{listing}");
                    }
                }
                count
            })
        })
        .collect();
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        for _ in 0..40 {
            let (child, report) = launch(&launcher, &[Step::Report]).await.unwrap();
            let kinds: Vec<_> = report.descriptors[3..]
                .iter()
                .map(|(_, target)| target.split(':').next().unwrap_or_default())
                .collect();
            let mut kinds = kinds.clone();
            kinds.sort_unstable();
            assert_eq!(report.descriptors[0], (0, "/dev/null".to_owned()));
            // A forked one has its lifeline beside its channel.
            let pipes = if method == StartMethod::Spawn { 1 } else { 2 };
            let wanted = ["anon_inode", "pipe", "pipe"];
            assert_eq!(kinds, wanted[..1 + pipes], "{method}: {report:?}");
            assert_eq!(exit_within_limit(&child).await.code(), Some(0));
        }
        launcher.close().await;
    }
    enough.store(true, Ordering::Relaxed);
    for other in others {
        assert!(other.join().expect("no foreign descriptor") > 0);
    }
}

/// CF-295.
#[tokio::test]
async fn output_goes_where_the_order_says_and_only_once() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let (out, out_end) = pipe();
        let (err, err_end) = pipe();
        let mut order = order(&[Step::Print("once".to_owned())]);
        order.stdout = Some(out_end);
        order.stderr = Some(err_end);
        let child = launcher.launch(order).await.unwrap();
        assert!(exit_within_limit(&child).await.success());
        for pipe in [out, err] {
            let text = std::io::read_to_string(std::fs::File::from(pipe)).unwrap();
            assert_eq!(text, "once", "{method}");
        }
        launcher.close().await;
    }
}

#[tokio::test]
async fn only_standard_error_can_be_redirected() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let (err, err_end) = pipe();
        let (read, write) = pipe();
        let mut order = order(&[Step::Report]);
        order.stderr = Some(err_end);
        order.channel.push(write);
        let child = launcher.launch(order).await.unwrap();
        assert!(wait_readable(read.as_fd(), LIMIT));
        assert!(exit_within_limit(&child).await.success());
        drop(err);
        launcher.close().await;
    }
}

/// CF-273.
#[tokio::test]
async fn a_hundred_quick_starts_in_a_row_are_all_served() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        for round in 0..100 {
            let child = launcher.launch(order(&[Step::Exit(round)])).await.unwrap();
            let exit = exit_within_limit(&child).await;
            assert_eq!(exit.code(), Some(round), "{method}");
        }
        launcher.close().await;
    }
}

#[tokio::test]
async fn many_launches_may_be_under_way() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let launches = (0..100).map(|code| launcher.launch(order(&[Step::Exit(code)])));
        let children = futures::future::join_all(launches).await;
        for (code, child) in children.into_iter().enumerate() {
            let exit = exit_within_limit(&child.unwrap()).await;
            assert_eq!(exit.code(), i32::try_from(code).ok(), "{method}");
        }
        launcher.close().await;
    }
}

#[tokio::test]
async fn too_many_first_words_are_an_error_and_no_more() {
    for &method in StartMethod::available() {
        let launcher = launcher(method);
        let mut long = order(&[]);
        long.first = vec![0; 100_000];
        let error = launcher.launch(long).await.unwrap_err();
        assert!(error.to_string().contains("over the limit"), "{error}");
        assert!(!error.is_resource());
        let child = launcher.launch(order(&[Step::Exit(1)])).await.unwrap();
        assert_eq!(exit_within_limit(&child).await.code(), Some(1));
        launcher.close().await;
    }
}

#[test]
fn a_program_that_does_not_boot_is_reported_with_its_exit() {
    alone(
        "process::tests::launching::a_program_that_does_not_boot_is_reported_with_its_exit",
        async {
            for &method in StartMethod::available() {
                let mut program = program(method);
                // Nothing looks at this variable: the program goes on to main.
                program.boot = ("PROCPOOL_TEST_NO_BOOT", String::new());
                let launcher = Launcher::new(Keeper::get().unwrap(), program);
                let exit = match launcher.launch(order(&[])).await {
                    Err(error) => error.exit().expect("an exit"),
                    // For a worker the errand is out before it ends.
                    Ok(child) => exit_within_limit(&child).await,
                };
                assert_eq!(exit.code(), Some(NOT_BOOTED), "{method}");
                launcher.close().await;
            }
        },
    );
}

/// CF-293: the caller's signal mask is as it was.
#[test]
fn a_launch_leaves_the_signal_mask_alone() {
    alone(
        "process::tests::launching::a_launch_leaves_the_signal_mask_alone",
        async {
            let mask = || {
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let line = status.lines().find(|line| line.starts_with("SigBlk:"));
                line.unwrap().to_owned()
            };
            let before = mask();
            for &method in StartMethod::available() {
                let launcher = launcher(method);
                let (child, report) = launch(&launcher, &[Step::Report]).await.unwrap();
                assert_eq!(report.blocked, 0);
                assert!(exit_within_limit(&child).await.success());
                launcher.close().await;
            }
            assert_eq!(mask(), before);
        },
    );
}
