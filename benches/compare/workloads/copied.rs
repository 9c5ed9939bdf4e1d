//! Bytes to a worker and back: copied in, looked at there, and copied out; and the same the other way.

use std::time::Instant;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use procpool::Payload;

use super::Setting;
use super::payload::{bytes, look, memcpy, rate, sized};
use crate::place::Place;
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, Timed, pool, python, tokio_worker};

pub(super) fn payload_copy_1m(setting: &Setting) -> Vec<Subject> {
    copied(setting, 1 << 20)
}

pub(super) fn payload_copy_16m(setting: &Setting) -> Vec<Subject> {
    copied(setting, 16 << 20)
}

pub(super) fn payload_copy_256m(setting: &Setting) -> Vec<Subject> {
    copied(setting, 256 << 20)
}

fn copied(setting: &Setting, size: usize) -> Vec<Subject> {
    let size = sized(setting, size);
    let mut timed = vec![procpool(size), memcpy(size), tokio(size)];
    // It takes seconds for more.
    if setting.by_care(true, size <= 16 << 20, true) {
        timed.extend(python::payload(Place::Free, size as u64));
    }
    setting.repeated(rate(size), timed)
}

const SCENE: Scene = Scene {
    flavor: Flavor::Current,
    seat: Seat::BlockOn,
    place: Place::Free,
};

fn procpool(size: usize) -> Timed {
    fn echo(payload: Payload) -> (u64, Payload) {
        (look(&payload), payload)
    }
    let runtime = SCENE.runtime("procpool");
    let pool = pool::start(&runtime, SCENE.place, 1);
    let stage = (pool, runtime, Payload::from(bytes(size)));
    let timed = move |count| {
        let (pool, runtime, payload) = &stage;
        let expected = look(payload);
        runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..count {
                let answer = pool.submit(echo, payload.clone()).await;
                let (seen, back) = answer.expect("there is room for it");
                assert_eq!((seen, look(&back), back.len()), (expected, expected, size));
            }
            begun.elapsed()
        })
    };
    ("procpool", Box::new(timed))
}

/// The worker made by hand, which has nothing to do but this.
fn tokio(size: usize) -> Timed {
    let runtime = SCENE.runtime("tokio_batched");
    let (child, writer, reader) =
        runtime.block_on(async { tokio_worker::start(tokio_worker::ECHO) });
    let mut stage = (writer, reader, child, runtime, Bytes::from(bytes(size)));
    let timed = move |count| {
        let (writer, reader, _, runtime, bytes) = &mut stage;
        let expected = look(bytes);
        runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..count {
                writer.send(bytes.clone()).await.expect("the worker lives");
                let back = reader
                    .next()
                    .await
                    .expect("it answers")
                    .expect("it answers");
                assert_eq!((look(&back), back.len()), (expected, size));
            }
            begun.elapsed()
        })
    };
    ("tokio_batched", Box::new(timed))
}
