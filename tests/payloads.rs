//! Large payloads: they arrive as they were sent, from anywhere in a value and by every kind of call;
//! whatever becomes of a call or a worker, their memory is used again or given back.

mod support;

use std::fs;
use std::sync::OnceLock;

use bytes::Bytes;
use futures::StreamExt;
use procpool::task::Progress;
use procpool::{Payload, Process, ProcessPool, Queue, StartMethod, Stdio, ThreadPool, call, pipe};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, builder, everywhere, on_each_runtime, scene, soon};

/// From so many bytes on they do not go through the pipe.
const LARGE: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;

/// What workers complain about is out of the way.
fn pool(method: StartMethod, workers: usize) -> ProcessPool {
    let pool = builder(workers, method).stderr(Stdio::null());
    pool.build().unwrap()
}

/// Bytes that say of which message they are, and are not the same a page or two further on.
fn bytes(size: usize, seed: usize) -> Vec<u8> {
    let some: Vec<u8> = (0..4099).map(|n| (n % 251 + seed) as u8).collect();
    let mut bytes = some.repeat(size / some.len() + 1);
    bytes.truncate(size);
    bytes
}

fn payload(size: usize, seed: usize) -> Payload {
    bytes(size, seed).into()
}

fn echo(payload: Payload) -> Payload {
    payload
}

/// Of a byte in each quarter of a page, or so.
fn checksum(bytes: &[u8]) -> u64 {
    let add = |sum: u64, byte: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
    bytes.iter().step_by(1021).fold(bytes.len() as u64, add)
}

/// How many mappings of slabs that process has.
fn slabs_of(pid: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let slabs = maps.lines().filter(|line| line.contains("procpool-slab"));
    slabs.count()
}

#[test]
fn a_payload_of_any_size_comes_back_as_it_was_sent() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        for size in [0, 1, LARGE - 1, LARGE, LARGE + 1, MIB + 3] {
            let sent = payload(size, size);
            let back = pool.submit(echo, sent.clone()).await.unwrap();
            assert!(back == sent, "{size} bytes");
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_very_large_one_does_too_and_is_read_where_it_lies() {
    on_each_runtime(|| async {
        let pool = pool(StartMethod::ForkServer, 1);
        let sent = payload(64 * MIB, 3);
        let sum = |payload: Payload| (checksum(&payload), payload);
        for _ in 0..2 {
            let (seen, back) = pool.submit(sum, sent.clone()).await.unwrap();
            assert_eq!(seen, checksum(&sent));
            assert!(back == sent);
        }
        pool.shutdown().await;
    });
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nested {
    name: String,
    samples: Option<Payload<f64>>,
    parts: Vec<Payload>,
    #[serde(with = "procpool::payload")]
    vector: Vec<u32>,
    #[serde(with = "procpool::payload")]
    bytes: Bytes,
    #[serde(with = "procpool::payload")]
    boxed: Box<[i16]>,
}

fn nested(size: usize) -> Nested {
    Nested {
        name: "nested".into(),
        samples: Some((0..size / 8).map(|n| n as f64).collect()),
        parts: (0..5).map(|part| payload(part * size / 4, part)).collect(),
        vector: (0..size as u32 / 4).collect(),
        bytes: bytes(size, 1).into(),
        boxed: vec![-7; size / 2].into(),
    }
}

#[test]
fn payloads_stand_anywhere_in_a_value_and_go_by_every_kind_of_call() {
    everywhere(|method| async move {
        let pool = pool(method, 2);
        for sent in [nested(1000), nested(MIB)] {
            let back = pool.submit(|nested: Nested| nested, sent.clone()).await;
            assert!(back.unwrap() == sent);
            let back = pool.submit_async(|nested: Nested| async { nested }, sent.clone());
            assert!(back.await.unwrap() == sent);
        }
        let (a, b) = (payload(MIB, 0), Payload::from(vec![1u16; MIB]));
        fn add(a: Payload, b: Payload<u16>) -> usize {
            a.len() + b.len()
        }
        assert_eq!(pool.submit_call(call!(add(a, b))).await.unwrap(), 2 * MIB);

        let items = (0..40).map(|n| payload(n * 10_000, n));
        let mut back = pool.map(echo, items);
        let mut seen = 0;
        while let Some(one) = back.next().await {
            assert!(one.unwrap() == payload(seen * 10_000, seen), "item {seen}");
            seen += 1;
        }
        assert_eq!(seen, 40);
        drop(back);
        pool.shutdown().await;
    });
}

#[test]
fn many_tasks_send_and_receive_at_once() {
    on_each_runtime(|| async {
        let pool = pool(StartMethod::ForkServer, 2);
        let callers = (0..16).map(|caller| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let sent = payload(50_000 + 37_000 * ((caller + round) % 7), caller);
                    let back = pool.submit(echo, sent.clone()).await.unwrap();
                    assert!(back == sent, "caller {caller}, round {round}");
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        pool.shutdown().await;
    });
}

/// Dies when it is dropped, which comes after it was handed over.
#[derive(Serialize, Deserialize)]
struct Deadly(Payload);

impl Drop for Deadly {
    fn drop(&mut self) {
        if procpool::task::current().is_some() {
            std::process::abort();
        }
    }
}

#[test]
fn a_result_that_was_finished_survives_its_worker() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        for round in 0..3 {
            let make = |seed: usize| Deadly(payload(5 * MIB, seed));
            let result = pool.submit(make, round).await.unwrap();
            assert!(result.0 == payload(5 * MIB, round));
        }
        pool.shutdown().await;
    });
}

