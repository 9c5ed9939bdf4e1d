//! What a task has logged with `tracing`, as it travels to the program.

use std::borrow::Cow;
use std::fmt::{self, Debug, Write};

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};

/// No record has more fields; `tracing` itself knows a limit of that kind.
pub(crate) const FIELDS: usize = 32;
/// So many bytes of text are kept of the fields of one record.
const TEXT: usize = 8 * 1024;

/// One event.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    /// Where it comes from.
    #[serde(borrow)]
    pub(crate) site: Site<'a>,
    /// What it says: the values of the site's fields, in their order; nothing for those that it
    /// has left out.
    #[serde(borrow)]
    pub(crate) values: Vec<Value<'a>>,
    /// The spans that were open around it in the worker, from the outermost.
    pub(crate) spans: Cow<'a, str>,
}

impl Record<'_> {
    /// Whether it has a value for each of not too many fields.
    pub(crate) fn is_sound(&self) -> bool {
        let fields = self.site.fields.len();
        fields <= FIELDS && self.values.len() == fields
    }
}

/// A place in the program that logs. There are only so many of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Site<'a> {
    /// Its name, which `tracing` makes of file and line.
    pub(crate) name: &'a str,
    /// Its target.
    pub(crate) target: &'a str,
    /// Its level, one for errors.
    pub(crate) level: u8,
    /// The source file.
    pub(crate) file: Option<&'a str>,
    /// The line there.
    pub(crate) line: Option<u32>,
    /// The module.
    pub(crate) module: Option<&'a str>,
    /// The names of its fields.
    #[serde(borrow)]
    pub(crate) fields: Vec<&'a str>,
}

/// The value of a field. Numbers stay numbers, for who counts with them; what has no other form
/// comes as the text that its `Debug` gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value<'a> {
    Nothing,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
    Debug(#[serde(borrow)] Cow<'a, str>),
}

impl Site<'static> {
    /// That of an event of this process.
    pub(crate) fn of(metadata: &'static Metadata<'static>) -> Self {
        let names = metadata.fields().iter().take(FIELDS);
        Self {
            name: metadata.name(),
            target: metadata.target(),
            level: number_of(*metadata.level()),
            file: metadata.file(),
            line: metadata.line(),
            module: metadata.module_path(),
            fields: names.map(|field| field.name()).collect(),
        }
    }
}

/// Takes down the values of a site's fields.
#[derive(Debug)]
pub(crate) struct Values {
    pub(crate) taken: Vec<Value<'static>>,
    room: usize,
}

impl Values {
    pub(crate) fn of(fields: usize) -> Self {
        Self {
            taken: vec![Value::Nothing; fields.min(FIELDS)],
            room: TEXT,
        }
    }

    fn take(&mut self, field: &Field, value: Value<'static>) {
        if let Some(place) = self.taken.get_mut(field.index()) {
            *place = value;
        }
    }

    fn text(&mut self, text: &dyn fmt::Display) -> Cow<'static, str> {
        let mut short = Shortened {
            text: String::new(),
            room: self.room,
        };
        // Cut off, or what its author's code says: what is there by then is what is told.
        let _ = write!(short, "{text}");
        self.room = short.room;
        short.text.into()
    }
}

impl Visit for Values {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = self.text(&value);
        self.take(field, Value::Text(text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = self.text(&format_args!("{value:?}"));
        self.take(field, Value::Debug(text));
    }
}

/// A text that takes no more than it has room for; the rest is dropped as it is made.
struct Shortened {
    text: String,
    room: usize,
}

impl fmt::Write for Shortened {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let fits = piece.len() <= self.room;
        let end = (0..=self.room.min(piece.len()))
            .rev()
            .find(|end| piece.is_char_boundary(*end));
        let end = end.unwrap_or(0);
        self.text.push_str(&piece[..end]);
        self.room -= end;
        if fits {
            Ok(())
        } else {
            self.text.push('…');
            self.room = 0;
            Err(fmt::Error)
        }
    }
}

/// A level as a number: one for errors, five for traces.
pub(crate) fn number_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The level of that number.
pub(crate) fn level_of(number: u8) -> Level {
    match number {
        0 | 1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    }
}

/// Up to which level anybody in this process wants to hear; zero for nobody.
pub(crate) fn level_heard() -> u8 {
    LevelFilter::current().into_level().map_or(0, number_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_the_level_of_its_number() {
        for number in 1..=5 {
            assert_eq!(number_of(level_of(number)), number);
        }
    }

    #[test]
    fn a_record_has_room_for_so_much_text_and_no_more() {
        let mut values = Values::of(2);
        let long = "ö".repeat(TEXT);
        let text = values.text(&long);
        assert!(text.len() <= TEXT + '…'.len_utf8() && text.ends_with("ö…"));
        assert_eq!(values.text(&"more"), "…");
        assert_eq!(values.text(&""), "");
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let record = Record {
            site: Site {
                name: "event src/main.rs:3",
                target: "program::part",
                level: 3,
                file: Some("src/main.rs"),
                line: Some(3),
                module: None,
                fields: vec!["message", "count"],
            },
            values: vec![Value::Debug("hello".into()), Value::Unsigned(7)],
            spans: "outer:inner".into(),
        };
        let bytes = postcard::to_stdvec(&record).unwrap();
        assert_eq!(postcard::from_bytes::<Record<'_>>(&bytes).unwrap(), record);
    }
}
