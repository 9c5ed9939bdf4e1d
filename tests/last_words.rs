//! What a process has sent arrives, though it ends at once: by itself, as a worker that is let go, by `exit`.

mod support;

use std::time::{Duration, Instant};

use futures::SinkExt;
use procpool::connection::{Receiver, Sender};
use procpool::{Process, ProcessPool, one_way};
use support::{everywhere, on_each_runtime};

type Sent = (Sender<Vec<u8>>, usize, usize);

async fn feed((mut to, length, count): Sent) {
    for _ in 0..count {
        to.feed(vec![7; length]).await.unwrap();
    }
}

/// As many as there is room for, the last of them in part. Then says so.
fn fill(((mut to, length, count), mut done): (Sent, Sender<()>)) -> usize {
    let sent = (0..count).take_while(|_| to.try_send(&vec![7; length]).is_ok());
    let sent = sent.count();
    done.try_send(&()).unwrap();
    sent
}

fn fill_and_exit(sent: (Sent, Sender<()>)) -> usize {
    fill(sent);
    std::process::exit(0)
}

/// As many as can be sent until nobody reads. Then says so.
fn press(((mut to, length, count), mut done): (Sent, Sender<()>)) -> usize {
    let limit = Some(Duration::from_millis(20));
    let sent = (0..count).take_while(|_| to.blocking_send(&vec![7; length], limit).is_ok());
    let sent = sent.count();
    done.try_send(&()).unwrap();
    sent
}

/// How many messages come, each whole, before an orderly end.
async fn received(mut from: Receiver<Vec<u8>>, length: usize) -> usize {
    let mut count = 0;
    loop {
        match from.recv().await {
            Ok(message) => assert!(message == vec![7; length]),
            Err(error) if error.is_closed() => return count,
            Err(error) => panic!("after {count} of {length}: {error}"),
        }
        count += 1;
    }
}

const SIZES: [(usize, usize); 4] = [(100, 1), (100, 10), (300_000, 1), (300_000, 3)];

/// CF-144.
#[test]
fn a_process_that_returns_has_what_it_fed_sent() {
    everywhere(|method| async move {
        for (length, count) in SIZES {
            let (to, from) = one_way().unwrap();
            let by = Process::builder().start_method(method);
            let process = by.spawn_async(feed, (to, length, count)).await.unwrap();
            assert_eq!(received(from, length).await, count, "of {length}");
            process.join().await.unwrap();
        }
    });
}

#[test]
fn a_process_that_returns_or_exits_has_sent_whole_what_it_has_begun() {
    everywhere(|method| async move {
        for (length, count) in SIZES {
            for deed in [fill, fill_and_exit, press] {
                let ((to, from), (done, mut is_done)) = (one_way().unwrap(), one_way().unwrap());
                let by = Process::builder().start_method(method);
                let sent = ((to, length, count), done);
                let process = by.spawn(deed, sent).await.unwrap();
                // Nobody reads before that.
                is_done.recv().await.unwrap();
                assert!(received(from, length).await >= 1, "of {length}");
                process.wait().await;
            }
        }
    });
}

#[test]
fn a_worker_that_is_let_go_has_sent_whole_what_its_tasks_have_begun() {
    everywhere(|method| async move {
        for recycled in [true, false] {
            let mut builder = ProcessPool::builder().workers(1).start_method(method);
            if recycled {
                builder = builder.max_tasks_per_worker(1);
            }
            let pool = builder.build().unwrap();
            let ((to, from), (done, _is_done)) = (one_way().unwrap(), one_way().unwrap());
            let sent = pool.submit(fill, ((to, 300_000, 9), done)).await.unwrap();
            let reader = tokio::spawn(received(from, 300_000));
            pool.shutdown().await;
            assert_eq!(reader.await.unwrap(), sent, "recycled: {recycled}");
        }
    });
}

/// Whoever reads nothing keeps nobody for ever.
#[test]
fn a_process_is_not_kept_by_who_reads_nothing() {
    on_each_runtime(|| async {
        let ((to, mut from), (done, _is_done)) = (one_way().unwrap(), one_way().unwrap());
        let begun = Instant::now();
        let sent = ((to, 300_000, 1), done);
        let process = Process::spawn(fill, sent).await.unwrap();
        assert_eq!(process.join().await.unwrap(), 1);
        assert!(begun.elapsed() >= Duration::from_secs(2), "it was waited");
        let received: Result<Vec<u8>, _> = from.recv().await;
        assert!(received.unwrap_err().is_broken());
    });
}