fn die(payload: Payload) -> Payload {
    // The first byte is the number of the call.
    if payload[0] % 2 == 1 {
        std::process::abort();
    }
    payload
}

#[test]
fn a_worker_that_dies_over_its_payload_costs_that_call_alone() {
    everywhere(|method| async move {
        let pool = pool(method, 2);
        let calls: Vec<_> = (0..12)
            .map(|n| (n, pool.submit(die, payload(MIB, n))))
            .collect();
        for (n, call) in calls {
            match call.await {
                Ok(back) => assert!(n % 2 == 0 && back == payload(MIB, n)),
                Err(error) => assert!(n % 2 == 1 && error.is_worker_lost(), "{error}"),
            }
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_run_that_is_repeated_finds_its_payload_again() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let second = |payload: Payload| {
            if procpool::task::current().unwrap().attempt() < 2 {
                std::process::abort();
            }
            payload
        };
        let task = pool.task(second).retry(3);
        let back = task.submit(payload(MIB, 9)).await.unwrap();
        assert!(back == payload(MIB, 9));
        pool.shutdown().await;
    });
}

/// Whatever becomes of the calls, there is room for the next.
#[test]
fn what_is_cancelled_ended_or_thrown_away_leaves_nothing() {
    everywhere(|method| async move {
        let pool = builder(1, method).large_payloads(8 * MIB);
        let pool = pool.stderr(Stdio::null()).build().unwrap();
        for round in 0..30 {
            let endless = |_: Payload| loop {
                std::thread::park();
            };
            let running: procpool::TaskHandle<()> = pool.submit(endless, payload(MIB, round));
            assert!(soon(PROMPTLY, || running.is_running()).await);
            let waiting = pool.submit(echo, payload(MIB, round));
            drop(pool.submit(echo, payload(MIB, round)));
            assert!(waiting.cancel());
            assert!(running.abort());
            assert!(running.await.is_err() && waiting.await.is_err());
            // A result that nobody takes.
            let unread = pool.submit(echo, payload(MIB, round));
            assert!(soon(PROMPTLY, || unread.is_done()).await);
        }
        let mine = std::process::id();
        assert!(soon(PROMPTLY, || slabs_of(mine) == 0).await);
        let back = pool.submit(echo, payload(MIB, 5)).await.unwrap();
        assert!(back == payload(MIB, 5));
        pool.shutdown().await;
    });
}

#[test]
fn without_room_there_the_pipe_is_taken() {
    everywhere(|method| async move {
        for room in [0, MIB] {
            let pool = builder(1, method).large_payloads(room).build().unwrap();
            let calls: Vec<_> = (0..20)
                .map(|n| (n, pool.submit(echo, payload(700_000, n))))
                .collect();
            for (n, call) in calls {
                assert!(call.await.unwrap() == payload(700_000, n), "of {room}");
            }
            let sent = payload(3 * MIB, 1);
            assert!(pool.submit(echo, sent.clone()).await.unwrap() == sent);
            if room == 0 {
                assert_eq!(slabs_of(std::process::id()), 0);
            }
            pool.shutdown().await;
        }
    });
}

fn keep(payload: Payload) {
    static KEPT: OnceLock<(Payload, u64)> = OnceLock::new();
    let sum = checksum(&payload);
    let (kept, sum) = KEPT.get_or_init(|| (payload, sum));
    assert_eq!(checksum(kept), *sum, "it has changed");
}

#[test]
fn what_a_task_keeps_is_never_written_again() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        for round in 0..20 {
            pool.submit(keep, payload(200_000, round)).await.unwrap();
        }
        pool.shutdown().await;
    });
}

#[test]
fn an_idle_pool_has_given_the_memory_back() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let look = |payload: Payload| (slabs_of(std::process::id()), payload);
        let (seen, back) = pool.submit(look, payload(3 * MIB, 1)).await.unwrap();
        assert!(seen > 0, "it is not read in place");
        drop(back);
        let worker = pool.stats().workers[0].pid;
        let pids = [std::process::id(), worker];
        let given_back = || pids.iter().all(|pid| slabs_of(*pid) == 0);
        assert!(soon(PROMPTLY, given_back).await);
        assert_eq!(pool.stats().workers[0].pid, worker);
        pool.shutdown().await;
    });
}

