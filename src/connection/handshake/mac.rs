//! Message authentication codes: what can only be made, and be found right, by whoever has the key.

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

#[cfg(test)]
mod tests {
    use super::*;

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
