//! One async call in a room.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::room::Shared;
use super::serve::spoken;
use super::span::CallSpan;
use crate::sys::clock::Moment;
use crate::task::attached::Attached;
use crate::task::context::{self, TaskContext};
use crate::task::entry::{self, Argument, Begun, Sink, Verdict};
use crate::task::head::{CallHead, Labels};
use crate::task::identity::Target;
use crate::wire::frame::Header;

/// An async call, from its arrival to its end. Dropped before that, it says that it is no more.
pub(super) struct Guest {
    shared: Rc<Shared>,
    request: Header,
    target: Target,
    attempt: u32,
    soft_timeout: Option<Duration>,
    deadline: Option<Moment>,
    name: Option<Arc<str>>,
    span: CallSpan,
    /// Encoded, until it is begun.
    argument: Vec<u8>,
    /// What came with that.
    beside: Attached,
    begun: Option<Running>,
    /// Nothing is to be said of it any more.
    over: bool,
}

/// A call that has been begun.
struct Running {
    since: Moment,
    context: TaskContext,
    /// `None` when it is over at once.
    call: Option<Box<dyn Begun>>,
}

impl Guest {
    pub(super) fn new(
        shared: Rc<Shared>,
        request: Header,
        head: &CallHead<'_>,
        argument: Argument<'_>,
    ) -> Self {
        Self {
            shared,
            request,
            target: head.target,
            attempt: head.attempt,
            soft_timeout: head.soft_timeout,
            deadline: head.deadline,
            name: head.labels.name().map(Arc::from),
            span: CallSpan::new(head, request.call),
            argument: argument.bytes.to_vec(),
            beside: argument.beside,
            begun: None,
            over: false,
        }
    }

    /// Begins the call if it is still ours.
    fn begin(&mut self) -> bool {
        let desk = &self.shared.desk;
        if !desk.term.allows_one_more(self.shared.under_way.get()) {
            // The parent takes back what we do not begin.
            self.over = true;
            return false;
        }
        let since = Moment::now();
        if !desk.page.begin(self.request.ticket, since) {
            return false;
        }
        self.shared.count(1);
        if let Err(error) = desk.acknowledge(self.request) {
            self.shared.answered(Err(error));
        }
        let head = CallHead {
            target: self.target,
            attempt: self.attempt,
            items: 0,
            soft_timeout: self.soft_timeout,
            deadline: self.deadline,
            labels: Labels::None,
        };
        let running = desk.running(self.request, &head, self.name.take(), 0, since);
        self.begun = Some(Running {
            since,
            context: TaskContext::of(running),
            call: None,
        });
        true
    }
}

impl Future for Guest {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let first = this.begun.is_none();
        if first && !this.begin() {
            return Poll::Ready(());
        }
        let Some(running) = &mut this.begun else {
            return Poll::Ready(());
        };
        let _runs = this
            .shared
            .desk
            .outbox
            .runs(this.request, this.request.call);
        let _span = this.span.enter();
        let _current = context::enter_again(&running.context);
        let shared = this.shared.clone();
        let scratch = &mut *shared.scratch.borrow_mut();
        let mut voice = Voice {
            shared: &shared,
            request: this.request,
            since: running.since,
            spoken: false,
            call: None,
        };
        if first {
            let bytes = std::mem::take(&mut this.argument);
            let argument = Argument {
                bytes: &bytes,
                beside: std::mem::take(&mut this.beside),
            };
            if let Err(unknown) = entry::run(this.target, argument, scratch, &mut voice) {
                shared.answered(shared.desk.refuse(this.request, &unknown.to_string()));
                voice.spoken = true;
            }
            running.call = voice.call.take();
        }
        let over = match &mut running.call {
            Some(call) => call.poll(context, scratch, &mut voice).is_ready(),
            None => true,
        };
        this.over = voice.spoken;
        if over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(running) = self.begun.take() {
            // What it has in hand may ask which task it is in.
            let outbox = self.shared.desk.outbox.clone();
            let runs = outbox.runs(self.request, self.request.call);
            let span = self.span.enter();
            let current = context::enter_again(&running.context);
            drop(running.call);
            drop(current);
            running.context.run_is_over();
            drop((span, runs));
            self.shared.count(-1);
            if !self.over {
                self.shared.desk.term.task_over();
            }
        }
        // Where it is still the parent's to have, the worker is going, and it is lost with that.
        if !self.over && self.shared.desk.page.is_given_up(self.request.ticket) {
            let sent = self.shared.desk.pass(self.request);
            self.shared.answered(sent);
        }
        self.shared.left(self.request.ticket);
    }
}

/// What a guest answers with.
struct Voice<'a> {
    shared: &'a Shared,
    request: Header,
    since: Moment,
    spoken: bool,
    /// The call, if it has no answer yet.
    call: Option<Box<dyn Begun>>,
}

impl Sink for Voice<'_> {
    fn publish(&mut self, verdict: Verdict<'_>) {
        let desk = &self.shared.desk;
        let spoken = spoken(verdict, desk.max_frame);
        let ticket = self.request.ticket;
        let header = Header {
            kind: spoken.kind,
            length: spoken.payload.len(),
            time: self.since.until(Moment::now()).as_nanos() as u64,
            short: false,
            last: desk.term.task_over(),
            beside: !spoken.beside.is_empty(),
            ..self.request
        };
        let claim = || desk.page.finish(ticket);
        let sent = desk.send_luggage(ticket, &spoken.beside);
        let sent = sent.and_then(|()| desk.outbox.respond(header, &spoken.payload, claim));
        let sent = match sent {
            Ok(true) => Ok(()),
            Ok(false) => desk.pass(self.request),
            Err(error) => Err(error),
        };
        self.shared.answered(sent);
        self.spoken = true;
    }

    fn take_over(&mut self, begun: Box<dyn Begun>) {
        self.call = Some(begun);
    }
}
