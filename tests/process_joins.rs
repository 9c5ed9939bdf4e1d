//! Waiting for processes of their own: limits and sentinels, how many may wait, and what comes back: the
//! value, descriptors, what was printed.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use deeds::{Scratch, hang, own_pid, touch, wait_for};
use procpool::connection::{Receiver, blocking_wait};
use procpool::{Fd, Process, ProcessBuilder, StartMethod, Stdio, one_way, wait};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use support::{HANG, PROMPTLY, everywhere, runtime, scene, soon};

fn by(method: StartMethod) -> ProcessBuilder {
    Process::builder().start_method(method)
}

/// CF-131; and CF-150, of a value that is not there yet.
#[test]
fn a_limit_of_joining_ends_the_waiting_and_not_the_process() {
    everywhere(|method| async move {
        let process = by(method).spawn(hang, ()).await.unwrap();
        for limit in [0, 10] {
            let limit = Duration::from_millis(limit);
            let begun = Instant::now();
            let error = process.join_timeout(limit).await.unwrap_err();
            assert!(error.is_timeout() && error.exit().is_none(), "{error}");
            assert!((limit..PROMPTLY).contains(&begun.elapsed()));
            let error = process.blocking_join(Some(limit)).unwrap_err();
            assert!(error.is_timeout() && process.is_alive());
            assert_eq!(process.blocking_wait(Some(limit)), None);
        }
        assert!(
            tokio::time::timeout(Duration::from_millis(5), process.join())
                .await
                .is_err()
        );
        process.kill();
        assert!(process.join().await.unwrap_err().is_lost());
        assert!(
            process
                .join_timeout(Duration::ZERO)
                .await
                .unwrap_err()
                .is_lost()
        );
    });
}

