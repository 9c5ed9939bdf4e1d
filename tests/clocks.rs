//! Clocks: the wall clock plays no role, wherever it jumps, and it does not matter where the
//! monotonic one began.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;
#[path = "support/surroundings.rs"]
mod surroundings;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use deeds::{Misdeed, commit, hang, own_pid};
use procpool::{ProcessPool, StartMethod};
use program::{Program, role};
use support::{PROMPTLY, everywhere, runtime, scene, soon};
use surroundings::{cannot_run, in_namespaces};

/// How often somebody in this process has looked at the wall clock. It jumps each time.
static LOOKS: AtomicUsize = AtomicUsize::new(0);
const DAY: i64 = 24 * 60 * 60;

/// In the place of libc's, for everything in this program that asks libc for the time.
#[expect(unsafe_code, reason = "a program's own function goes before libc's")]
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the kernel checks the address that it writes to.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if done == 0 && clock == libc::CLOCK_REALTIME {
        let look = LOOKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the kernel has just written there.
        unsafe { (*time).tv_sec += DAY * [400, -400, 1, -1][look % 4] };
    }
    // Without an error there is no `errno` to be set, and with one the call above has.
    i32::try_from(done).unwrap_or(-1)
}

/// Ordinary calls, calls with limits that they keep, and with limits that end them.
async fn keep_time(method: StartMethod) {
    const LIMIT: Duration = Duration::from_millis(200);
    let pool = ProcessPool::builder().workers(2).start_method(method);
    let pool = pool.task_timeout(PROMPTLY * 2).build().unwrap();
    pool.ready().await.unwrap();
    for _ in 0..100 {
        pool.submit(own_pid, ()).await.unwrap();
    }
    for _ in 0..2 {
        let begun = Instant::now();
        let error = pool.task(hang).timeout(LIMIT).submit(()).await.unwrap_err();
        let took = begun.elapsed();
        assert!(error.is_timeout() && took >= LIMIT, "{took:?}: {error}");
        assert!(took < PROMPTLY, "{took:?}");
    }
    let nap: fn(()) = |()| std::thread::sleep(LIMIT / 2);
    let nap = pool.task(nap).timeout(PROMPTLY).queue_timeout(PROMPTLY);
    for handle in [nap.submit(()), nap.submit(()), nap.submit(())] {
        handle.await.unwrap();
    }
    // The pause after a death has the right length, too: there is none.
    let error = pool.submit(commit, Misdeed::Exit(1)).await.unwrap_err();
    let ran_for = error.worker_exit().unwrap().ran_for().unwrap();
    assert!(ran_for < PROMPTLY, "{ran_for:?}");
    pool.submit(own_pid, ()).await.unwrap();
    assert_eq!(pool.stats().timed_out, 2);
    let handle = pool.submit(hang, ());
    assert!(soon(PROMPTLY, || handle.is_running()).await);
    pool.terminate().await;
}

/// Row 32.
#[test]
fn a_wall_clock_that_jumps_by_days_ends_nothing_and_holds_nothing_up() {
    fn look_often(_: ()) -> Vec<SystemTime> {
        (0..4).map(|_| SystemTime::now()).collect()
    }
    let jumps = |times: Vec<SystemTime>| !times.is_sorted();
    assert!(jumps(look_often(())));
    let looks = LOOKS.load(Ordering::Relaxed);
    everywhere(|method| async move {
        let pool = ProcessPool::builder().workers(1).start_method(method);
        let pool = pool.build().unwrap();
        assert!(jumps(pool.submit(look_often, ()).await.unwrap()));
        pool.shutdown().await;
        keep_time(method).await;
    });
    // That is why: nobody looks at it.
    assert_eq!(LOOKS.load(Ordering::Relaxed), looks);
}

/// Row 32: nor does a worker look at it, for what it notes.
#[test]
fn no_source_file_names_the_wall_clock() {
    fn check(folder: &std::path::Path) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files += check(&path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for name in ["SystemTime", "Realtime", "REALTIME", "gettimeofday"] {
                assert!(!text.contains(name), "{name} in {}", path.display());
            }
            files += 1;
        }
        files
    }
    let files = check(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files > 10, "the sources are not where they should be");
}

/// Row 32: a machine that has just been started, and one that has run for a century.
#[test]
fn it_does_not_matter_where_the_monotonic_clock_began() {
    const NAME: &str = "it_does_not_matter_where_the_monotonic_clock_began";
    let uptime = || rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
    if let Some(role) = role() {
        let (method, expected) = role.split_once(' ').unwrap();
        let expected: i64 = expected.parse().unwrap();
        assert!(
            (expected..expected + 60).contains(&uptime()),
            "{}",
            uptime()
        );
        return runtime(2).block_on(keep_time(method.parse().unwrap()));
    }
    let _scene = scene();
    for method in StartMethod::available() {
        for began in [0, 100 * 365 * DAY] {
            let offset = (began - uptime()).to_string();
            let options = ["--time", "--monotonic", &offset, "--boottime", &offset];
            let mut command = match in_namespaces(&options) {
                Ok(command) => command,
                Err(why) => return cannot_run(NAME, why),
            };
            let role = format!("{method} {began}");
            let mut program = Program::start_by(&mut command, NAME, &role);
            assert!(program.end().success(), "{role}");
        }
    }
}
