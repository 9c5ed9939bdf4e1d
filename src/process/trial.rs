//! The decoders of this folder, to be tried with bytes of any kind. See `src/fuzzing.rs`.

use std::time::Duration;

use super::errand;
use super::protocol::{Reply, Request, decode, encode, version_of};
use crate::sys::socket;

/// What a launcher and its fork server say to each other, and the first message to what was executed.
/// What can be read says no more than was there.
pub(crate) fn packets(data: &[u8]) {
    let version = version_of(data);
    if let Some(reply) = decode::<Reply>(data) {
        assert!(encode(&reply).expect("it was read").len() <= data.len());
        if let Reply::Ready { version: said, .. } = reply {
            assert_eq!(version, Some(said));
        }
    }
    if let Some(Request::Fork { posting, .. }) = decode(data) {
        // None came beside it.
        let places = posting.place(Vec::new());
        assert!(places.is_none_or(|places| places.channel.is_empty()));
    }
    let (here, there) = socket::pair().expect("a socket pair");
    if socket::send(&here, data, &[]).is_ok() {
        let errand = errand::receive(&there, Duration::from_secs(1));
        assert!(errand.is_err(), "no program came beside it");
    }
}
