//! A million items that are nothing to do, as a stream or all together.

use std::time::Instant;

use futures::{Stream, StreamExt};
use procpool::{ProcessPool, TaskError};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tokio::runtime::Runtime;

use super::Setting;
use crate::place::Place;
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, Timed, pool, python, threads};

/// What a hand would try.
const CHUNKS: [usize; 6] = [16, 64, 256, 1024, 4096, 16384];

pub(super) fn map_auto(setting: &Setting) -> Vec<Subject> {
    let items = setting.by_care(10_000, 1_000_000, 1_000_000);
    let mut timed = vec![ours("procpool", items, None)];
    timed.push(ours("map_best_fixed", items, Some(best_chunk(items))));
    timed.push(rayon(items));
    timed.extend(python::map(Place::Free, items));
    setting.repeated(move |seconds| items as f64 / seconds, timed)
}

/// A map whose chunks are so large, or as large as it finds good.
fn ours(name: &'static str, items: u64, chunk: Option<usize>) -> Timed {
    let scene = Scene {
        flavor: Flavor::Multi,
        seat: Seat::Spawned,
        place: Place::Free,
    };
    let runtime = scene.runtime(name);
    let pool = pool::start(&runtime, scene.place, scene.place.workers());
    let stage = (pool, runtime);
    let timed = move |count| {
        let (pool, runtime): &(ProcessPool, Runtime) = &stage;
        let pool = pool.clone();
        let work = async move {
            let begun = Instant::now();
            for _ in 0..count {
                match chunk {
                    Some(chunk) => take(pool.task(next).chunk_size(chunk).map(0..items)).await,
                    None => take(pool.map(next, 0..items)).await,
                }
            }
            begun.elapsed()
        };
        runtime
            .block_on(runtime.spawn(work))
            .expect("it answers right")
    };
    (name, Box::new(timed))
}

fn next(n: u64) -> u64 {
    n + 1
}

async fn take(results: impl Stream<Item = Result<u64, TaskError>>) {
    let mut results = std::pin::pin!(results);
    let mut expected = 0;
    while let Some(result) = results.next().await {
        expected += 1;
        assert_eq!(result.expect("the item is plain"), expected);
    }
}

/// The size with which it is fastest, tried with a part of the items.
fn best_chunk(items: u64) -> usize {
    let time = |chunk: &usize| {
        let (_, mut pass) = ours("procpool", items / 10, Some(*chunk));
        (0..3).map(|_| pass(1)).min()
    };
    let best = CHUNKS.into_iter().min_by_key(time);
    let best = best.expect("there are some");
    eprintln!("  map_best_fixed has {best} items in a chunk");
    best
}

fn rayon(items: u64) -> Timed {
    let threads = threads::pool(Place::Free);
    let timed = move |count| {
        let begun = Instant::now();
        for _ in 0..count {
            let map = || (0..items).into_par_iter().map(next).collect::<Vec<_>>();
            assert_eq!(threads.install(map).last(), Some(&items));
        }
        begun.elapsed()
    };
    ("rayon", Box::new(timed))
}
