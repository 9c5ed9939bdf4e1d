//! A layer that keeps all that it is told, to be looked at.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// All that was told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Collected {
    spans: Vec<Span>,
    events: Vec<Event>,
}

/// A span, with what was recorded of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Span {
    /// No other has it.
    pub id: u64,
    /// As `tracing` knows it; another has it when this one is closed.
    pub raw: u64,
    pub name: String,
    pub target: String,
    pub parent: Option<u64>,
    pub closed: bool,
    fields: Vec<(String, String)>,
}

/// An event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub target: String,
    level: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub parent: Option<u64>,
    /// What was known by then of the span that it is inside of.
    around: Vec<(String, String)>,
    fields: Vec<(String, String)>,
}

static COLLECTED: Mutex<Collected> = Mutex::new(Collected {
    spans: Vec::new(),
    events: Vec::new(),
});

/// What was told so far.
pub fn collected() -> MutexGuard<'static, Collected> {
    COLLECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on everything up to that level is kept, in this process.
pub fn listen(level: Level) {
    let registry = tracing_subscriber::registry();
    let registry = registry.with(Collector).with(LevelFilter::from(level));
    tracing::subscriber::set_global_default(registry).expect("nobody listens yet");
}

impl Collected {
    /// Forgets all that is over.
    pub fn clear(&mut self) {
        self.events.clear();
        self.spans.retain(|span| !span.closed);
    }

    fn open(&mut self, id: u64) -> &mut Span {
        let span = self.spans.iter_mut().rfind(|span| span.id == id);
        span.expect("what is open is not forgotten")
    }

    /// The last span of that name.
    pub fn named(&self, name: &str) -> Span {
        self.spans_named(name).pop().expect("it was made")
    }

    /// The first event of that target.
    pub fn event(&self, target: &str) -> Option<Event> {
        self.events(target).into_iter().next()
    }

    /// The events of that target.
    pub fn events(&self, target: &str) -> Vec<Event> {
        let events = self.events.iter().filter(|event| event.target == target);
        events.cloned().collect()
    }

    /// The last span one of whose fields has that value.
    pub fn span(&self, field: &str, value: &str) -> Option<Span> {
        let has = |span: &&Span| find(&span.fields, field) == Some(value);
        self.spans.iter().rev().find(has).cloned()
    }

    /// All spans of a name.
    pub fn spans_named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans.iter().filter(|span| span.name == name);
        spans.cloned().collect()
    }
}

impl Span {
    /// What was recorded of a field last.
    pub fn field(&self, name: &str) -> &str {
        find(&self.fields, name).unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }
}

impl Event {
    /// What it says in a field.
    pub fn field(&self, name: &str) -> &str {
        self.find(name)
            .unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    /// The same, if there is that field.
    pub fn find(&self, name: &str) -> Option<&str> {
        find(&self.fields, name)
    }

    /// What was known when it was told of a field of the span that it is inside of.
    pub fn around(&self, name: &str) -> Option<&str> {
        find(&self.around, name)
    }

    pub fn level(&self) -> Level {
        self.level.parse().expect("it was one")
    }
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().rev().find(|(known, _)| known == name);
    found.map(|(_, value)| &**value)
}

/// Texts as they are, numbers as numbers.
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.to_string(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.to_string(), value.to_owned()));
    }
}

struct Collector;

/// A span's own number.
struct Number(u64);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        static SPANS: AtomicU64 = AtomicU64::new(1);
        let number = SPANS.fetch_add(1, Ordering::Relaxed);
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = context.span(id).expect("it is new");
        span.extensions_mut().insert(Number(number));
        let parent = span.parent().as_ref().map(number_of);
        let metadata = attributes.metadata();
        collected().spans.push(Span {
            id: number,
            raw: id.into_u64(),
            name: metadata.name().to_owned(),
            target: metadata.target().to_owned(),
            parent,
            closed: false,
            fields: fields.0,
        });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        record.record(&mut fields);
        let number = number_of(&context.span(id).expect("it is open"));
        collected().open(number).fields.extend(fields.0);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let parent = context.event_span(event).as_ref().map(number_of);
        let mut collected = collected();
        let around = parent.map(|parent| collected.open(parent).fields.clone());
        collected.events.push(Event {
            target: metadata.target().to_owned(),
            level: metadata.level().to_string(),
            file: metadata.file().map(str::to_owned),
            line: metadata.line(),
            parent,
            around: around.unwrap_or_default(),
            fields: fields.0,
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let number = number_of(&context.span(&id).expect("it is still there"));
        collected().open(number).closed = true;
    }
}

fn number_of<'a, S: LookupSpan<'a>>(span: &tracing_subscriber::registry::SpanRef<'a, S>) -> u64 {
    span.extensions().get::<Number>().expect("each has one").0
}
