//! Events of workers, logged again in this process.
//!
//! `tracing` knows an event by its callsite, which is static and says where in the source it stands.
//! Those of a worker stand in the same program, but which of them spoke is told by another process,
//! and what that says is not taken for an address. So each place that logs gets a callsite of its
//! own here, made when it is first heard of and kept for good: as many as there are in the program,
//! and no more than so many if a worker has lost its mind.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use tracing::callsite::{self, Callsite, Identifier};
use tracing::field::{self, DebugValue, FieldSet};
use tracing::metadata::{Kind, Metadata};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Id};

use crate::task::record::{FIELDS, Record, Site, Value, level_of};

/// How many callsites are made.
const MOST: usize = 4_096;
/// How many bytes of text they have together.
const MOST_TEXT: usize = 1 << 20;
/// Beside the fields of the event itself: the spans that were open around it there.
const SPANS: &str = "task.spans";

/// The callsite of all that has none of its own.
const GENERAL: &str = "event of a worker";
const GENERAL_TARGET: &str = "procpool::worker";

/// Logs an event again, inside of that span.
pub(super) fn replay(record: &Record<'_>, dispatch: &Dispatch, parent: Option<Id>) {
    let Some(place) = place_of(&record.site) else {
        return replay_as_text(record, dispatch, parent);
    };
    if place.never.load(Ordering::Relaxed) || !dispatch.enabled(place.metadata()) {
        return;
    }
    let fields = place.metadata().fields();
    let names: Vec<_> = fields.iter().collect();
    let mut values: Vec<_> = record.values.iter().map(Held::of).collect();
    values.push(match &*record.spans {
        "" => Held::Nothing,
        spans => Held::Text(spans),
    });
    // An array of one length for all: what is left over repeats a field, without a value.
    let set: [_; FIELDS + 1] = std::array::from_fn(|at| {
        let value = values.get(at).and_then(Held::value);
        (names.get(at).unwrap_or(&names[0]), value)
    });
    let set = fields.value_set(&set);
    dispatch.event(&Event::new_child_of(parent, place.metadata(), &set));
}

/// Where there are too many callsites already: one for all, and the event as a text.
fn replay_as_text(record: &Record<'_>, dispatch: &Dispatch, parent: Option<Id>) {
    let mut text = String::new();
    for (name, value) in record.site.fields.iter().zip(&record.values) {
        let held = Held::of(value);
        if held.value().is_some() {
            text += &format!("{name}={held:?} ");
        }
    }
    let general = Site {
        name: GENERAL,
        target: GENERAL_TARGET,
        level: record.site.level,
        file: None,
        line: None,
        module: None,
        fields: vec!["message", "target"],
    };
    let values = vec![
        Value::Debug(text.trim_end().into()),
        Value::Text(record.site.target.into()),
    ];
    let general = Record {
        site: general,
        values,
        spans: (&*record.spans).into(),
    };
    if place_of(&general.site).is_some() {
        replay(&general, dispatch, parent);
    }
}

/// A place of a worker's program that logs.
#[derive(Debug)]
struct Place {
    metadata: OnceLock<Metadata<'static>>,
    /// Nobody wants to hear of it.
    never: AtomicBool,
}

impl Callsite for Place {
    fn set_interest(&self, interest: Interest) {
        self.never.store(interest.is_never(), Ordering::Relaxed);
    }

    fn metadata(&self) -> &Metadata<'_> {
        self.known()
    }
}

impl Place {
    fn known(&self) -> &Metadata<'static> {
        self.metadata.get().expect("set before anybody sees it")
    }

    fn metadata(&'static self) -> &'static Metadata<'static> {
        self.known()
    }
}

#[derive(Debug, Default)]
struct Places {
    known: HashMap<Site<'static>, &'static Place>,
    text: usize,
}

static PLACES: LazyLock<Mutex<Places>> = LazyLock::new(Mutex::default);