/// CF-135, with connections beside it.
#[test]
fn the_sentinel_is_ready_when_the_process_has_ended() {
    everywhere(|method| async move {
        let process = by(method)
            .spawn(deeds::commit, deeds::Misdeed::Signal(15))
            .await
            .unwrap();
        let ready = wait([&process], Some(HANG)).await.unwrap();
        assert_eq!(ready, [0]);
        assert_eq!(process.exit().unwrap().signal(), Some(libc::SIGTERM));
        assert_eq!(
            blocking_wait([&process], Some(Duration::ZERO)).unwrap(),
            [0]
        );

        let (mut sender, receiver) = one_way::<u32>().unwrap();
        let process = by(method).spawn(hang, ()).await.unwrap();
        let both =
            || [(&process).into(), (&receiver).into()] as [procpool::connection::Waitable<'_>; 2];
        assert!(wait(both(), Some(Duration::ZERO)).await.unwrap().is_empty());
        sender.send(&1).await.unwrap();
        assert_eq!(wait(both(), Some(HANG)).await.unwrap(), [1]);
        process.kill();
        let all = soon(PROMPTLY, || blocking_wait(both(), None).unwrap() == [0, 1]).await;
        assert!(all && process.exit().unwrap().signal() == Some(libc::SIGKILL));
    });
}

/// CF-136: its descriptor is free as soon as it is closed.
#[test]
fn a_process_that_runs_cannot_be_closed() {
    everywhere(|method| async move {
        let gate = Scratch::new();
        let process = by(method)
            .name("busy")
            .spawn(wait_for, gate.at("open"))
            .await
            .unwrap();
        let error = process.close().unwrap_err();
        assert_eq!(error.to_string(), "process busy is still running");
        let process = error.into_process();
        touch(gate.at("open"));
        process.join().await.unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        process.close().unwrap();
        assert!(open() < before);
    });
}

/// CF-138, CF-273.
#[test]
fn a_hundred_processes_are_started_and_joined() {
    everywhere(|method| async move {
        let nap = |millis| std::thread::sleep(Duration::from_millis(millis));
        let count = if method == StartMethod::Spawn {
            20
        } else {
            100
        };
        let starts: Vec<_> = (0..count).map(|_| by(method).spawn(nap, 10)).collect();
        let started = futures::future::try_join_all(starts).await.unwrap();
        for process in &started {
            process.join().await.unwrap();
            assert!(process.exit().unwrap().success());
        }
        // One after the other.
        for _ in 0..count {
            by(method)
                .spawn(nap, 0)
                .await
                .unwrap()
                .join()
                .await
                .unwrap();
        }
    });
}

/// CF-145.
#[test]
fn joining_survives_signals_that_are_handled() {
    use tokio::signal::unix::{SignalKind, signal};
    // The handler stays, and so do its descriptors.
    runtime(1).block_on(async { drop(signal(SignalKind::user_defined1()).unwrap()) });
    everywhere(|method| async move {
        let mut handled = signal(SignalKind::user_defined1()).unwrap();
        let gate = Scratch::new();
        let process = by(method).spawn(wait_for, gate.at("open")).await.unwrap();
        let own = std::process::id();
        let interrupter = std::thread::spawn(move || {
            for _ in 0..20 {
                deeds::send(own, libc::SIGUSR1);
                std::thread::sleep(Duration::from_millis(1));
            }
            touch(gate.at("open"));
            gate
        });
        process.blocking_join(None).unwrap();
        handled.recv().await.unwrap();
        drop(interrupter.join().unwrap());
    });
}

/// CF-148: and from threads beside tasks.
#[test]
fn many_wait_for_one() {
    everywhere(|method| async move {
        let gate = Scratch::new();
        let wait = |gate| {
            wait_for(gate);
            7
        };
        let process = by(method).spawn(wait, gate.at("open")).await.unwrap();
        std::thread::scope(|threads| {
            let blocked = threads.spawn(|| process.blocking_join(None).unwrap());
            let joins = (0..10).map(|_| process.join());
            let all = futures::future::try_join_all(joins);
            touch(gate.at("open"));
            let all = threads.spawn(|| drive(all)).join().unwrap();
            assert_eq!(all.unwrap(), [7; 10]);
            assert_eq!(blocked.join().unwrap(), 7);
        });
    });
}

/// Drives a future on this thread, which has no runtime.
fn drive<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        let mut context = std::task::Context::from_waker(&waker);
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// CF-149: without any runtime.
#[test]
fn no_runtime_is_needed() {
    for method in StartMethod::available() {
        let _scene = scene();
        let process = by(*method).spawn(own_pid, ()).blocking_wait().unwrap();
        assert_eq!(process.blocking_join(None).unwrap(), process.pid());
        // Nor one of tokio's for what is awaited.
        drive(async {
            let process = by(*method).spawn(own_pid, ()).await.unwrap();
            assert_eq!(process.join_timeout(HANG).await.unwrap(), process.pid());
        });
    }
}

/// CF-150.
#[test]
fn the_value_comes_through_the_handle() {
    everywhere(|method| async move {
        let process = by(method).spawn(own_pid, ()).await.unwrap();
        assert_eq!(process.join().await.unwrap(), process.pid());
        let process = by(method).spawn(|truth: bool| !truth, true).await.unwrap();
        assert!(!process.join().await.unwrap());
        let fails = |text: String| Err::<(), _>(text);
        let process = by(method).spawn(fails, "no".to_owned()).await.unwrap();
        assert_eq!(process.join().await.unwrap(), Err("no".to_owned()));
        assert!(process.exit().unwrap().success());
    });
}

/// What is in the value is there once.
#[test]
fn descriptors_come_back_with_the_value_and_go_to_the_first_who_joins() {
    fn open(text: String) -> (Fd<File>, Receiver<String>) {
        let path = std::env::temp_dir().join(format!("procpool-back-{}", std::process::id()));
        std::fs::write(&path, &text).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let (mut sender, receiver) = one_way().unwrap();
        sender.blocking_send(&text, None).unwrap();
        (Fd(file), receiver)
    }
    everywhere(|method| async move {
        let process = by(method).spawn(open, "kept".to_owned()).await.unwrap();
        let (mut file, mut receiver) = process.join().await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(
            (text, receiver.recv().await.unwrap()),
            ("kept".to_owned(), "kept".to_owned())
        );
        assert!(process.join().await.unwrap_err().is_decode());
    });
}

/// CF-153, CF-154: the output is whole, and has an end.
#[test]
fn what_a_process_prints_can_be_read_after_its_end() {
    fn print((count, line): (usize, String)) {
        (0..count).for_each(|_| println!("{line}"));
    }
    everywhere(|method| async move {
        for (count, line) in [(1, "1 2".to_owned()), (64, "x".repeat(4095))] {
            let (here, there) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            // It is to hold all of it.
            fcntl_setpipe_size(&there, 512 << 10).unwrap();
            let builder = by(method).stdout(Stdio::to(there));
            let process = builder.spawn(print, (count, line.clone())).await.unwrap();
            process.join().await.unwrap();
            let mut printed = String::new();
            File::from(here).read_to_string(&mut printed).unwrap();
            assert_eq!(printed, (line + "\n").repeat(count));
        }
        let (line, lines) = std::sync::mpsc::channel();
        let taken = Stdio::lines(move |printed| {
            let _ = line.send((printed.worker.to_owned(), printed.text.to_owned()));
        });
        let builder = by(method).name("printer").stdout(taken);
        let process = builder.spawn(print, (2, "hello".to_owned())).await.unwrap();
        process.join().await.unwrap();
        for _ in 0..2 {
            let line = lines.recv_timeout(PROMPTLY).unwrap();
            assert_eq!(line, ("printer".to_owned(), "hello".to_owned()));
        }
    });
}

/// CF-142, CF-151.
#[test]
fn a_panic_is_told_and_printed() {
    const LINE: u32 = line!() + 2;
    fn fail(_: ()) {
        panic!("something went wrong");
    }
    everywhere(|method| async move {
        for captures in [false, true] {
            let scratch = Scratch::new();
            let path = scratch.at("stderr");
            let builder = by(method).stderr(Stdio::to(File::create(&path).unwrap()));
            let builder = builder.env("RUST_BACKTRACE", if captures { "1" } else { "0" });
            let process = builder.spawn(fail, ()).await.unwrap();
            let error = process.join().await.unwrap_err();
            let panic = error.panic().expect("it panicked");
            assert_eq!(panic.message(), "something went wrong");
            let said = format!("{error:#}");
            assert_eq!(said.matches("something went wrong").count(), 1, "{said}");
            let place = panic.location().unwrap();
            assert_eq!(place, format!("tests/process_joins.rs:{LINE}:9"));
            let shown = panic
                .backtrace()
                .is_some_and(|trace| trace.contains("fail"));
            assert_eq!(shown, captures, "{:?}", panic.backtrace());
            assert_eq!(process.exit().unwrap().code(), Some(101));
            let printed = std::fs::read_to_string(&path).unwrap();
            assert!(
                printed.contains("something went wrong") && printed.contains(place),
                "{printed}"
            );
        }
    });
}