#[test]
fn a_payload_counts_for_the_largest_frame() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_frame(MIB).build().unwrap();
        let error = pool.submit(echo, payload(2 * MIB, 0)).await.unwrap_err();
        assert!(error.is_too_large(), "{error}");
        let make = |size: usize| payload(size, 0);
        let error = pool.submit(make, 2 * MIB).await.unwrap_err();
        assert!(error.is_too_large(), "{error}");
        assert_eq!(pool.submit(make, MIB - 100).await.unwrap().len(), MIB - 100);
        pool.shutdown().await;
    });
}

/// Leaves this process so many addresses more than it uses.
fn limit_addresses(more: usize) {
    let in_use = || -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.unwrap().parse::<usize>().unwrap() * 1024
    };
    // Another thread's first allocation may come in between, for which many are set aside.
    let mut used = in_use();
    loop {
        let limits = rustix::process::Rlimit {
            current: Some((used + more) as u64),
            maximum: None,
        };
        rustix::process::setrlimit(rustix::process::Resource::As, limits).unwrap();
        let before = used;
        used = in_use();
        if used == before {
            return;
        }
    }
}

/// The memory for 33 MiB is mapped as 64.
#[test]
fn a_worker_that_has_no_addresses_for_it_takes_it_another_way() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        pool.submit(limit_addresses, 60 * MIB).await.unwrap();
        let sent = payload(33 * MIB, 1);
        let sum = |payload: Payload| (checksum(&payload), slabs_of(std::process::id()));
        let seen = pool.submit(sum, sent.clone()).await.unwrap();
        assert_eq!(seen, (checksum(&sent), 0));

        pool.submit(limit_addresses, 85 * MIB).await.unwrap();
        let back = pool.submit(|seed: usize| payload(33 * MIB, seed), 1).await;
        assert!(back.unwrap() == sent);
        pool.shutdown().await;
    });
}

/// Where nothing is shared it is bytes like others.
#[test]
fn elsewhere_it_is_bytes() {
    let scene = scene();
    let runtime = support::runtime(2);
    runtime.block_on(async {
        let sent = payload(300_000, 4);
        // While there is a pool that has such memory.
        let pool = pool(StartMethod::ForkServer, 1);
        assert!(pool.submit(echo, sent.clone()).await.unwrap() == sent);

        let json = serde_json::to_string(&sent).unwrap();
        assert!(json.starts_with("[4,5,6,"));
        assert!(serde_json::from_str::<Payload>(&json).unwrap() == sent);
        assert!(serde_json::from_str::<Payload<u64>>("[1,2,3]").is_err());

        let queue = Queue::<Payload>::new().unwrap();
        queue.put(sent.clone()).await.unwrap();
        assert!(queue.get().await.unwrap() == sent);

        let (mut here, mut there) = pipe::<Payload, Payload>().unwrap();
        let (gone, came) = tokio::join!(here.send(&sent), there.recv());
        gone.unwrap();
        assert!(came.unwrap() == sent);

        let threads = ThreadPool::new().unwrap();
        assert!(threads.submit(echo, sent.clone()).await.unwrap() == sent);
        let inline = ProcessPool::builder().inline().build().unwrap();
        assert!(inline.submit(echo, sent.clone()).await.unwrap() == sent);

        let say = |payload: Payload, progress: Progress<Payload>| {
            progress.send(&payload).expect("somebody reads");
        };
        let (call, mut updates) = pool.task_with_progress(say).submit(sent.clone());
        assert!(updates.next().await.unwrap().unwrap() == sent);
        call.await.unwrap();

        let process = Process::spawn(echo, sent.clone()).await.unwrap();
        assert!(process.join().await.unwrap() == sent);

        threads.shutdown().await;
        inline.shutdown().await;
        pool.shutdown().await;
    });
    drop(runtime);
    drop(scene);
}

fn through_a_pool_of_its_own(payload: Payload) -> Payload {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = ProcessPool::builder().workers(1).build().unwrap();
        let back = pool.submit(echo, payload).await.unwrap();
        pool.shutdown().await;
        back
    })
}

#[test]
fn a_task_passes_its_payload_on_to_a_pool_of_its_own() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let sent = payload(MIB, 8);
        let back = pool.submit(through_a_pool_of_its_own, sent.clone()).await;
        assert!(back.unwrap() == sent);
        pool.shutdown().await;
    });
}

#[test]
fn a_payload_outlives_its_pool() {
    on_each_runtime(|| async {
        let pool = pool(StartMethod::ForkServer, 1);
        let back = pool.submit(echo, payload(MIB, 2)).await.unwrap();
        pool.shutdown().await;
        drop(pool);
        assert!(back == payload(MIB, 2));
    });
}
