//! Values, texts, numbers and options at the edge of what there is: nothing, very much, the longest
//! time, the strangest name; and code of the user's that does odd things while values travel.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use gate::{Gate, pass};
use procpool::task::in_transit;
use procpool::{ProcessPool, ShutdownOptions, call};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{PROMPTLY, builder, everywhere, pool, scene, soon};

fn pid<T>(_: T) -> u32 {
    std::process::id()
}

fn back<T>(value: T) -> T {
    value
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Typed<T>(PhantomData<T>);

/// CF-002, CF-073: values of no size, and results that say nothing.
#[test]
fn values_without_bytes_go_and_come() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(pool.submit(back, Nothing).await.unwrap(), Nothing);
        assert_eq!(
            pool.submit(back, ((), Nothing, [(); 7])).await.unwrap().1,
            Nothing
        );
        let typed = Typed::<String>(PhantomData);
        assert_eq!(pool.submit(back, typed.clone()).await.unwrap(), typed);
        let empty: (String, Vec<u64>, BTreeMap<u8, ()>, Option<()>) = Default::default();
        assert_eq!(pool.submit(back, empty.clone()).await.unwrap(), empty);
        let many = vec![Nothing; 65_536];
        assert_eq!(pool.submit(back, many.clone()).await.unwrap(), many);
        // One more is refused here, rather than counted there.
        let error = pool.submit(back, vec![(); 65_537]).await.unwrap_err();
        assert!(error.is_encode() && !error.maybe_executed(), "{error}");
        let count: fn(usize) -> Vec<()> = |n| vec![(); n];
        assert_eq!(pool.submit(count, 65_536).await.unwrap().len(), 65_536);
        let error = pool.submit(count, 65_537).await.unwrap_err();
        assert!(error.is_encode() && error.maybe_executed(), "{error}");
        pool.submit_call(call!(std::thread::yield_now()))
            .await
            .unwrap();
        let unit: () = pool.run(drop, Nothing).await.unwrap();
        assert_eq!(unit, ());
        pool.shutdown().await;
    });
}

/// CF-002: numbers keep their bits and texts their characters.
#[test]
fn numbers_and_texts_come_back_to_the_bit() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let floats = [
            0.0,
            -0.0,
            f64::MIN_POSITIVE / 2.0,
            f64::INFINITY,
            f64::NAN,
            -f64::NAN,
        ];
        let same = pool.submit(back, floats).await.unwrap();
        assert_eq!(same.map(f64::to_bits), floats.map(f64::to_bits));
        let wide = (
            i128::MIN,
            u128::MAX,
            i64::MIN,
            u64::MAX,
            i8::MIN,
            usize::MAX,
            isize::MIN,
        );
        assert_eq!(pool.submit(back, wide).await.unwrap(), wide);
        let texts = [
            "",
            "\0",
            "a\0b",
            "\u{FEFF}\u{202E}x",
            "e\u{301} \u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}",
            "\r\n\t\u{7F}\u{85}\u{2028}",
            "\u{10FFFF}",
        ];
        for text in texts {
            let chars = |text: String| (text.chars().count(), text);
            let (count, same) = pool.submit(chars, text.to_owned()).await.unwrap();
            assert_eq!((count, same.as_str()), (text.chars().count(), text));
        }
        let nested = Some(Some(Some(None::<Option<u8>>)));
        assert_eq!(pool.submit(back, nested).await.unwrap(), nested);
        let results: [Result<Result<(), u8>, String>; 3] =
            [Ok(Ok(())), Ok(Err(1)), Err("e".into())];
        assert_eq!(pool.submit(back, results.clone()).await.unwrap(), results);
        let path = std::path::PathBuf::from("/\u{E4}/b");
        let times = (Duration::MAX, std::time::SystemTime::UNIX_EPOCH, path);
        assert_eq!(pool.submit(back, times.clone()).await.unwrap(), times);
        let table: BTreeMap<Option<char>, BTreeSet<(i32, String)>> = [
            (None, BTreeSet::new()),
            (Some('x'), [(1, "y".to_owned())].into()),
        ]
        .into();
        assert_eq!(pool.submit(back, table.clone()).await.unwrap(), table);
        pool.shutdown().await;
    });
}

