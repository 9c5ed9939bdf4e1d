//! The stations of a plain call in its parent, one function each and without a worker, for
//! `benches/instructions`, which counts the instructions of each. No part of the crate as it is used.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use super::job::{Client, Job, Terms};
use super::reply::{Raw, Reply};
use super::scheduler::{Action, Event, JobKey, JobSpec, Rules, Scheduler, Ticket, WorkerId};
use super::stats::Counts;
use super::trace::CallTrace;
use crate::supervisor::outgoing::Outgoing;
use crate::sys::clock::Moment;
use crate::sys::pipe::{pipe, set_nonblocking};
use crate::task::call::{Call, Parts};
use crate::task::head::{CallHead, Labels};
use crate::task::payload;
use crate::wire::codec::{Frame, FrameCodec};
use crate::wire::frame::{HEADER, Header, Kind};
use crate::wire::luggage::Luggage;
use crate::wire::page::{self, ControlPage};

/// How many calls are in hand at once: a full batch, and few enough for one worker.
const BATCH: u64 = 64;
const MAX_FRAME: usize = 1 << 20;

fn next((number, _): (u64, u32)) -> u64 {
    number + 1
}

/// A pool's parts, and one worker that is always ready.
struct Line {
    scheduler: Scheduler<Job>,
    worker: WorkerId,
    counts: Counts,
    page: ControlPage,
    outgoing: Outgoing,
    codec: FrameCodec,
    /// What the worker has said.
    said: BytesMut,
    now: Moment,
    requests: OwnedFd,
}

/// An encoded call, and who waits for it.
struct Encoded {
    job: Job,
    bytes: usize,
    reply: Arc<Reply<u64>>,
}

/// Has so many calls made and answered; each station is passed as often. Gives the sum of the answers.
///
/// # Errors
///
/// At the limits of the system.
pub fn run(calls: u64) -> io::Result<u64> {
    let mut line = Line::new()?;
    let (mut sum, mut made) = (0, 0);
    while made < calls {
        let batch = made..(made + BATCH).min(calls);
        made = batch.end;
        let replies: Vec<_> = batch
            .map(|number| {
                let Encoded { job, bytes, reply } = encode(number);
                line.submit(job, bytes);
                reply
            })
            .collect();
        let mut waiting = replies.into_iter();
        // The worker takes those of its window, and then the next.
        while waiting.len() > 0 {
            let sent = line.assign();
            line.answer(&sent);
            for _ in 0..sent.len() {
                let frame = line.decode();
                let (job, raw) = line.complete(frame);
                resolve(job, raw);
                sum += waiting.next().map_or(0, |reply| take(&reply));
            }
        }
    }
    Ok(sum)
}

/// The caller's part: function and argument become bytes, and there is a place for the answer.
#[inline(never)]
fn encode(number: u64) -> Encoded {
    let Parts {
        target,
        argument,
        decode,
        ..
    } = Call::of1(next, &(number, 0)).into_parts();
    let target = target.expect("it is a function of this program");
    let argument = argument.expect("two numbers");
    let reply = Reply::new(decode);
    let head = CallHead {
        target,
        attempt: 1,
        items: 0,
        soft_timeout: None,
        deadline: None,
        labels: Labels::None,
    };
    let (head, client) = (head.pack(), Client::Call(reply.clone()));
    let bytes = head.len() + argument.len();
    let trace = CallTrace::default();
    let job = Job::new(head, argument, target.kind(), client, trace, Terms::PLAIN);
    Encoded { job, bytes, reply }
}

/// The pool tells who has asked.
#[inline(never)]
fn resolve(job: Job, raw: Raw) {
    if let Client::Call(reply) = job.client {
        reply.resolve(raw);
    }
}

/// The caller takes the answer.
#[inline(never)]
fn take(reply: &Arc<Reply<u64>>) -> u64 {
    let taken = reply.poll_take(&mut Context::from_waker(Waker::noop()));
    match taken {
        std::task::Poll::Ready(Some(Ok(value))) => value,
        _ => panic!("it was answered"),
    }
}

