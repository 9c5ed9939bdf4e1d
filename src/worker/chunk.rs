//! A chunk: many items in one request, run one by one.
//!
//! Each item has a verdict of its own, which is visible before the next one is begun. So a death
//! costs the item that was running, and the parent can cut the chunk short behind it.

use std::io;
use std::sync::Arc;

use super::serve::{Desk, spoken};
use super::span::CallSpan;
use super::watch::Watcher;
use crate::sys::clock::Moment;
use crate::task::attached::Attached;
use crate::task::entry::{self, Argument, Sink, Verdict};
use crate::task::head::CallHead;
use crate::task::{context, items};
use crate::wire::frame::{Header, Kind};
use crate::wire::page::Step;

impl Desk {
    /// Runs a chunk whose first item has been begun.
    pub(super) fn answer_chunk(
        &self,
        request: Header,
        head: CallHead<'_>,
        mut rest: &[u8],
        (mut beside, started): (Attached, Moment),
        scratch: &mut Vec<u8>,
        watcher: &Watcher,
    ) -> io::Result<()> {
        let (mut item, mut begun) = (0, started);
        let name: Option<Arc<str>> = head.labels.name().map(Arc::from);
        loop {
            let Some((argument, others)) = items::split_first(rest) else {
                return self.refuse(request, "the request has fewer items than it says");
            };
            rest = others;
            let name = name.clone();
            let _runs = self.outbox.runs(request, request.call + u64::from(item));
            let span = CallSpan::new(&head, request.call + u64::from(item));
            let _span = span.enter();
            let _current = context::enter(self.running(request, &head, name, item, begun));
            let mut answer = ItemAnswer {
                desk: self,
                request,
                item,
                begun,
                step: Ok(Step::Ended),
            };
            let argument = Argument {
                bytes: argument,
                // An item that has descriptors is alone in its chunk.
                beside: std::mem::take(&mut beside),
            };
            if let Err(unknown) = entry::run(head.target, argument, scratch, &mut answer) {
                return self.refuse(request, &unknown.to_string());
            }
            match answer.step? {
                Step::Ended => return self.pass(request),
                Step::On if item + 1 < head.items && !self.term.is_over() => {}
                Step::On | Step::Last => break,
            }
            if request.short {
                // Should the next item be a long one after all, the watcher flushes.
                watcher.wake();
            } else {
                self.outbox.flush()?;
            }
            begun = Moment::now();
            if !self.page.next_item(request.ticket, item, begun) {
                break;
            }
            item += 1;
        }
        self.page.close(request.ticket, item);
        let done = (item + 1).to_le_bytes();
        let header = Header {
            kind: Kind::Returned,
            length: done.len(),
            time: started.until(Moment::now()).as_nanos() as u64,
            short: false,
            last: self.term.is_over(),
            beside: false,
            ..request
        };
        self.outbox.respond(header, &done, || true).map(|_| ())
    }
}

/// The response to one item.
struct ItemAnswer<'a> {
    desk: &'a Desk,
    request: Header,
    item: u32,
    begun: Moment,
    /// What became of it; *ended* until something has.
    step: io::Result<Step>,
}

impl Sink for ItemAnswer<'_> {
    fn publish(&mut self, verdict: Verdict<'_>) {
        let spoken = spoken(verdict, self.desk.max_frame);
        let ticket = self.request.ticket;
        let time = self.begun.until(Moment::now()).as_nanos() as u64;
        let header = Header {
            kind: spoken.kind,
            length: spoken.payload.len(),
            call: u64::from(self.item),
            time,
            short: false,
            part: true,
            last: self.desk.term.task_over(),
            beside: !spoken.beside.is_empty(),
            ..self.request
        };
        let mut step = Step::Ended;
        let claim = || {
            step = self.desk.page.finish_item(ticket, self.item);
            step != Step::Ended
        };
        let sent = self.desk.send_luggage(ticket, &spoken.beside);
        let respond = |()| self.desk.outbox.respond(header, &spoken.payload, claim);
        let sent = sent.and_then(respond);
        self.step = sent.map(|_| step);
    }
}