/// CF-052: each length at which a buffer, a pipe or the outbox is just full, or just not.
#[test]
fn lengths_around_every_buffers_size_come_back_whole() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let mut lengths: Vec<usize> = (0..40).collect();
        for size in [
            1 << 12,
            1 << 13,
            1 << 14,
            1 << 15,
            1 << 16,
            1 << 17,
            1 << 18,
            1 << 20,
        ] {
            lengths.extend(size - 45..size + 5);
        }
        let checked = |bytes: Vec<u8>| {
            let odd = bytes
                .iter()
                .zip(0_u64..)
                .any(|(byte, n)| u64::from(*byte) != n % 251);
            (!odd).then_some(bytes)
        };
        let filled =
            |length: usize| -> Vec<u8> { (0..length as u64).map(|n| (n % 251) as u8).collect() };
        // As texts, which travel without a call for each byte.
        for batch in lengths.chunks(20) {
            let handles: Vec<_> = batch
                .iter()
                .map(|length| (*length, pool.submit(|n: usize| "x".repeat(n), *length)))
                .collect();
            for (length, handle) in handles {
                assert_eq!(handle.await.unwrap().len(), length);
            }
            let handles: Vec<_> = batch
                .iter()
                .map(|length| {
                    (
                        *length,
                        pool.submit(|text: String| text.len(), "y".repeat(*length)),
                    )
                })
                .collect();
            for (length, handle) in handles {
                assert_eq!(handle.await.unwrap(), length);
            }
        }
        for length in [0, 1, 65_535, 65_536, 300_000] {
            let bytes = pool.submit(checked, filled(length)).await.unwrap();
            assert_eq!(bytes.unwrap().len(), length);
        }
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}

#[derive(Debug, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

fn chain(length: usize) -> Chain {
    (1..length).fold(Chain(None), |chain, _| Chain(Some(Box::new(chain))))
}

/// CF-278, CF-281, CF-285: what nests too deep is refused, and overflows nobody's stack.
#[test]
fn values_that_nest_too_deep_fail_their_own_call() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let worker = pool.submit(pid, ()).await.unwrap();
        let count: fn(Chain) -> usize = |mut chain| {
            let mut length = 1;
            while let Some(next) = chain.0 {
                (chain, length) = (*next, length + 1);
            }
            length
        };
        assert_eq!(pool.submit(count, chain(60)).await.unwrap(), 60);
        for length in [200, 5_000] {
            let error = pool.submit(count, chain(length)).await.unwrap_err();
            assert!(error.is_encode() && !error.maybe_executed(), "{error}");
            let error = pool.submit(chain, length).await.unwrap_err();
            assert!(error.is_encode() && error.maybe_executed(), "{error}");
        }
        assert_eq!(pool.submit(pid, ()).await.unwrap(), worker);
        pool.shutdown().await;
    });
}

/// CF-046, CF-048: there is no time too long.
#[test]
fn limits_may_be_as_long_as_a_duration_can_be() {
    everywhere(|method| async move {
        for limit in [
            Duration::MAX,
            Duration::from_secs(18_446_744_074),
            Duration::from_nanos(u64::MAX),
        ] {
            let pool = builder(1, method)
                .task_timeout(limit)
                .abort_grace(limit)
                .handshake_timeout(limit)
                .start_timeout(limit);
            let pool = pool.build().unwrap();
            let mut handle = pool.submit(pid, ());
            handle.timeout(PROMPTLY).await.unwrap();
            let task = pool.task(pid).timeout(limit).queue_timeout(limit);
            task.submit(()).timeout(limit).await.unwrap();
            task.run(()).await.unwrap();
            let mut handle = task.submit(());
            let waits = tokio::task::spawn_blocking(move || handle.blocking_wait(Some(limit)));
            waits.await.unwrap().unwrap();
            let left: fn(()) -> Option<Duration> = |()| {
                let deadline = procpool::task::current().unwrap().deadline();
                deadline.map(|at| at.saturating_duration_since(Instant::now()))
            };
            let left = pool.submit(left, ()).await.unwrap();
            assert!(
                left.is_none_or(|left| left > PROMPTLY),
                "{left:?} of {limit:?}"
            );
            pool.shutdown_with(ShutdownOptions::new().timeout(limit))
                .await;
        }
    });
}

