//! The worker's loop: read what has come, run it call by call, answer.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::thread::sched_getcpu;

use super::DEPTH;
use super::intake::Intake;
use super::outbox::Outbox;
use super::prepare::prepare;
use super::report::Reports;
use super::room::Room;
use super::span::CallSpan;
use super::term::Term;
use super::watch::Watcher;
use crate::process::unsent;
use crate::sys::clock::Moment;
use crate::sys::{image, title};
use crate::task::attached::Attached;
use crate::task::context::{self, Running};
use crate::task::entry::{self, Argument, Sink, Verdict};
use crate::task::head::CallHead;
use crate::task::panic::PanicInfo;
use crate::task::progress::Outlet;
use crate::task::slabs::{self, Slabs};
use crate::task::{hook, panic};
use crate::wire::frame::{Header, Kind};
use crate::wire::luggage::Luggage;
use crate::wire::message::{Hello, Readiness, WorkerStart};
use crate::wire::page::ControlPage;
use crate::wire::{PROTOCOL, Ticket};

/// The exit status of a worker that could not begin or go on, with a line on its stderr.
pub(super) const FAILED: i32 = 70;

/// Memory for results is kept between calls up to this size: fresh pages cost more than copying,
/// but a worker must not hold the memory of its largest result for good.
pub(super) const KEPT: usize = 16 * 1024 * 1024;

/// If it takes longer to look for a call, others are running here in between. That is noticed rather than
/// asked for: to yield to somebody is to lose milliseconds to him.
const TURN: Duration = Duration::from_micros(50);

/// Serves until the request pipe ends, then exits. `start` is what the pool said of this worker,
/// `program` the pidfd of the program that it serves, `channel` its pipes and its page.
pub(super) fn serve(start: WorkerStart, program: Arc<OwnedFd>, channel: Vec<OwnedFd>) -> ! {
    let served = Station::take(start, program, channel).and_then(|mut station| {
        station.serve()?;
        station.finish();
        unsent::settle();
        Ok(())
    });
    match served {
        Ok(()) => std::process::exit(0),
        // Nobody listens: the pool has given up this worker, and there is nobody to complain to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(FAILED),
        Err(error) => {
            eprintln!("procpool: worker {}: {error}", std::process::id());
            std::process::exit(FAILED);
        }
    }
}

/// Everything a worker works with.
struct Station {
    intake: Intake,
    desk: Rc<Desk>,
    watcher: Rc<Watcher>,
    /// How long it waits awake for its next call.
    busy_poll: Duration,
    /// Where async calls are run, once there has been one.
    room: Option<Room>,
    /// What is run before it leaves; empty for nothing.
    finalizer: Vec<u8>,
    /// Where results are encoded; kept, because fresh memory costs more than copying.
    scratch: Vec<u8>,
    /// What large payloads go through, if they may.
    slabs: Option<Arc<Slabs>>,
}

/// The part that answers.
pub(super) struct Desk {
    pub(super) page: Arc<ControlPage>,
    pub(super) outbox: Arc<Outbox>,
    luggage: Luggage,
    pub(super) max_frame: usize,
    pub(super) term: Term,
    /// What running tasks say goes through this, once there are any.
    pub(super) outlet: Option<Arc<dyn Outlet>>,
}

