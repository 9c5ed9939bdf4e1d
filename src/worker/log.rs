//! What is logged with `tracing` in a worker: events become records in the response stream, and are
//! logged again in the program.
//!
//! The subscriber here is a small one. It knows the spans that a task opens by their text alone, so
//! that an event can say inside of which it was.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, span};

use super::outbox::Outbox;
use super::watch::Watcher;
use crate::task::record::{Record, Site, Values, level_of};
use crate::wire::message::WorkerStart;

/// What is open around an event is told up to this length, in bytes.
const PATH: usize = 1024;

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Has what is logged from now on brought to the program, if that wants it. Comes after the
/// initializer: a subscriber that was set there stays.
pub(super) fn install(start: &WorkerStart, outbox: &Arc<Outbox>, watcher: &Watcher) {
    if start.log_level == 0 {
        return;
    }
    let messenger = Messenger {
        outbox: outbox.clone(),
        level: level_of(start.log_level).into(),
        spans: Mutex::default(),
        next: AtomicU64::new(1),
    };
    if tracing::subscriber::set_global_default(messenger).is_ok() {
        outbox.take_records(watcher.clone());
    }
}

/// Brings events to the program.
struct Messenger {
    outbox: Arc<Outbox>,
    level: LevelFilter,
    spans: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
}

/// A span.
struct Open {
    /// It and those around it.
    path: String,
    handles: usize,
}

impl Messenger {
    fn spans(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        // Values are written down before, so no code of the user runs under it.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is open around something of this parent.
    fn path(&self, parent: Option<&Id>, contextual: bool) -> String {
        let id = match parent {
            Some(id) => Some(id.into_u64()),
            None if contextual => innermost(),
            None => None,
        };
        let spans = self.spans();
        let open = id.and_then(|id| spans.get(&id));
        open.map_or_else(String::new, |open| open.path.clone())
    }
}

impl Subscriber for Messenger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let mut path = self.path(attributes.parent(), attributes.is_contextual());
        // The call's own span is one of the program, too: there it stands around everything.
        if metadata.target() != "procpool" {
            if !path.is_empty() {
                path.push(':');
            }
            path.push_str(metadata.name());
            let mut values = Listed(String::new());
            attributes.record(&mut values);
            if !values.0.is_empty() {
                let _ = write!(path, "{{{}}}", values.0);
            }
            cut(&mut path);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Open { path, handles: 1 };
        self.spans().insert(id, open);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, record: &span::Record<'_>) {
        let mut values = Listed(String::new());
        record.record(&mut values);
        if let Some(open) = self.spans().get_mut(&id.into_u64()) {
            let _ = write!(open.path, "{{{}}}", values.0);
            cut(&mut open.path);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut values = Values::of(metadata.fields().len());
        event.record(&mut values);
        let record = Record {
            site: Site::of(metadata),
            values: values.taken,
            spans: self.path(event.parent(), event.is_contextual()).into(),
        };
        if let Ok(bytes) = postcard::to_stdvec(&record) {
            self.outbox.log(&bytes);
        }
    }

    fn enter(&self, id: &Id) {
        // A thread that ends has nothing to keep.
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            let last = entered.iter().rposition(|known| *known == id.into_u64());
            last.map(|position| entered.remove(position))
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(open) = self.spans().get_mut(&id.into_u64()) {
            open.handles += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.spans();
        let Some(open) = spans.get_mut(&id.into_u64()) else {
            return false;
        };
        open.handles -= 1;
        let closed = open.handles == 0;
        if closed {
            spans.remove(&id.into_u64());
        }
        closed
    }
}

/// The span that this thread is in.
fn innermost() -> Option<u64> {
    let last = ENTERED.try_with(|entered| entered.borrow().last().copied());
    last.ok().flatten()
}

/// Values as a list in one text.
struct Listed(String);

impl Visit for Listed {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.list(field, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.list(field, format_args!("{value:?}"));
    }
}

impl Listed {
    fn list(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let between = if self.0.is_empty() { "" } else { " " };
        // Into a text nothing fails but a value's own code, and then this much is told.
        let _ = write!(self.0, "{between}{field}={value}");
    }
}

fn cut(path: &mut String) {
    let end = (0..=PATH.min(path.len()))
        .rev()
        .find(|end| path.is_char_boundary(*end));
    path.truncate(end.unwrap_or(0));
}
