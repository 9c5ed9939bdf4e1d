//! How long it takes until there is a worker: the first, one more, and another where one was killed.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use procpool::{Connection, Process, ProcessPool, pipe};
use rustix::process::{Pid, Signal, kill_process};

use super::{Setting, millis};
use crate::place::Place;
use crate::role::{BEGINNER, command};
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, Timed, Way, pool, tokio_worker};
use crate::work::Job;

const SCENE: Scene = Scene {
    flavor: Flavor::Current,
    seat: Seat::BlockOn,
    place: Place::Free,
};

/// Something that says by itself how long it took.
fn timed(name: &'static str, mut once: impl FnMut() -> Duration + 'static) -> Timed {
    (
        name,
        Box::new(move |count| (0..count).map(|_| once()).sum()),
    )
}

pub(super) fn first_result(setting: &Setting) -> Vec<Subject> {
    let timed = [
        timed("procpool", || {
            let runtime = SCENE.runtime("procpool");
            let begun = Instant::now();
            let pool = pool::build(&runtime, ProcessPool::builder().workers(1));
            let answer = runtime.block_on(pool.submit(Job::run, Job::nothing(1)));
            let took = begun.elapsed();
            assert_eq!(answer.expect("the job is plain"), 2);
            runtime.block_on(pool.shutdown());
            took
        }),
        posix_spawn(),
        timed("tokio_batched", || {
            let runtime = SCENE.runtime("tokio_batched");
            let begun = Instant::now();
            let workers = tokio_worker::Workers::start(&runtime, SCENE.place, 1, true);
            assert_eq!(runtime.block_on(workers.call(Job::nothing(1))), 2);
            begun.elapsed()
        }),
        timed("procspawn", || {
            let begun = Instant::now();
            let pool = procspawn::Pool::new(1).expect("this program, again");
            let answer = pool.spawn(Job::nothing(1), Job::run).join();
            let took = begun.elapsed();
            assert_eq!(answer.expect("the job is plain"), 2);
            took
        }),
    ];
    setting.repeated(millis, timed)
}

/// This program executed, until its first byte.
fn posix_spawn() -> Timed {
    timed("posix_spawn", || {
        let begun = Instant::now();
        let child = command(BEGINNER).stdin(Stdio::null()).spawn();
        let mut child = child.expect("this program, again");
        let mut byte = [0];
        let output = child.stdout.as_mut().expect("it is piped");
        output.read_exact(&mut byte).expect("it says something");
        let took = begun.elapsed();
        child.wait().expect("it is our child");
        took
    })
}

pub(super) fn one_more_worker(setting: &Setting) -> Vec<Subject> {
    let runtime = SCENE.runtime("procpool");
    let pool = pool::start(&runtime, SCENE.place, 1);
    let stage = (pool, runtime);
    let ours = timed("procpool", move || {
        let (pool, runtime) = &stage;
        runtime.block_on(async {
            let begun = Instant::now();
            pool.resize(2).expect("it is open");
            pool.ready().await.expect("its workers start");
            let took = begun.elapsed();
            pool.resize(1).expect("it is open");
            while pool.stats().workers.len() > 1 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            took
        })
    });
    setting.repeated(millis, [ours, posix_spawn()])
}

pub(super) fn slot_again(setting: &Setting) -> Vec<Subject> {
    let runtime = SCENE.runtime("procpool");
    let pool = pool::start(&runtime, SCENE.place, 1);
    let stage = (pool, runtime);
    let ours = timed("procpool", move || {
        let (pool, runtime) = &stage;
        runtime.block_on(async {
            let ask = || pool.submit(|()| std::process::id(), ());
            let pid = ask().await.expect("the call is plain");
            let worker = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let worker = worker.expect("a worker is a process");
            let begun = Instant::now();
            kill_process(worker, Signal::KILL).expect("it is there");
            assert_ne!(ask().await.expect("it is for the next worker"), pid);
            begun.elapsed()
        })
    });
    setting.repeated(millis, [ours, forkserver_launch()])
}

/// A process forked by a server that is there, until its first word.
fn forkserver_launch() -> Timed {
    let runtime = SCENE.runtime("forkserver_launch");
    // While it runs, its server does.
    let kept = runtime.block_on(async { Process::spawn(|()| std::thread::park(), ()).await });
    let stage = (Kept(kept.expect("room for a process")), runtime);
    timed("forkserver_launch", move || {
        let (_, runtime) = &stage;
        runtime.block_on(async {
            let (mut here, there) = pipe::<(), u64>().expect("room for a pipe");
            let begun = Instant::now();
            let process = Process::spawn(begin, there)
                .await
                .expect("room for a process");
            assert_eq!(here.recv().await.expect("it says something"), 7);
            let took = begun.elapsed();
            process.join().await.expect("it ends by itself");
            took
        })
    })
}

struct Kept(Process<()>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn begin(mut caller: Connection<u64, ()>) {
    caller.blocking_send(&7, None).expect("it waits");
}
