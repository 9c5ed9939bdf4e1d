//! A worker that obeys a script. It speaks the real protocol over the real pipes and the real page,
//! one step at a time, and answers a call with the call's own argument.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_current_process_group, kill_process};

use super::script::{Lie, Manner, Position, Script};
use crate::sys::build_id::BuildId;
use crate::sys::clock::Moment;
use crate::sys::{fork, image};
use crate::task::head::CallHead;
use crate::wire::PROTOCOL;
use crate::wire::frame::{HEADER, Header, Kind};
use crate::wire::message::{Hello, Readiness};
use crate::wire::page::{ControlPage, OUTBOX};

/// Lives by the script. `program` and `channel` are what every worker gets.
pub(super) fn obey(script: Script, program: Arc<OwnedFd>, channel: Vec<OwnedFd>) -> ! {
    die_with(program);
    let [requests, responses, page_file, _]: [OwnedFd; 4] =
        channel.try_into().expect("a worker's channel");
    let stub = Stub {
        script,
        page: ControlPage::new(&page_file).expect("a control page"),
        page_file: page_file.into(),
        requests: requests.into(),
        responses: responses.into(),
        sent: 0,
    };
    stub.live()
}

struct Stub {
    script: Script,
    requests: File,
    responses: File,
    page: ControlPage,
    page_file: File,
    /// How much of the response stream there is.
    sent: u64,
}

impl Stub {
    fn live(mut self) -> ! {
        self.greet();
        wait_for(&self.requests);
        self.at(Position::BeforeRead);
        while let Some((request, argument)) = self.read_call() {
            self.at(Position::BeforeRun);
            if !self.page.begin(request.ticket, Moment::now()) {
                self.say(Header {
                    kind: Kind::Passed,
                    length: 0,
                    ..request
                });
                continue;
            }
            self.at(Position::InRun);
            if let Script::Lie(lie) = self.script {
                self.lie(lie, request, &argument);
            }
            self.answer(request, &argument);
        }
        self.at(Position::AtExit);
        fork::exit_now(0)
    }

    fn greet(&mut self) {
        self.at(Position::BeforeHello);
        let mut hello = Hello {
            protocol: PROTOCOL,
            build: image::main_image().build_id().clone(),
        };
        match self.script {
            Script::Lie(Lie::OtherBuild) => {
                hello.build = BuildId::hash([b"another".as_slice()].into_iter());
            }
            Script::Lie(Lie::OtherProtocol) => hello.protocol += 1,
            _ => {}
        }
        match self.script {
            Script::Lie(Lie::NoHello) => {}
            Script::Lie(Lie::NonsenseHello) => self.send(Kind::Hello, &[0xff; 20]),
            _ => self.send(Kind::Hello, &postcard::to_stdvec(&hello).expect("a hello")),
        }
        self.at(Position::AfterHello);
        if self.script_is_at(Position::InInit) {
            while rustix::io::ioctl_fionread(&self.responses) != Ok(0) {
                std::thread::yield_now();
            }
        }
        self.at(Position::InInit);
        let ready = postcard::to_stdvec(&Readiness::Ok(())).expect("it is flat");
        self.send(Kind::Ready, &ready);
    }

    /// Reads one call; `None` when there is to be no other.
    fn read_call(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut header = [0; HEADER];
        self.requests.read_exact(&mut header).ok()?;
        let header = Header::read(&header, usize::MAX).expect("a header")?;
        if header.kind == Kind::Leave {
            return None;
        }
        let mut payload = vec![0; header.length];
        let (first, second) = payload.split_at_mut(header.length / 2);
        self.requests.read_exact(first).expect("half a call");
        self.at(Position::MidRead);
        self.requests.read_exact(second).expect("a whole call");
        let (_, argument) = CallHead::read(&payload).expect("a head");
        Some((header, argument.to_vec()))
    }

    /// Answers as a worker does: into the ring, *done*, visible, into the pipe.
    fn answer(&mut self, request: Header, result: &[u8]) {
        let response = frame(response_to(request, result), result);
        if let Script::Tear { shown: false, at } = self.script {
            self.write(&response[..at.min(response.len())]);
            die(Manner::Kill);
        }
        self.page.put(self.sent, &response);
        if !self.page.finish(request.ticket) {
            return self.say(Header {
                kind: Kind::Passed,
                length: 0,
                ..request
            });
        }
        self.at(Position::BeforeWrite);
        self.sent += response.len() as u64;
        self.page.show(self.sent);
        if let Script::Tear { at, .. } = self.script {
            self.write(&response[..at.min(response.len())]);
            die(Manner::Kill);
        }
        let (first, second) = response.split_at(response.len() / 2);
        self.write(first);
        self.at(Position::MidWrite);
        self.write(second);
        self.at(Position::AfterWrite);
    }

    fn send(&mut self, kind: Kind, payload: &[u8]) {
        let header = Header::control(kind, payload.len());
        self.sent += (HEADER + payload.len()) as u64;
        self.write(&frame(header, payload));
        self.page.show(self.sent);
    }

