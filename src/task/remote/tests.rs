//! Errors that become texts, and what is left of them at the other end.

use super::*;
use crate::task::payload::{decode, encode};

/// As many errors as it says, each the source of the one before.
#[derive(Debug)]
struct Nested(u32, Option<Box<Nested>>);

impl fmt::Display for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {}", self.0)
    }
}

impl Error for Nested {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|nested| nested as _)
    }
}

fn nested(levels: u32) -> Nested {
    (0..levels).fold(Nested(levels, None), |inner, nth| {
        Nested(levels - nth - 1, Some(Box::new(inner)))
    })
}

fn without_backtrace(error: RemoteError) -> RemoteError {
    let texts = error.chain().map(str::to_owned).collect();
    RemoteError::of_texts(texts, None).unwrap()
}

fn there_and_back(error: &RemoteError) -> RemoteError {
    let mut bytes = Vec::new();
    encode(error, &mut bytes).unwrap();
    decode(&bytes).unwrap()
}

#[test]
fn the_question_mark_takes_every_error_with_its_sources() {
    fn fails() -> Result<(), RemoteError> {
        Err(nested(2))?;
        Ok(())
    }
    let error = fails().unwrap_err();
    let texts: Vec<_> = error.chain().collect();
    assert_eq!(texts, ["level 0", "level 1", "level 2"]);
    assert_eq!(there_and_back(&error), error);
}

#[test]
fn it_shows_its_message_its_chain_or_all_of_it() {
    let error = without_backtrace(RemoteError::from(nested(1)).context("outside"));
    assert_eq!(error.to_string(), "outside");
    assert_eq!(format!("{error:#}"), "outside: level 0: level 1");
    let lines = "outside\n\nCaused by:\n    0: level 0\n    1: level 1";
    assert_eq!(format!("{error:?}"), lines);
}

#[test]
fn as_an_error_it_has_sources_and_shows_the_same() {
    let error = without_backtrace(RemoteError::from(nested(1)));
    let source = error.as_error().source().unwrap();
    assert_eq!(source.to_string(), "level 1");
    assert!(source.source().is_none());
    let boxed: Box<dyn Error + Send + Sync> = error.clone().into();
    assert_eq!(format!("{boxed:?}"), format!("{error:?}"));
    assert_eq!(without_backtrace(RemoteError::from_dyn(&*boxed)), error);
}

#[test]
fn a_backtrace_travels_along_and_stays_with_the_outermost() {
    let made = RemoteError::of_texts(vec!["text".to_owned()], Some("frames".into())).unwrap();
    let error = there_and_back(&made).context("outside");
    assert_eq!(error.backtrace(), Some("frames"));
    let shown = format!("{error:?}");
    assert!(
        shown.ends_with("\n\nBacktrace in the worker:\nframes"),
        "{shown}"
    );
}

#[test]
fn an_endless_chain_and_a_huge_text_are_cut_off() {
    let error = RemoteError::from(nested(1_000));
    assert_eq!(error.chain().count(), LINKS);
    assert_eq!(there_and_back(&error), error);
    assert_eq!(error.context("one more").chain().count(), LINKS);
    let long = RemoteError::msg("ä".repeat(MESSAGE));
    assert_eq!(long.message().len(), MESSAGE);
}

#[test]
fn bytes_without_a_text_are_no_error_value() {
    let mut bytes = Vec::new();
    encode(&(Vec::<String>::new(), None::<String>), &mut bytes).unwrap();
    let error = decode::<RemoteError>(&bytes).unwrap_err();
    assert_eq!(error.reason(), "an error without a text");
}