impl Station {
    /// Sets the process up as a worker and says so to its parent.
    fn take(
        start: WorkerStart,
        program: Arc<OwnedFd>,
        mut channel: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let initializer = start.initializer.then(|| channel.pop()).flatten();
        let [requests, responses, page, luggage]: [OwnedFd; 4] = channel
            .try_into()
            .map_err(|_| io::Error::other("a worker's channel has four ends"))?;
        title::set_title(&start.name, &format!("procpool: worker {}", start.name));
        DEPTH.store(start.depth, Ordering::Relaxed);
        if start.attributes.oom_score_adj.is_none() {
            prefer_for_oom_kill();
        }
        panic::install_hook();
        let page = Arc::new(ControlPage::new(page)?);
        page.keep_from_forks()?;
        let outbox = Arc::new(Outbox::new(page.clone(), responses));
        let max_frame = start.max_frame as usize;
        // This loop gives back what is unused, so nobody else has to.
        let slabs = slabs::hold(start.large_payloads as usize, |_| {});
        let mut desk = Desk {
            page,
            outbox: outbox.clone(),
            luggage: Luggage::new(luggage),
            max_frame,
            term: Term::new(&start)?,
            outlet: None,
        };
        let hello = Hello {
            protocol: PROTOCOL,
            build: image::main_image().build_id().clone(),
        };
        desk.say(
            Kind::Hello,
            &postcard::to_stdvec(&hello).map_err(io::Error::other)?,
        )?;
        let watcher = match prepare(&start, program, outbox.clone(), initializer) {
            Ok(watcher) => watcher,
            Err(unfit) => {
                desk.say(Kind::Ready, &encoded(&Readiness::Err(unfit)))?;
                std::process::exit(FAILED);
            }
        };
        #[cfg(feature = "tracing")]
        super::log::install(&start, &desk.outbox, &watcher);
        desk.outlet = Some(Arc::new(Reports {
            outbox,
            watcher: watcher.clone(),
            max_frame,
        }));
        desk.say(Kind::Ready, &encoded(&Readiness::Ok(())))?;
        let intake = Intake::new(requests, max_frame);
        Ok(Self {
            intake,
            desk: Rc::new(desk),
            watcher: Rc::new(watcher),
            busy_poll: Duration::from_nanos(start.busy_poll),
            room: None,
            finalizer: start.finalizer,
            scratch: Vec::new(),
            slabs,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            while let Some((header, payload)) = self.intake.next().map_err(io::Error::other)? {
                match header.kind {
                    // The parent takes back what we do not begin, and then lets us go.
                    Kind::Call if self.desk.term.is_over() => {}
                    Kind::Call => {
                        self.desk
                            .answer(header, payload, &mut self.scratch, &self.watcher)?;
                        if self.scratch.capacity() > KEPT {
                            self.scratch = Vec::new();
                        }
                    }
                    // As above: only the parent knows whether that has come to an end meanwhile.
                    Kind::Host if self.desk.term.is_over() => {}
                    Kind::Host => self.host(header)?,
                    // It came too late for its room, and the parent has it back.
                    Kind::Enter => {
                        drop(self.desk.fetch_luggage(header)?);
                        self.desk.pass(header)?;
                    }
                    Kind::Drop => {}
                    Kind::Leave => return self.desk.outbox.flush(),
                    _ => return Err(io::Error::other("a response where a request belongs")),
                }
            }
            self.desk.outbox.hand_over()?;
            flush_stdio();
            if !self.receive()? {
                return Ok(());
            }
        }
    }

    /// Waits for more calls, awake first if that is wanted. False when there will be none.
    fn receive(&mut self) -> io::Result<bool> {
        let mut last = Moment::now();
        let until = last + self.busy_poll;
        // Whoever calls from this processor needs it to go on.
        while last < until && self.desk.page.is_called_from_elsewhere(sched_getcpu()) {
            if let Some(more) = self.intake.try_fill()? {
                return Ok(more);
            }
            let now = Moment::now();
            if last.until(now) > TURN {
                // There are others who need it.
                break;
            }
            last = now;
        }
        self.give_back()?;
        self.intake.fill()
    }

    /// Gives back the memory of large payloads if no call comes for a while.
    fn give_back(&self) -> io::Result<()> {
        let slabs = self.slabs.as_ref().filter(|slabs| slabs.is_anything());
        if let Some(slabs) = slabs {
            if !self.intake.wait(slabs::IDLE)? {
                slabs.clear();
            }
        }
        Ok(())
    }

    /// Runs async calls for as long as there are any.
    fn host(&mut self, request: Header) -> io::Result<()> {
        let started = Moment::now();
        if !self.desk.page.begin(request.ticket, started) {
            return self.desk.pass(request);
        }
        let room = match self.room.take() {
            Some(room) => Ok(room),
            None => Room::new(&self.intake, self.desk.clone(), self.watcher.clone()),
        };
        let mut answer = Answer {
            desk: &self.desk,
            request,
            started,
            sent: Ok(()),
        };
        match room {
            Ok(room) => {
                room.run(&mut self.intake)?;
                // A room is no task.
                answer.send(&Spoken::nothing(), self.desk.term.is_over());
                self.room = Some(room);
            }
            Err(error) => {
                let text = format!("the worker cannot run async tasks: {error}");
                answer.publish(Verdict::Panicked(PanicInfo::of_text(&text)));
            }
        }
        answer.sent
    }

    /// Does what is to be done before the worker leaves in order. The pool waits for its end, for
    /// as long as it may take, and then kills the process.
    fn finish(&mut self) {
        // What async tasks have left to run on is dropped before.
        self.room = None;
        if self.finalizer.is_empty() {
            return;
        }
        if let Err(text) = hook::run(&self.finalizer) {
            // Not `eprintln!`, which panics where nobody can be told.
            let pid = std::process::id();
            let _ = writeln!(
                io::stderr(),
                "procpool: worker {pid}: finalizer failed: {text}"
            );
        }
    }
}

impl Desk {
    /// Sends a frame that belongs to no call.
    fn say(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let header = Header::control(kind, payload.len());
        self.outbox.respond(header, payload, || true)?;
        self.outbox.flush()
    }