    fn say(&mut self, header: Header) {
        self.sent += HEADER as u64;
        self.write(&header.to_bytes());
        self.page.show(self.sent);
    }

    /// A parent that has gone ends this process by other means.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.responses.write_all(bytes);
    }

    fn lie(&mut self, lie: Lie, request: Header, argument: &[u8]) {
        let honest = response_to(request, argument);
        match lie {
            Lie::OtherBuild | Lie::OtherProtocol | Lie::NonsenseHello | Lie::NoHello => {}
            Lie::Garbage => self.write(&[0xab; 4096]),
            Lie::HugeLength | Lie::HugePromise => {
                let mut bytes = honest.to_bytes();
                let length = match lie {
                    Lie::HugeLength => u32::MAX,
                    _ => u32::MAX - 64 * 1024,
                };
                bytes[4..8].copy_from_slice(&length.to_le_bytes());
                self.write(&bytes);
            }
            Lie::StrangerCall => {
                let mut header = Header { call: 77, ..honest };
                header.ticket.sequence += 1000;
                self.write(&frame(header, argument));
            }
            Lie::OtherTicket => {
                let mut header = honest;
                header.ticket.lane ^= 1;
                self.write(&frame(header, argument));
            }
            Lie::OtherCall => {
                let call = honest.call + 1;
                self.write(&frame(Header { call, ..honest }, argument));
            }
            Lie::TwiceAnswered => {
                self.page.finish(request.ticket);
                let response = frame(honest, argument);
                self.write(&[response.clone(), response].concat());
            }
            Lie::HelloAgain => self.send(Kind::Hello, &[]),
            Lie::Request => self.write(&frame(
                Header {
                    kind: Kind::Call,
                    ..honest
                },
                argument,
            )),
            Lie::NonsensePanic => self.nonsense(Kind::Panicked, honest),
            Lie::NonsenseRecord => self.nonsense(Kind::Log, honest),
            Lie::NonsenseLength => self.nonsense(Kind::TooLarge, honest),
            Lie::Updates => {
                let kind = Kind::Update;
                let update = frame(Header { kind, ..honest }, argument);
                self.write(&update.repeat(3));
            }
            Lie::PassedUnasked => self.say(Header {
                kind: Kind::Passed,
                length: 0,
                ..request
            }),
            Lie::WildPage => {
                let bytes = random(8192 + OUTBOX);
                self.page_file.write_all_at(&bytes, 0).expect("a page");
                fork::exit_now(0)
            }
            Lie::WildOutbox => {
                let bytes = random(OUTBOX);
                self.page_file.write_all_at(&bytes, 8192).expect("a page");
                self.page.show(self.sent + 1000);
                fork::exit_now(0)
            }
            Lie::HalfFrame => {
                let response = frame(honest, argument);
                self.write(&response[..response.len() / 2]);
                fork::exit_now(0)
            }
            Lie::TornFrame => {
                let length = 1024 * 1024;
                self.write(&frame(Header { length, ..honest }, &vec![7; length / 3]));
                die(Manner::Kill);
            }
        }
        if !matches!(lie, Lie::OtherBuild | Lie::OtherProtocol) {
            rest();
        }
    }

    fn nonsense(&mut self, kind: Kind, honest: Header) {
        let nonsense = [0xff; 5];
        let length = nonsense.len();
        self.write(&frame(
            Header {
                kind,
                length,
                ..honest
            },
            &nonsense,
        ));
    }

    fn script_is_at(&self, position: Position) -> bool {
        matches!(self.script, Script::Die(at, _) if at == position)
    }

    /// Dies here, if the script says so.
    fn at(&mut self, position: Position) {
        let Script::Die(at, manner) = self.script else {
            return;
        };
        if at != position {
            return;
        }
        if manner == Manner::Close {
            let null = || File::open("/dev/null").expect("there is a /dev/null");
            self.requests = null();
            self.responses = null();
            self.page_file = null();
        }
        die(manner);
    }
}

fn die(manner: Manner) -> ! {
    match manner {
        Manner::Kill => {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        Manner::Abort => std::process::abort(),
        Manner::Exit => fork::exit_now(0),
        Manner::Stop => {
            let _ = kill_process(getpid(), Signal::STOP);
        }
        Manner::Close => {}
    }
    rest()
}

/// Is there and does nothing.
fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

fn response_to(request: Header, result: &[u8]) -> Header {
    Header {
        kind: Kind::Returned,
        length: result.len(),
        time: 1,
        short: false,
        part: false,
        last: false,
        ..request
    }
}

fn frame(header: Header, payload: &[u8]) -> Vec<u8> {
    [&header.to_bytes(), payload].concat()
}

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.expect("random bytes");
    bytes
}

fn wait_for(pipe: impl AsFd) {
    let _ = poll(&mut [PollFd::new(&pipe, PollFlags::IN)], None);
}

/// Ends this process with the program, as every worker's watcher does.
fn die_with(program: Arc<OwnedFd>) {
    std::thread::spawn(move || {
        wait_for(program);
        let _ = kill_current_process_group(Signal::KILL);
    });
}
