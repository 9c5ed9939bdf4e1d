//! The handshake of `multiprocessing.connection`: each end challenges the other, the listener first.
//!
//! Since Python 3.12 a challenge begins with the name of a digest in braces, and so does an answer.
//! Before, there was but HMAC-MD5, and no name: a challenge is 20 bytes long then, an answer 16. The
//! code is always over all that follows `#CHALLENGE#`, so that a name cannot be taken out of it.

use super::mac::Digest;
use super::{Distrust, FAILURE, RANDOM, Role, Step};
use crate::connection::AuthKey;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";

/// The digest of the challenges that are made here.
const OURS: Digest = Digest::Sha256;

/// How long a challenge is at least, and exactly if it is one for HMAC-MD5.
const SHORTEST: usize = 20;
/// How long an answer is whose digest is not named.
const MD5_CODE: usize = 16;

/// One end.
#[derive(Debug)]
pub(in super::super) struct Python {
    role: Role,
    key: AuthKey,
    /// What the other end has to find the code of, when it is its turn.
    challenge: Vec<u8>,
    allows_md5: bool,
    awaits: Awaits,
}

/// What comes next from the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Answer,
    Challenge,
    Welcome,
    Nothing,
}

impl Python {
    pub(super) fn new(role: Role, key: AuthKey, random: [u8; RANDOM], allows_md5: bool) -> Self {
        let name = format!("{{{}}}", OURS.name());
        Self {
            role,
            key,
            challenge: [name.as_bytes(), &random].concat(),
            allows_md5,
            awaits: match role {
                Role::Listener => Awaits::Answer,
                Role::Client => Awaits::Challenge,
            },
        }
    }

    pub(super) fn opening(&self) -> Option<Vec<u8>> {
        (self.role == Role::Listener).then(|| self.challenge())
    }

    pub(super) fn hear(&mut self, message: &[u8]) -> Step {
        let awaited = std::mem::replace(&mut self.awaits, Awaits::Nothing);
        match (awaited, self.role) {
            (Awaits::Answer, role) => match (self.judge(message), role) {
                (Err(why), _) => Step::refuse(why),
                // Now it is the other one's turn to ask.
                (Ok(()), Role::Listener) => self.then(Awaits::Challenge, WELCOME.to_vec()),
                (Ok(()), Role::Client) => Step::proven(Some(WELCOME.to_vec())),
            },
            (Awaits::Challenge, _) => match self.answer(message) {
                Ok(answer) => self.then(Awaits::Welcome, answer),
                Err(why) => Step::leave(why),
            },
            (Awaits::Welcome, _) if message == FAILURE => Step::leave(Distrust::Rejected),
            (Awaits::Welcome, _) if message != WELCOME => {
                Step::leave(Distrust::Unexpected("a welcome"))
            }
            (Awaits::Welcome, Role::Listener) => Step::proven(None),
            (Awaits::Welcome, Role::Client) => {
                let challenge = self.challenge();
                self.then(Awaits::Answer, challenge)
            }
            (Awaits::Nothing, _) => Step::leave(Distrust::Unexpected("nothing")),
        }
    }

    fn then(&mut self, awaits: Awaits, say: Vec<u8>) -> Step {
        self.awaits = awaits;
        Step::say(say)
    }

    fn challenge(&self) -> Vec<u8> {
        [CHALLENGE, &self.challenge].concat()
    }

    /// Whether this answers the challenge.
    fn judge(&self, answer: &[u8]) -> Result<(), Distrust> {
        let (digest, code) = match answer.len() {
            MD5_CODE => (Digest::Md5, answer),
            _ => read_digest(answer, "an answer")?,
        };
        self.admit(digest)?;
        match digest.verify(&self.key, &[&self.challenge], code) {
            true => Ok(()),
            false => Err(Distrust::WrongAnswer),
        }
    }

    /// What the other end's challenge is to be answered.
    fn answer(&self, challenge: &[u8]) -> Result<Vec<u8>, Distrust> {
        const EXPECTED: &str = "a challenge";
        let message = challenge.strip_prefix(CHALLENGE).ok_or_else(|| {
            if challenge.starts_with(super::bound::GREETING) {
                return Distrust::OtherMode("Python");
            }
            Distrust::Unexpected(EXPECTED)
        })?;
        match message.len() {
            ..SHORTEST => Err(Distrust::Unexpected(EXPECTED)),
            SHORTEST => {
                self.admit(Digest::Md5)?;
                Ok(Digest::Md5.sign(&self.key, &[message]))
            }
            _ => {
                let (digest, _) = read_digest(message, EXPECTED)?;
                self.admit(digest)?;
                let name = format!("{{{}}}", digest.name());
                Ok([name.as_bytes(), &digest.sign(&self.key, &[message])].concat())
            }
        }
    }

    fn admit(&self, digest: Digest) -> Result<(), Distrust> {
        match digest {
            Digest::Md5 if !self.allows_md5 => Err(Distrust::Md5),
            _ => Ok(()),
        }
    }
}

/// The digest that is named at the beginning, and what follows the name.
fn read_digest<'a>(
    message: &'a [u8],
    expected: &'static str,
) -> Result<(Digest, &'a [u8]), Distrust> {
    /// No name is longer.
    const NAME: usize = 16;
    let unexpected = Distrust::Unexpected(expected);
    let named = message.strip_prefix(b"{").ok_or(unexpected.clone())?;
    let end = named.iter().take(NAME + 1).position(|&byte| byte == b'}');
    let (name, rest) = named.split_at(end.ok_or(unexpected)?);
    let digest = Digest::named(name)
        .ok_or_else(|| Distrust::UnknownDigest(name.escape_ascii().to_string()))?;
    Ok((digest, &rest[1..]))
}
