//! The crate's own handshake: both codes are over both ends' random numbers, and over who signs, so
//! that no answer is of use in another place. The client proves itself first.
//!
//! ```text
//!   listener: "#PROCPOOL-AUTH-1#" | nonce of the listener, 32 bytes
//!   client:   nonce of the client, 32 bytes | code, 32 bytes
//!   listener: code, 32 bytes
//!   code:     HMAC-SHA-256 over "#PROCPOOL-AUTH-1#" | role, 1 byte | both nonces, the listener's first
//! ```

use super::mac::Digest;
use super::{Distrust, FAILURE, RANDOM, Role, Step};
use crate::connection::AuthKey;

/// Begins what the listener says first, and names the version of all this.
pub(super) const GREETING: &[u8] = b"#PROCPOOL-AUTH-1#";

const NONCE: usize = 32;
const CODE: usize = 32;

/// One end.
#[derive(Debug)]
pub(in super::super) struct Bound {
    role: Role,
    key: AuthKey,
    own: [u8; NONCE],
    awaits: Awaits,
}

/// What comes next from the other end.
#[derive(Clone, Copy, Debug)]
enum Awaits {
    Greeting,
    Proof,
    Code { listener: [u8; NONCE] },
    Nothing,
}

impl Bound {
    pub(super) fn new(role: Role, key: AuthKey, random: [u8; RANDOM]) -> Self {
        let (own, _) = random.split_first_chunk().expect("more than is needed");
        Self {
            role,
            key,
            own: *own,
            awaits: match role {
                Role::Listener => Awaits::Proof,
                Role::Client => Awaits::Greeting,
            },
        }
    }

    pub(super) fn opening(&self) -> Option<Vec<u8>> {
        (self.role == Role::Listener).then(|| [GREETING, &self.own].concat())
    }

    pub(super) fn hear(&mut self, message: &[u8]) -> Step {
        match std::mem::replace(&mut self.awaits, Awaits::Nothing) {
            Awaits::Greeting => self.hear_greeting(message),
            Awaits::Proof => self.hear_proof(message),
            Awaits::Code { listener } => self.hear_code(&listener, message),
            Awaits::Nothing => Step::leave(Distrust::Unexpected("nothing")),
        }
    }

    fn hear_greeting(&mut self, message: &[u8]) -> Step {
        let Some(listener) = message.strip_prefix(GREETING) else {
            return Step::leave(Distrust::OtherMode("Procpool"));
        };
        let Ok(listener) = listener.try_into() else {
            return Step::leave(Distrust::Unexpected("a greeting"));
        };
        self.awaits = Awaits::Code { listener };
        let code = self.sign(Role::Client, &listener, &self.own);
        Step::say([&self.own[..], &code].concat())
    }

    fn hear_proof(&mut self, message: &[u8]) -> Step {
        let Some((client, code)) = message.split_first_chunk() else {
            return Step::refuse(Distrust::Unexpected("a proof"));
        };
        if code.len() != CODE {
            return Step::refuse(Distrust::Unexpected("a proof"));
        }
        if !self.verify(Role::Client, &self.own, client, code) {
            return Step::refuse(Distrust::WrongAnswer);
        }
        Step::proven(Some(self.sign(Role::Listener, &self.own, client)))
    }

    fn hear_code(&mut self, listener: &[u8; NONCE], code: &[u8]) -> Step {
        if code == FAILURE {
            return Step::leave(Distrust::Rejected);
        }
        match self.verify(Role::Listener, listener, &self.own, code) {
            true => Step::proven(None),
            false => Step::leave(Distrust::WrongAnswer),
        }
    }

    fn sign(&self, signer: Role, listener: &[u8; NONCE], client: &[u8; NONCE]) -> Vec<u8> {
        Digest::Sha256.sign(&self.key, &[GREETING, name(signer), listener, client])
    }

    fn verify(
        &self,
        signer: Role,
        listener: &[u8; NONCE],
        client: &[u8; NONCE],
        code: &[u8],
    ) -> bool {
        let parts = [GREETING, name(signer), listener, client];
        Digest::Sha256.verify(&self.key, &parts, code)
    }
}

/// A role in what is signed.
fn name(role: Role) -> &'static [u8] {
    match role {
        Role::Listener => b"L",
        Role::Client => b"C",
    }
}