fn place_of(site: &Site<'_>) -> Option<&'static Place> {
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let known: &HashMap<Site<'_>, _> = &places.known;
    if let Some(place) = known.get(site) {
        return Some(place);
    }
    // A level has one place for all that find no room.
    // One for each level, whatever a worker calls its own.
    let general = (site.name, site.target) == (GENERAL, GENERAL_TARGET)
        && site.file.is_none()
        && site.line.is_none()
        && site.module.is_none()
        && site.fields == ["message", "target"];
    let text = site.length();
    if !general && (places.known.len() >= MOST || places.text + text > MOST_TEXT) {
        return None;
    }
    let site = site.kept();
    let place = make(&site);
    places.text += text;
    places.known.insert(site, place);
    drop(places);
    // Asks the subscribers, who may do anything.
    callsite::register(place);
    Some(place)
}

fn make(site: &Site<'static>) -> &'static Place {
    let place: &'static Place = Box::leak(Box::new(Place {
        metadata: OnceLock::new(),
        never: AtomicBool::new(false),
    }));
    let names = site.fields.iter().copied().chain([SPANS]);
    let names: Vec<&'static str> = names.collect();
    let metadata = Metadata::new(
        site.name,
        site.target,
        level_of(site.level),
        site.file,
        site.line,
        site.module,
        FieldSet::new(names.leak(), Identifier(place)),
        Kind::EVENT,
    );
    place.metadata.get_or_init(|| metadata);
    place
}

impl Site<'_> {
    fn length(&self) -> usize {
        let texts = [Some(self.name), Some(self.target), self.file, self.module];
        let texts = texts
            .into_iter()
            .flatten()
            .chain(self.fields.iter().copied());
        texts.map(str::len).sum()
    }

    /// A copy that stays for good.
    fn kept(&self) -> Site<'static> {
        let keep = |text: &str| -> &'static str { text.to_owned().leak() };
        Site {
            name: keep(self.name),
            target: keep(self.target),
            level: self.level,
            file: self.file.map(keep),
            line: self.line,
            module: self.module.map(keep),
            fields: self.fields.iter().map(|name| keep(name)).collect(),
        }
    }
}

/// A value in the form in which it is handed to the subscriber.
#[derive(Debug)]
enum Held<'a> {
    Nothing,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
    Debug(DebugValue<AsIs<'a>>),
}

/// A text that was made by a `Debug` elsewhere.
struct AsIs<'a>(&'a str);

impl fmt::Debug for AsIs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'a> Held<'a> {
    fn of(value: &'a Value<'a>) -> Self {
        match value {
            Value::Nothing => Self::Nothing,
            Value::Bool(value) => Self::Bool(*value),
            Value::Signed(value) => Self::Signed(*value),
            Value::Unsigned(value) => Self::Unsigned(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Text(text) => Self::Text(text),
            Value::Debug(text) => Self::Debug(field::debug(AsIs(text))),
        }
    }

    fn value(&self) -> Option<&dyn tracing::Value> {
        Some(match self {
            Self::Nothing => return None,
            Self::Bool(value) => value,
            Self::Signed(value) => value,
            Self::Unsigned(value) => value,
            Self::Float(value) => value,
            Self::Text(text) => text,
            Self::Debug(text) => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str, line: u32) -> Site<'_> {
        Site {
            name,
            target: "tests",
            level: 3,
            file: Some("src/tests.rs"),
            line: Some(line),
            module: None,
            fields: vec!["message"],
        }
    }

    #[test]
    fn one_place_has_one_callsite_and_there_is_an_end_to_their_number() {
        let first = place_of(&site("first", 1)).unwrap();
        assert!(std::ptr::eq(first, place_of(&site("first", 1)).unwrap()));
        let metadata = first.known();
        assert_eq!((metadata.target(), metadata.line()), ("tests", Some(1)));
        let others = (2..=2 * MOST as u32).map_while(|line| place_of(&site("other", line)));
        assert!(others.count() < MOST);
        assert!(std::ptr::eq(first, place_of(&site("first", 1)).unwrap()));
        let general = Site {
            name: GENERAL,
            target: GENERAL_TARGET,
            level: 1,
            file: None,
            line: None,
            module: None,
            fields: vec!["message", "target"],
        };
        assert!(place_of(&general).is_some());
    }
}
