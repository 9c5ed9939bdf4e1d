//! Bytes to a worker and back through memory that both have: copied in, and looked at in place; and the same
//! the other way. The worker is given the memory once, by a call before those that are measured.

use std::sync::OnceLock;
use std::time::Instant;

use procpool::Array;

use super::Setting;
use super::payload::{bytes, look, memcpy, rate, sized};
use crate::place::Place;
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, Timed, pool};

pub(super) fn payload_shared_1m(setting: &Setting) -> Vec<Subject> {
    shared(setting, 1 << 20)
}

pub(super) fn payload_shared_16m(setting: &Setting) -> Vec<Subject> {
    shared(setting, 16 << 20)
}

pub(super) fn payload_shared_256m(setting: &Setting) -> Vec<Subject> {
    shared(setting, 256 << 20)
}

fn shared(setting: &Setting, size: usize) -> Vec<Subject> {
    let size = sized(setting, size);
    setting.repeated(rate(size), [procpool(size), memcpy(size)])
}

/// What goes there, and what comes back.
type Buffers = (Array<u8>, Array<u8>);

/// In the worker.
static BUFFERS: OnceLock<Buffers> = OnceLock::new();

fn keep(buffers: Buffers) {
    BUFFERS.get_or_init(|| buffers);
}

/// Looks at what is there, and sends it back.
fn echo(_: ()) -> u64 {
    let (there, back) = BUFFERS.get().expect("they came before any call");
    let there = there.blocking_lock(None).expect("its caller lives");
    let mut back = back.blocking_lock(None).expect("its caller lives");
    let seen = look(&there);
    back.copy_from_slice(&there);
    seen
}

fn procpool(size: usize) -> Timed {
    let scene = Scene {
        flavor: Flavor::Current,
        seat: Seat::BlockOn,
        place: Place::Free,
    };
    let runtime = scene.runtime("procpool");
    let array = || Array::zeroed(size).expect("there is room for it");
    let buffers = (array(), array());
    let pool = pool::start(&runtime, scene.place, 1);
    let kept = runtime.block_on(pool.submit(keep, buffers.clone()));
    kept.expect("the call is plain");
    let stage = (pool, runtime, buffers, bytes(size));
    let timed = move |count| {
        let (pool, runtime, (there, back), bytes) = &stage;
        let expected = look(bytes);
        runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..count {
                there
                    .lock()
                    .await
                    .expect("the worker lives")
                    .copy_from_slice(bytes);
                let seen = pool.submit(echo, ()).await.expect("the call is plain");
                let back = back.lock().await.expect("the worker lives");
                assert_eq!((seen, look(&back)), (expected, expected));
            }
            begun.elapsed()
        })
    };
    ("procpool", Box::new(timed))
}
