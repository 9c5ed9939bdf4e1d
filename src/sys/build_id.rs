//! The identity of a build: the id that the linker noted in the image, or a hash in its place.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use serde::{Deserialize, Serialize};

/// What tells one build of a program from another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct BuildId(Vec<u8>);

impl BuildId {
    /// Takes the linker's id out of a table of notes.
    pub(crate) fn in_notes(notes: &[u8], align: usize) -> Option<Self> {
        gnu_note(notes, align).map(|id| BuildId(id.to_vec()))
    }

    /// Stands in for the linker's id: two SipHashes that begin differently, 128 bits together. The
    /// hasher's keys are fixed and its algorithm is compiled in, so that all processes of a build
    /// agree.
    pub(crate) fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
        halves[1].write_u8(1);
        for part in parts {
            for half in &mut halves {
                half.write(part);
            }
        }
        BuildId(
            halves
                .iter()
                .flat_map(|h| h.finish().to_be_bytes())
                .collect(),
        )
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Finds the linker's id in a table of notes: three words (the lengths of name and content,
/// the kind), the name, the content, each padded.
fn gnu_note(mut notes: &[u8], align: usize) -> Option<&[u8]> {
    const GNU_BUILD_ID: usize = 3;
    loop {
        let word = |n: usize| {
            let bytes = notes.get(4 * n..4 * n + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?) as usize)
        };
        let (name_len, content_len, kind) = (word(0)?, word(1)?, word(2)?);
        let content_at = (12 + name_len).next_multiple_of(align);
        let name = notes.get(12..12 + name_len)?;
        let content = notes.get(content_at..content_at + content_len)?;
        if name == b"GNU\0" && kind == GNU_BUILD_ID && !content.is_empty() {
            return Some(content);
        }
        notes = notes.get((content_at + content_len).next_multiple_of(align)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_that_stands_in_for_it_is_stable_and_128_bits() {
        let hash = || BuildId::hash([b"some".as_slice(), b"code"].into_iter());
        assert_eq!(hash(), hash());
        assert_eq!(hash().0.len(), 16);
        assert_ne!(hash(), BuildId::hash([b"another".as_slice()].into_iter()));
    }

    #[test]
    fn a_build_id_is_found_behind_other_notes_and_not_in_torn_ones() {
        let mut notes = Vec::new();
        for (kind, content) in [(1_u32, b"abcde".as_slice()), (3, b"0123456789")] {
            let words = [4, content.len() as u32, kind];
            notes.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
            notes.extend(b"GNU\0");
            notes.extend(content);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(gnu_note(&notes, 4), Some(b"0123456789".as_slice()));
        assert_eq!(gnu_note(&notes[..notes.len() - 8], 4), None);
        assert_eq!(gnu_note(&[0xff; 64], 4), None);
        assert_eq!(gnu_note(&[], 4), None);
    }
}