    /// Runs one call, if it is still ours, and answers it.
    fn answer(
        &self,
        request: Header,
        payload: &[u8],
        scratch: &mut Vec<u8>,
        watcher: &Watcher,
    ) -> io::Result<()> {
        if !request.short {
            // What is finished does not wait for a call that may be long.
            self.outbox.flush()?;
        }
        let beside = self.fetch_luggage(request)?;
        let started = Moment::now();
        if !self.page.begin(request.ticket, started) {
            return self.pass(request);
        }
        self.page.runs_on(sched_getcpu());
        self.acknowledge(request)?;
        if self.outbox.waits() {
            watcher.wake();
        }
        let Some((head, argument)) = CallHead::read(payload) else {
            return self.refuse(request, "the request has no head");
        };
        if head.items > 0 {
            let begun = (beside, started);
            return self.answer_chunk(request, head, argument, begun, scratch, watcher);
        }
        let name = head.labels.name().map(Arc::from);
        let _runs = self.outbox.runs(request, request.call);
        let span = CallSpan::new(&head, request.call);
        let _span = span.enter();
        let _current = context::enter(self.running(request, &head, name, 0, started));
        let mut answer = Answer {
            desk: self,
            request,
            started,
            sent: Ok(()),
        };
        let argument = Argument {
            bytes: argument,
            beside,
        };
        if let Err(unknown) = entry::run(head.target, argument, scratch, &mut answer) {
            return self.refuse(request, &unknown.to_string());
        }
        answer.sent
    }

    /// The descriptors that came with a request: all of them, taken or not, and so in the order of
    /// the requests.
    pub(super) fn fetch_luggage(&self, request: Header) -> io::Result<Attached> {
        if request.beside {
            self.luggage.receive(request.ticket)
        } else {
            Ok(Attached::new())
        }
    }

    /// Says that a call with descriptors was begun, so that nobody else keeps those open for it.
    pub(super) fn acknowledge(&self, request: Header) -> io::Result<()> {
        if !request.beside {
            return Ok(());
        }
        let header = Header {
            kind: Kind::Taken,
            length: 0,
            time: 0,
            short: false,
            beside: false,
            ..request
        };
        self.outbox.respond(header, &[], || true)?;
        self.outbox.flush()
    }

    /// Sends what goes with a result, before that is there. Should the result be thrown away, its
    /// luggage is nobody's.
    pub(super) fn send_luggage(&self, ticket: Ticket, beside: &Attached) -> io::Result<()> {
        if beside.is_empty() {
            return Ok(());
        }
        loop {
            match self.luggage.send(ticket, beside) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
            // The parent takes it with the responses that it sees.
            self.outbox.flush()?;
            self.luggage.wait_for_room()?;
        }
    }

