//! The items of a chunk, one behind the other: each its length and its bytes.
//!
//! Every item is encoded by itself, so that one which does not decode costs no other. An item that
//! has descriptors is alone, so that it is plain whose they are.

use bytes::Buf;

use crate::wire::packed::Packed;

/// The length of an item's length.
const PREFIX: usize = 4;

/// Appends an item.
pub(crate) fn push(item: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(item.len()).expect("an item fits into a frame");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(item);
}

/// How many bytes an item of that length takes up.
pub(crate) fn size_of(length: usize) -> usize {
    PREFIX + length
}

/// Splits the first item off; `None` where there is none, or not the whole of it.
pub(crate) fn split_first(items: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = items.split_first_chunk::<PREFIX>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// What is behind the first `count` items, sharing their memory. Empty if there are fewer.
pub(crate) fn skip(items: &Packed, count: usize) -> Packed {
    if count == 0 {
        return items.clone();
    }
    let mut rest = items.to_bytes();
    for _ in 0..count {
        let taken = split_first(&rest).map(|(first, _)| size_of(first.len()));
        rest.advance(taken.unwrap_or(rest.len()));
    }
    Packed::from(rest)
}

/// The first item alone, sharing its memory. Empty if there is none.
pub(crate) fn first(items: &Packed) -> Packed {
    let length = split_first(items).map_or(0, |(first, _)| size_of(first.len()));
    if length == items.len() {
        return items.clone();
    }
    Packed::from(items.to_bytes().slice(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        for item in [&b"one"[..], b"", b"three"] {
            push(item, &mut bytes);
        }
        let (one, rest) = split_first(&bytes).expect("an item");
        let (empty, rest) = split_first(rest).expect("an item");
        let (three, rest) = split_first(rest).expect("an item");
        assert_eq!((one, empty, three), (&b"one"[..], &b""[..], &b"three"[..]));
        assert_eq!(split_first(rest), None);
    }

    #[test]
    fn what_is_cut_off_is_no_item() {
        let mut bytes = Vec::new();
        push(b"whole", &mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(split_first(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(split_first(&u32::MAX.to_le_bytes()), None);
    }

    #[test]
    fn the_rest_is_what_stands_behind() {
        let mut bytes = Vec::new();
        (0..4u8).for_each(|n| push(&[n; 3], &mut bytes));
        let rest = skip(&Packed::copy_of(&bytes), 3);
        assert_eq!(split_first(&rest), Some((&[3; 3][..], &[][..])));
        assert_eq!(skip(&rest, 2).len(), 0);
        assert_eq!(*first(&Packed::copy_of(&bytes)), bytes[..7]);
    }
}