/// CF-046: nor one too short.
#[test]
fn limits_may_be_as_short_as_a_duration_can_be() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let shortest = Duration::from_nanos(1);
        for _ in 0..3 {
            let limited = pool.task(pass).timeout(shortest).submit(gate.path());
            assert!(limited.await.unwrap_err().is_timeout());
        }
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        for limit in [Duration::ZERO, shortest] {
            let hurried = pool.task(pid).queue_timeout(limit).submit(());
            let error = hurried.await.unwrap_err();
            assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        }
        let zero = catch_unwind(AssertUnwindSafe(|| {
            pool.task(pid::<()>).timeout(Duration::ZERO)
        }));
        assert!(zero.is_err(), "a task that may run no time at all");
        pool.shutdown_with(ShutdownOptions::new().timeout(Duration::ZERO))
            .await;
        assert!(held.await.unwrap_err().is_shut_down());
    });
}

/// CF-011: the other end of the scale.
#[test]
fn a_number_of_workers_that_cannot_be_is_refused() {
    let _scene = scene();
    for workers in [usize::MAX, usize::MAX / 2, 1 << 40] {
        let error = ProcessPool::builder().workers(workers).build().unwrap_err();
        assert!(error.is_invalid_argument(), "{error}");
        assert!(error.to_string().contains("workers"), "{error}");
    }
    let many = ProcessPool::builder().workers(10_000).build().unwrap();
    assert_eq!((many.workers(), many.stats().workers_started), (10_000, 0));
    let one = many.submit(pid, ()).blocking_wait(Some(PROMPTLY)).unwrap();
    assert_ne!(one, std::process::id());
    drop(many);
    let bound = ProcessPool::builder().workers(1).max_pending(usize::MAX);
    let bound = bound.build().unwrap();
    bound.submit(pid, ()).blocking_wait(None).unwrap();
}

/// CF-059: names of all kinds, which the kernel shows the beginning of.
#[test]
fn workers_may_have_any_name_that_is_a_text() {
    everywhere(|method| async move {
        let names = [
            "\u{1F980}\u{1F980}\u{1F980}\u{1F980}",
            " ",
            "a/b",
            "x\n(y) %s",
            &"n".repeat(5_000),
        ];
        for name in names {
            let pool = builder(2, method).worker_name(name).build().unwrap();
            pool.ready().await.unwrap();
            let workers = pool.stats().workers;
            let known: BTreeSet<_> = workers.iter().map(|worker| &worker.name).collect();
            assert_eq!(known.len(), 2);
            for worker in &workers {
                assert!(
                    worker.name.starts_with(&format!("{name}-")),
                    "{}",
                    worker.name
                );
                let comm = std::fs::read_to_string(format!("/proc/{}/comm", worker.pid)).unwrap();
                let comm = comm.strip_suffix('\n').unwrap();
                assert!(
                    worker.name.starts_with(comm) && comm.len() <= 15,
                    "{comm:?}"
                );
                assert!(
                    comm.len() > 11 || comm.len() == worker.name.len(),
                    "{comm:?}"
                );
            }
            let error = pool.submit(|()| -> () { std::process::exit(2) }, ()).await;
            let error = error.unwrap_err();
            assert!(
                known
                    .iter()
                    .any(|known| error.worker_exit().unwrap().name() == *known)
            );
            pool.shutdown().await;
        }
        for name in ["", "a\0b"] {
            let error = builder(1, method).worker_name(name).build().unwrap_err();
            assert!(error.is_invalid_argument(), "{error}");
        }
    });
}

