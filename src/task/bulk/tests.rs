//! What arrives where a large payload was announced, and is none.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use super::*;
use crate::sys::mapping::sealed_file;
use crate::sys::slab::{Lender, Slab};
use crate::task::attached::{self, Origin};
use crate::task::payload;
use crate::task::slabs;

/// As [`form`] writes it: the slab at that place, and how many bytes are in it.
fn announced(place: u32, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    payload::encode(&(1u32, place, length), &mut bytes).unwrap();
    bytes
}

fn slab(bytes: &[u8]) -> OwnedFd {
    let mut slab = Slab::new(4096).unwrap();
    slab.fill(bytes);
    slab.as_fd().try_clone_to_owned().unwrap()
}

fn read<T: Pod + Send + Sync>(
    origin: Origin,
    announced: &[u8],
    beside: Vec<OwnedFd>,
) -> Result<Payload<T>, String> {
    let decode = || payload::decode::<Payload<T>>(announced);
    attached::supply_from(origin, beside, decode).map_err(|error| error.to_string())
}

fn refused(announced: &[u8], beside: impl Fn() -> Vec<OwnedFd>) -> String {
    let [one, other] = [Origin::Parent, Origin::Other]
        .map(|origin| read::<u32>(origin, announced, beside()).unwrap_err());
    assert_eq!(one, other);
    one
}

fn lease() -> OwnedFd {
    Lender::lend().unwrap().1
}

#[test]
fn what_is_in_a_slab_is_there_for_as_long_as_it_is_lent() {
    for origin in [Origin::Parent, Origin::Queue, Origin::Other] {
        let (lender, lease) = Lender::lend().unwrap();
        let beside = vec![slab(&[1, 0, 0, 0, 2, 0, 0, 0, 3]), lease];
        let payload = read::<u32>(origin, &announced(0, 8), beside).unwrap();
        assert_eq!(&*payload, [1, 2]);
        // Others have a copy, and need the slab no more.
        assert_eq!(lender.is_over(), origin != Origin::Parent);
        drop(payload);
        assert!(lender.is_over());
    }
}

#[test]
fn what_is_announced_and_not_there_is_an_error() {
    let whole = || vec![slab(b"12345678"), lease()];
    let alone = || vec![slab(b"12345678")];
    assert!(refused(&announced(1, 8), whole).contains("not there"));
    assert!(refused(&announced(u32::MAX, 8), whole).contains("not there"));
    assert!(refused(&announced(0, 8), alone).contains("not there"));
    assert!(refused(&announced(0, 4100), whole).contains("no large payload came"));
    assert!(refused(&announced(0, 7), whole).contains("no whole number"));
    let more = slabs::limit() as u64 + 4;
    assert!(refused(&announced(0, more), whole).contains("more than"));
    assert!(refused(&announced(0, u64::MAX), whole).contains("more than"));
}

#[test]
fn what_is_no_slab_is_an_error() {
    let with = |file: OwnedFd| vec![file, lease()];
    let others = || with(sealed_file("test", 4096).unwrap());
    let device = || with(File::open("/dev/zero").unwrap().into());
    let pipe = || with(lease());
    for beside in [&others as &dyn Fn() -> Vec<OwnedFd>, &device, &pipe] {
        refused(&announced(0, 8), beside);
    }
}

/// Else one message could have any amount of memory filled.
#[test]
fn a_slab_counts_each_time_and_is_there_once() {
    let mut twice = Vec::new();
    let both = ((1u32, 0u32, 8u64), (1u32, 0u32, 8u64));
    payload::encode(&both, &mut twice).unwrap();
    let beside = vec![slab(b"12345678"), lease()];
    let decode = || payload::decode::<(Payload, Payload)>(&twice);
    let error = attached::supply(beside, decode).unwrap_err();
    assert!(error.to_string().contains("not there"), "{error}");
}

#[test]
fn elements_are_as_many_as_there_are_bytes_for() {
    let error = serde_json::from_str::<Payload<u32>>("[1,2,3]").unwrap_err();
    assert!(error.to_string().contains("no whole number"), "{error}");
    let payload: Payload<u32> = serde_json::from_str("[1,0,0,0,2,0,0,0]").unwrap();
    assert_eq!(&*payload, [1, 2]);
    assert_eq!(format!("{payload:?}"), "Payload<u32>(2)");
    assert_eq!(
        serde_json::to_string(&payload).unwrap(),
        "[1,0,0,0,2,0,0,0]"
    );
}

#[test]
fn nothing_is_copied_where_it_need_not_be() {
    let bytes = Bytes::from(vec![7; 100]);
    let payload = Payload::from(bytes.clone());
    assert_eq!(payload.as_ptr(), bytes.as_ptr());
    assert_eq!(Bytes::from(payload.clone()).as_ptr(), bytes.as_ptr());
    assert_eq!(payload, vec![7; 100].into());
    assert!(Payload::<f64>::default().is_empty());
}