impl Line {
    fn new() -> io::Result<Self> {
        let mut scheduler = Scheduler::new(Rules {
            workers: 1,
            starts_at_once: 1,
            ..Rules::default()
        });
        let now = Moment(1_000_000_000);
        scheduler.handle(now, Event::StartAll);
        let Some(Action::Start(worker)) = scheduler.next_action() else {
            panic!("a worker is started");
        };
        scheduler.handle(now, Event::Ready(worker));
        let requests = pipe()?;
        set_nonblocking(&requests.write)?;
        let (luggage, _) = Luggage::pair()?;
        Ok(Self {
            scheduler,
            worker,
            counts: Counts::new(now),
            page: ControlPage::new(page::create()?)?,
            outgoing: Outgoing::new(Arc::new(requests.write), Arc::new(luggage)),
            codec: FrameCodec {
                max_frame: MAX_FRAME,
            },
            said: BytesMut::new(),
            now,
            requests: requests.read,
        })
    }

    /// The pool takes the call in, and decides where it goes.
    #[inline(never)]
    fn submit(&mut self, job: Job, bytes: usize) {
        self.now = self.now + Duration::from_nanos(100);
        let spec = JobSpec {
            kind: job.kind,
            bytes,
            ..JobSpec::default()
        };
        self.counts.submitted(1);
        if self.scheduler.submit(self.now, spec, job).is_err() {
            panic!("the pool is open");
        }
    }

    /// What is to go to the worker goes into its page and its pipe.
    #[inline(never)]
    fn assign(&mut self) -> Vec<(Ticket, JobKey)> {
        let mut sent = Vec::with_capacity(BATCH as usize);
        while let Some(action) = self.scheduler.next_action() {
            let Action::Assign(_, ticket, key) = action else {
                continue;
            };
            self.page.offer(ticket);
            let short = self.scheduler.is_short(key);
            let job = self.scheduler.attachment(key).expect("it was just sent");
            let header = Header {
                ticket,
                call: key.number(),
                short,
                ..Header::control(Kind::Call, job.head.len() + job.argument.len())
            };
            self.outgoing.push(header, &job.head, &job.argument);
            sent.push((ticket, key));
        }
        self.outgoing.flush();
        sent
    }

    /// What a worker would say. Not counted.
    fn answer(&mut self, sent: &[(Ticket, JobKey)]) {
        let mut bytes = [0; 4096];
        while rustix::io::read(&self.requests, &mut bytes).is_ok_and(|count| count == bytes.len()) {
        }
        for (ticket, key) in sent {
            self.page.begin(*ticket, self.now);
            self.page.finish(*ticket);
            let result = payload::pack(&key.number()).expect("a number");
            let header = Header {
                ticket: *ticket,
                call: key.number(),
                time: 100,
                ..Header::control(Kind::Returned, result.len())
            };
            self.said.extend_from_slice(&header.to_bytes());
            self.said.extend_from_slice(&result);
        }
        assert!(self.said.len() >= HEADER * sent.len());
    }

    /// Bytes become frames.
    #[inline(never)]
    fn decode(&mut self) -> Frame {
        let frame = self.codec.decode(&mut self.said);
        frame.ok().flatten().expect("there is one for each call")
    }

    /// The pool finds whose answer it is, and goes on.
    #[inline(never)]
    fn complete(&mut self, frame: Frame) -> (Job, Raw) {
        let Frame { header, payload } = frame;
        let took = Duration::from_nanos(header.time);
        let completed = self
            .scheduler
            .complete(self.now, self.worker, header.ticket, took);
        let Ok(Some(mut job)) = completed else {
            panic!("it has that call");
        };
        self.scheduler.settle(self.now);
        let raw = job.conclude(Raw::Returned(payload));
        self.counts.answered(raw.error(), self.now, job.since, took);
        (job, raw)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_call_passes_all_stations_and_is_answered() {
        // A worker says the number of the call, which begins with one.
        assert_eq!(super::run(200).unwrap(), (1..=200).sum::<u64>());
    }
}
