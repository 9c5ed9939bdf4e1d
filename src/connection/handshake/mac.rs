//! Message authentication codes: what can only be made, and be found right, by whoever has the key.

use std::hint::black_box;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Sha256, Sha384};

use super::super::AuthKey;

/// How a code is made: HMAC over one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Digest {
    Md5,
    Sha256,
    Sha384,
}

impl Digest {
    /// Finds the one that Python calls by this name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"md5" => Some(Self::Md5),
            b"sha256" => Some(Self::Sha256),
            b"sha384" => Some(Self::Sha384),
            _ => None,
        }
    }

    /// What Python calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    /// The code of what the parts are together.
    pub(super) fn sign(self, key: &AuthKey, parts: &[&[u8]]) -> Vec<u8> {
        let code = self.make(key, parts);
        leave_no_trace();
        code
    }

    #[inline(never)]
    fn make(self, key: &AuthKey, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Md5 => keyed::<Hmac<Md5>>(key, parts)
                .finalize()
                .into_bytes()
                .to_vec(),
            Self::Sha256 => keyed::<Hmac<Sha256>>(key, parts)
                .finalize()
                .into_bytes()
                .to_vec(),
            Self::Sha384 => keyed::<Hmac<Sha384>>(key, parts)
                .finalize()
                .into_bytes()
                .to_vec(),
        }
    }

    /// Whether this is that code. How long it takes does not tell how much of it is right.
    pub(super) fn verify(self, key: &AuthKey, parts: &[&[u8]], code: &[u8]) -> bool {
        let is_right = self.compare(key, parts, code);
        leave_no_trace();
        is_right
    }

    #[inline(never)]
    fn compare(self, key: &AuthKey, parts: &[&[u8]], code: &[u8]) -> bool {
        let verified = match self {
            Self::Md5 => keyed::<Hmac<Md5>>(key, parts).verify_slice(code),
            Self::Sha256 => keyed::<Hmac<Sha256>>(key, parts).verify_slice(code),
            Self::Sha384 => keyed::<Hmac<Sha384>>(key, parts).verify_slice(code),
        };
        verified.is_ok()
    }
}

fn keyed<M: Mac + KeyInit>(key: &AuthKey, parts: &[&[u8]]) -> M {
    let mut mac =
        <M as KeyInit>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// How deep the stack was below this file's functions, with room to spare.
const DEPTH: usize = 16 * 1024;

/// Overwrites the stack below the caller. What a code is made with is worth as much as the key and is
/// wiped where it was last, but not in the places from which it was moved there.
#[inline(never)]
fn leave_no_trace() {
    black_box(&mut [0_u8; DEPTH]);
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::sync::mpsc;
    use std::thread;

    use sha2::block_api::compress256;

    use super::*;

    /// What HMAC-SHA-256 makes of a key before it looks at the message.
    fn made_of(key: &AuthKey, pad: u8) -> Vec<u8> {
        let mut block = [pad; 64];
        let bytes = block.iter_mut().zip(key.expose());
        bytes.for_each(|(byte, of_key)| *byte ^= of_key);
        let mut state = [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19_u32,
        ];
        compress256(&mut state, &[block]);
        state.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    /// All that is in the mapping at an address.
    fn mapping_at(address: u64) -> Vec<u8> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut ranges = maps.lines().map(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split(' ').next().unwrap();
            [start, end].map(|text| u64::from_str_radix(text, 16).unwrap())
        });
        let [start, end] = ranges
            .find(|[start, end]| (*start..*end).contains(&address))
            .unwrap();
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, start).unwrap();
        bytes
    }

    #[test]
    fn nothing_that_is_as_good_as_the_key_stays_on_the_stack() {
        let key = AuthKey::random().unwrap();
        let made = [made_of(&key, 0x36), made_of(&key, 0x5c)];
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let user = thread::spawn(move || {
            let code = Digest::Sha256.sign(&key, &[b"text"]);
            assert!(Digest::Sha256.verify(&key, &[b"text"], &code));
            let place = 0_u8;
            tell.send(&raw const place as u64).unwrap();
            let _ = ended.recv();
        });
        let stack = mapping_at(told.recv().unwrap());
        drop(end);
        user.join().unwrap();
        let [inner, outer] = made.each_ref().map(|bytes| {
            let windows = stack.windows(bytes.len());
            windows.filter(|window| window == bytes).count()
        });
        assert_eq!((inner, outer), (0, 0));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 2202, case 2, and RFC 4231, test case 2.
    #[test]
    fn codes_are_those_of_the_standards() {
        let key = AuthKey::new("Jefe").unwrap();
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        for (digest, code) in [
            (Digest::Md5, "750c783e6ab0b503eaa86e310a5db738"),
            (
                Digest::Sha256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Digest::Sha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e\
                 8e2240ca5e69e2c78b3239ecfab21649",
            ),
        ] {
            let signed = digest.sign(&key, &parts);
            assert_eq!(hex(&signed), code);
            assert!(digest.verify(&key, &parts, &signed));
            assert!(!digest.verify(&key, &parts[..1], &signed));
            assert!(!digest.verify(&key, &parts, &signed[1..]));
            assert!(!digest.verify(&AuthKey::new("Jeff").unwrap(), &parts, &signed));
            assert_eq!(Digest::named(digest.name().as_bytes()), Some(digest));
        }
        assert_eq!(Digest::named(b"crc32"), None);
    }
}