    /// What a call may know of itself.
    pub(super) fn running<'a>(
        &'a self,
        request: Header,
        head: &CallHead<'_>,
        name: Option<Arc<str>>,
        item: u32,
        started: Moment,
    ) -> Running<'a> {
        let limit = (request.time > 0).then(|| started + Duration::from_nanos(request.time));
        Running {
            page: &self.page,
            ticket: request.ticket,
            item,
            id: request.call + u64::from(item),
            name,
            attempt: head.attempt,
            soft_deadline: head.soft_timeout.map(|limit| started + limit),
            deadline: limit.into_iter().chain(head.deadline).min(),
            outlet: self.outlet.as_ref(),
        }
    }

    /// Says that a request makes no sense, which ends this worker.
    pub(super) fn refuse(&self, request: Header, why: &str) -> io::Result<()> {
        let header = Header {
            kind: Kind::Unknown,
            length: why.len(),
            time: 0,
            short: false,
            beside: false,
            ..request
        };
        self.outbox
            .respond(header, why.as_bytes(), || true)
            .map(|_| ())
    }

    /// Says that a call is not ours any more.
    pub(super) fn pass(&self, request: Header) -> io::Result<()> {
        let header = Header {
            kind: Kind::Passed,
            length: 0,
            time: 0,
            short: false,
            last: self.term.is_over(),
            beside: false,
            ..request
        };
        self.outbox.respond(header, &[], || true).map(|_| ())
    }
}

/// The response to one call.
struct Answer<'a> {
    desk: &'a Desk,
    request: Header,
    started: Moment,
    sent: io::Result<()>,
}

impl Sink for Answer<'_> {
    fn publish(&mut self, verdict: Verdict<'_>) {
        let last = self.desk.term.task_over();
        self.send(&spoken(verdict, self.desk.max_frame), last);
    }
}

/// A verdict as a response.
pub(super) struct Spoken<'a> {
    pub(super) kind: Kind,
    pub(super) payload: Cow<'a, [u8]>,
    pub(super) beside: Attached,
}

impl Spoken<'_> {
    /// What is said where nothing is to be said but that it is over.
    fn nothing() -> Self {
        Self {
            kind: Kind::Returned,
            payload: Cow::Borrowed(&[]),
            beside: Attached::new(),
        }
    }
}

/// Turns a verdict into a response.
pub(super) fn spoken(verdict: Verdict<'_>, max_frame: usize) -> Spoken<'_> {
    let mut beside = Attached::new();
    let (kind, payload) = match verdict {
        Verdict::Returned(result, _, slabs) if result.len() + slabs > max_frame => {
            let size = ((result.len() + slabs) as u64).to_le_bytes();
            (Kind::TooLarge, size.to_vec().into())
        }
        Verdict::Returned(result, attached, _) => {
            beside = attached;
            (Kind::Returned, Cow::Borrowed(result))
        }
        Verdict::Panicked(panic) => (Kind::Panicked, encoded(&panic).into()),
        Verdict::ArgumentUndecodable(error) => (Kind::Undecodable, encoded(&error).into()),
        Verdict::ResultUnencodable(error) => (Kind::Unencodable, encoded(&error).into()),
    };
    Spoken {
        kind,
        payload,
        beside,
    }
}

impl Answer<'_> {
    /// Sends the response if the call is still ours, else says that it was thrown away. `last` tells
    /// that nothing more is run here.
    fn send(&mut self, spoken: &Spoken<'_>, last: bool) {
        let took = self.started.until(Moment::now()).as_nanos() as u64;
        let ticket: Ticket = self.request.ticket;
        let call = self.request.call;
        let header = Header {
            kind: spoken.kind,
            ticket,
            length: spoken.payload.len(),
            call,
            time: took,
            short: false,
            part: false,
            last,
            beside: !spoken.beside.is_empty(),
        };
        let claim = || self.desk.page.finish(ticket);
        let sent = self.desk.send_luggage(ticket, &spoken.beside);
        let respond = |()| self.desk.outbox.respond(header, &spoken.payload, claim);
        let sent = sent.and_then(respond);
        self.sent = match sent {
            Ok(true) => Ok(()),
            Ok(false) => self.desk.pass(self.request),
            Err(error) => Err(error),
        };
    }
}

/// Numbers and texts, the texts cut down to what a control frame may hold.
fn encoded(error: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(error).expect("texts always encode")
}

/// Tasks print; whoever reads along wants to see it before the worker sleeps.
pub(super) fn flush_stdio() {
    let _ = io::stdout().flush();
}

/// When memory runs out, let the kernel choose a worker and not the program it serves. Raising
/// the score needs no privilege; where it cannot be raised, nothing is lost.
fn prefer_for_oom_kill() {
    const MORE: i32 = 200;
    let path = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(now) = now {
        let _ = std::fs::write(path, (now + MORE).min(1000).to_string());
    }
}