/// What tasks may be named.
#[test]
fn tasks_may_have_any_name() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let name: fn(()) -> Option<String> =
            |()| procpool::task::current().unwrap().name().map(str::to_owned);
        for given in ["", "\0", "\u{1F980}\n", &"y".repeat(1024)] {
            let told = pool.task(name).name(given).submit(()).await.unwrap();
            assert_eq!(told.as_deref(), Some(given));
        }
        // Cut where a character ends.
        let long = "x".to_owned() + &"\u{1F980}".repeat(300);
        let told = pool
            .task(name)
            .name(long.clone())
            .submit(())
            .await
            .unwrap()
            .unwrap();
        assert!(
            long.starts_with(&told) && told.len() == 1021,
            "{}",
            told.len()
        );
        assert_eq!(pool.submit(name, ()).await.unwrap(), None);
        pool.shutdown().await;
    });
}

/// CF-041: any value, the last one counts, and what cannot be is refused.
#[test]
fn the_environment_may_be_anything_that_an_environment_can_be() {
    everywhere(|method| async move {
        let odd = OsString::from_vec(vec![0xFF, 0xFE, b'=', b'\n']);
        let pool = builder(1, method)
            .env("EXTREMES_TWICE", "first")
            .env("EXTREMES_TWICE", "second")
            .env("EXTREMES_EMPTY", "")
            .env("EXTREMES \u{E4}", "\u{1F980}")
            .env("EXTREMES_ODD", &odd)
            .env("EXTREMES_LONG", "x".repeat(100_000));
        let pool = pool.build().unwrap();
        let read = |name: String| std::env::var_os(name).map(|value| value.as_bytes().to_vec());
        let expected = [
            ("EXTREMES_TWICE", b"second".to_vec()),
            ("EXTREMES_EMPTY", Vec::new()),
            ("EXTREMES \u{E4}", "\u{1F980}".as_bytes().to_vec()),
            ("EXTREMES_ODD", odd.as_bytes().to_vec()),
            ("EXTREMES_LONG", vec![b'x'; 100_000]),
        ];
        for (name, value) in expected {
            let told = pool.submit(read, name.to_owned()).await.unwrap();
            assert!(told.as_ref() == Some(&value), "{name}: {told:?}");
        }
        pool.shutdown().await;
        for (key, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            let error = builder(1, method).env(key, value).build().unwrap_err();
            assert!(error.is_invalid_argument(), "{error}");
        }
    });
}

/// CF-042: encoding that makes calls itself.
#[test]
fn encoding_an_argument_may_use_the_pool() {
    static POOL: Mutex<Option<ProcessPool>> = Mutex::new(None);
    #[derive(Debug)]
    struct Asks(u32);
    fn ask(n: u32) -> Option<u32> {
        let pool = POOL.lock().unwrap().clone()?;
        Some(pool.submit(|n: u32| n + 1, n).blocking_wait(None).unwrap())
    }
    impl Serialize for Asks {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            ask(self.0).unwrap_or(self.0).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Asks {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let n = u32::deserialize(deserializer)?;
            Ok(Self(ask(n).unwrap_or(n)))
        }
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        *POOL.lock().unwrap() = Some(pool.clone());
        // Once on the way there, where that is done here, and once on the way back.
        let handle = pool.submit(|asks: Asks| asks, Asks(1));
        assert_eq!(handle.await.unwrap().0, 3);
        assert_eq!(pool.stats().completed, 3);
        *POOL.lock().unwrap() = None;
        pool.shutdown().await;
    });
}

