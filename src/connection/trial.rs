//! The decoders of this folder, to be tried with bytes of any kind. See `src/fuzzing.rs`.

use super::authkey::{AuthKey, AuthMode};
use super::handshake::{Handshake, LONGEST, RANDOM, Role};
use super::inbox::Inbox;
use crate::sys::stream::Received;

/// Bytes that come in pieces as long as their first byte says. Whatever comes out was in them, and
/// memory is in proportion to what has come.
pub(crate) fn messages(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Some((&step, mut data)) = data.split_first() else {
        return;
    };
    let (mut inbox, mut fed, mut taken) = (Inbox::default(), 0, 0);
    while !data.is_empty() {
        let room = inbox.room();
        assert!(
            room.len() <= 128 * 1024 + 2 * fed,
            "{} for {fed}",
            room.len()
        );
        let count = room.len().min(data.len()).min(1 + usize::from(step));
        room[..count].copy_from_slice(&data[..count]);
        (data, fed) = (&data[count..], fed + count);
        inbox.fill(Received {
            count,
            ..Received::default()
        });
        loop {
            match inbox.next(LIMIT) {
                Ok(Some(length)) => {
                    assert_eq!(inbox.take_bytes().len(), length);
                    taken += length;
                }
                Ok(None) => break,
                Err(_) => return assert!(inbox.next(LIMIT).is_err(), "that is the end"),
            }
        }
        inbox.shrink();
        assert!(taken <= fed);
    }
}

/// Messages, each as long as the byte before it says, for either end of every handshake: they come
/// from somebody without the key, and convince nobody.
pub(crate) fn handshake(data: &[u8]) {
    let key = AuthKey::new("secret").expect("there is room for it");
    for mode in [AuthMode::Python, AuthMode::PythonMd5, AuthMode::Procpool] {
        for role in [Role::Listener, Role::Client] {
            let mut end = Handshake::new(role, mode, key.clone(), [7; RANDOM]);
            let mut rest = data;
            while let Some((&length, following)) = rest.split_first() {
                let length = following.len().min(length.into());
                let (message, following) = following.split_at(length);
                rest = following;
                let step = end.hear(message);
                assert!(step.say.is_none_or(|said| said.len() <= LONGEST));
                match step.verdict {
                    None => {}
                    Some(Ok(())) => panic!("convinced by {}", data.escape_ascii()),
                    Some(Err(_)) => break,
                }
            }
        }
    }
}

/// A pickle. What is found to be plain can be read, whether or not as anything in particular.
#[cfg(feature = "pickle")]
pub(crate) fn pickle(data: &[u8]) {
    use serde::de::IgnoredAny;
    let _ = super::pickle::read::<IgnoredAny>(data);
    let _ = super::pickle::read::<Vec<(String, i64)>>(data);
    let _ = super::pickle::read::<serde_pickle::Value>(data);
}
