//! How two ends prove to each other that they have the same key: messages in, messages out, and a
//! verdict. It does no I/O, asks nobody for randomness and does not know what time it is.
//!
//! ```text
//!    Python                                        Procpool
//!    listener              client                  listener                    client
//!      #CHALLENGE#message ──▶                        #PROCPOOL-AUTH-1#nonce ──────▶
//!      ◀── code of the message                       ◀── nonce, code of role and nonces
//!      #WELCOME# ──▶                                 code of role and nonces ──▶
//!      ◀── #CHALLENGE#message
//!      code of the message ──▶
//!      ◀── #WELCOME#
//! ```

mod bound;
mod mac;
mod python;

use thiserror::Error;

use self::bound::Bound;
use self::python::Python;
use super::authkey::{AuthKey, AuthMode};

/// The longest message before both are sure of each other; more is not read.
pub(super) const LONGEST: usize = 256;

/// How many bytes of randomness one end needs.
pub(super) const RANDOM: usize = 40;

/// What is said instead of going on.
const FAILURE: &[u8] = b"#FAILURE#";

/// Which of the two ends this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Listener,
    Client,
}

/// One end's half of the conversation.
#[derive(Debug)]
pub(super) enum Handshake {
    Python(Python),
    Bound(Bound),
}

impl Handshake {
    /// Begins, with randomness that was never used before.
    pub(super) fn new(role: Role, mode: AuthMode, key: AuthKey, random: [u8; RANDOM]) -> Self {
        match mode {
            AuthMode::Python => Self::Python(Python::new(role, key, random, false)),
            AuthMode::PythonMd5 => Self::Python(Python::new(role, key, random, true)),
            AuthMode::Procpool => Self::Bound(Bound::new(role, key, random)),
        }
    }

    /// What is to be said before anything was heard.
    pub(super) fn opening(&self) -> Option<Vec<u8>> {
        match self {
            Self::Python(python) => python.opening(),
            Self::Bound(bound) => bound.opening(),
        }
    }

    /// Takes a message, and tells what is to be done. After a verdict nothing more is taken.
    pub(super) fn hear(&mut self, message: &[u8]) -> Step {
        match self {
            Self::Python(python) => python.hear(message),
            Self::Bound(bound) => bound.hear(message),
        }
    }
}

/// What follows from a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Is to be said, also where this is the end.
    pub(super) say: Option<Vec<u8>>,
    /// Whether this is the end: both have proved themselves, or one has not.
    pub(super) verdict: Option<Result<(), Distrust>>,
}

impl Step {
    fn say(message: Vec<u8>) -> Self {
        Self {
            say: Some(message),
            verdict: None,
        }
    }

    fn proven(last: Option<Vec<u8>>) -> Self {
        Self {
            say: last,
            verdict: Some(Ok(())),
        }
    }

    /// Leaves without a word.
    fn leave(why: Distrust) -> Self {
        Self {
            say: None,
            verdict: Some(Err(why)),
        }
    }

    /// Says that the answer was wrong.
    fn refuse(why: Distrust) -> Self {
        Self {
            say: Some(FAILURE.to_vec()),
            verdict: Some(Err(why)),
        }
    }
}

/// Why the other end is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Distrust {
    #[error("the other end does not have the same authkey")]
    WrongAnswer,
    #[error("the other end says that this one does not have the same authkey")]
    Rejected,
    #[error("the other end sent something else than {0}")]
    Unexpected(&'static str),
    #[error("the other end wants a digest that is not known here: {0}")]
    UnknownDigest(String),
    #[error(
        "the other end wants HMAC-MD5, as Python before 3.12 does; AuthMode::PythonMd5 allows that"
    )]
    Md5,
    #[error("the other end proves its authkey in another way than AuthMode::{0}")]
    OtherMode(&'static str),
}

#[cfg(test)]
mod tests;