/// CF-042: what is sent is not what is kept, and what stands beside it in the program is not concerned.
#[test]
fn a_type_may_travel_in_another_form_than_it_is_kept_in() {
    /// How often it has been sent; what is kept of it says 100.
    #[derive(Debug, PartialEq)]
    struct Sent(u32);
    impl Serialize for Sent {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let sent = if in_transit() { self.0 + 1 } else { 100 };
            sent.serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Sent {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let sent = u32::deserialize(deserializer)?;
            Ok(Self(if in_transit() { sent } else { 200 }))
        }
    }
    /// Fails on its way there, or here.
    #[derive(Debug, Deserialize)]
    struct Fails(bool);
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            assert!(in_transit() && !self.0, "it panics");
            Err(serde::ser::Error::custom("it fails"))
        }
    }
    fn keep(sent: &Sent) -> Sent {
        assert!(!in_transit());
        let kept = serde_json::to_string(sent).unwrap();
        assert_eq!(kept, "100");
        serde_json::from_str(&kept).unwrap()
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        let there = |sent: Sent| (keep(&sent), sent);
        let (kept, sent) = pool.submit(there, Sent(0)).await.unwrap();
        // Both came back; one had gone there before.
        assert_eq!((kept, &sent), (Sent(201), &Sent(2)));
        assert_eq!(keep(&sent), Sent(200));
        let fails = pool.submit(|_: Fails| (), Fails(false)).await;
        assert!(fails.unwrap_err().is_encode());
        let panics = || pool.submit(|_: Fails| (), Fails(true));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        keep(&sent);
        pool.shutdown().await;
    });
}

/// CF-034: a panic may say a lot, or nothing, or what is no text.
#[test]
fn a_panic_may_say_anything() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_frame(100).build().unwrap();
        let worker = pool.submit(pid, ()).await.unwrap();
        let say = |n: usize| -> () { panic!("{}", "\u{1F980}".repeat(n)) };
        for n in [0, 1, 200, 100_000] {
            let error = pool.submit(say, n).await.unwrap_err();
            let message = error.panic().unwrap().message().to_owned();
            assert!("\u{1F980}".repeat(n).starts_with(&message), "{n}");
            assert_eq!(message.len(), (4 * n).min(16 * 1024), "{n}");
        }
        let text: fn(()) = |()| std::panic::panic_any("text".to_owned());
        assert_eq!(
            pool.submit(text, ())
                .await
                .unwrap_err()
                .panic()
                .unwrap()
                .message(),
            "text"
        );
        let passed_on: fn(()) = |()| {
            let thread =
                std::thread::Builder::new().spawn(|| std::panic::resume_unwind(Box::new("other")));
            std::panic::resume_unwind(thread.unwrap().join().unwrap_err())
        };
        let error = pool.submit(passed_on, ()).await.unwrap_err();
        assert_eq!(error.panic().unwrap().message(), "other");
        struct Prickly;
        impl Drop for Prickly {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new(Nothing));
            }
        }
        let prickly: fn(()) = |()| std::panic::panic_any(Prickly);
        assert!(pool.submit(prickly, ()).await.unwrap_err().is_panic());
        // What a task catches is its own affair.
        let caught: fn(()) -> bool = |()| catch_unwind(|| panic!("caught")).is_err();
        assert!(pool.submit(caught, ()).await.unwrap());
        assert_eq!(pool.submit(pid, ()).await.unwrap(), worker);
        pool.shutdown().await;
    });
}

/// What is told of a worker's output may use the pool, be the last to have it, and panic.
#[test]
fn a_handler_of_lines_may_do_what_a_callback_may() {
    everywhere(|method| async move {
        let (give, given) = mpsc::channel::<ProcessPool>();
        let (told, hears) = mpsc::channel();
        let given = Mutex::new(given);
        let handler = move |line: &procpool::WorkerLine<'_>| {
            let pool = given.lock().unwrap().recv().unwrap();
            let mut handle = pool.submit(|n: usize| n + 1, line.text.len());
            told.send(handle.blocking_wait(Some(PROMPTLY)).unwrap())
                .unwrap();
            drop(pool);
            std::panic::resume_unwind(Box::new("meant"));
        };
        let pool = builder(1, method).stdout(procpool::Stdio::lines(handler));
        let pool = pool.build().unwrap();
        let print: fn(String) = |text| println!("{text}");
        for text in ["one", "three", "\u{1F980}"] {
            give.send(pool.clone()).unwrap();
            pool.submit(print, text.to_owned()).await.unwrap();
            let mut length = None;
            let heard = soon(PROMPTLY, || {
                length = hears.try_recv().ok();
                length.is_some()
            });
            assert!(heard.await);
            assert_eq!(length, Some(text.len() + 1));
        }
        let last = pool.task(print);
        give.send(pool).unwrap();
        last.submit("last".to_owned()).await.unwrap();
    });
}
