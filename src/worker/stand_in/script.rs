//! What a stub can be told to do, and how it is told: by its name, so that nothing in the crate
//! has a field for tests.

/// A worker that does its first call as it should, up to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Ends there, in that way.
    Die(Position, Manner),
    /// Breaks the protocol.
    Lie(Lie),
    /// Answers its call, and is killed when the pipe has so many bytes of the response: one more
    /// with each worker.
    Tear {
        /// Whether the response lies in the page as well, as that of a real worker does.
        shown: bool,
        /// How many bytes; all of them, where the response has no more.
        at: usize,
    },
}

/// A point in a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Nothing has been said.
    BeforeHello,
    /// The first frame is in the pipe.
    AfterHello,
    /// The parent has read it and waits for the second.
    InInit,
    /// The first call waits in the pipe.
    BeforeRead,
    /// Half of it has been read.
    MidRead,
    /// It has been read and is *waiting*.
    BeforeRun,
    /// It is *running*.
    InRun,
    /// It is *done*, and its response is not visible yet.
    BeforeWrite,
    /// The response is visible, and half of it is in the pipe.
    MidWrite,
    /// The response is in the pipe.
    AfterWrite,
    /// The worker has been told to leave.
    AtExit,
}

/// A way to end, or to be of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By SIGKILL.
    Kill,
    /// By SIGABRT.
    Abort,
    /// By an exit that looks well.
    Exit,
    /// Stops itself, and is still there.
    Stop,
    /// Closes what connects it to its parent, and is still there.
    Close,
}

/// A way to break the protocol, in the greeting or while the first call is *running*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Says hello for another build.
    OtherBuild,
    /// Says hello in another protocol.
    OtherProtocol,
    /// Says hello in bytes that say nothing.
    NonsenseHello,
    /// Is ready without a hello.
    NoHello,
    /// Sends bytes that are no frame.
    Garbage,
    /// Announces the longest frame that four bytes can say, and is silent.
    HugeLength,
    /// Announces the longest frame that is allowed, and is silent.
    HugePromise,
    /// Answers a call that it was never given.
    StrangerCall,
    /// Answers its call under another's ticket.
    OtherTicket,
    /// Answers a call under its ticket, but with another's number.
    OtherCall,
    /// Answers its call twice.
    TwiceAnswered,
    /// Says hello again.
    HelloAgain,
    /// Sends what only a parent sends.
    Request,
    /// Reports a panic in bytes that say nothing.
    NonsensePanic,
    /// Says that something was logged, in bytes that say nothing.
    NonsenseRecord,
    /// Reports the length of its result in too few bytes.
    NonsenseLength,
    /// Sends three updates of its call, and is silent.
    Updates,
    /// Passes by a call that it was not asked to give back.
    PassedUnasked,
    /// Fills the control page with random words, and exits.
    WildPage,
    /// Fills the outbox with random bytes and shows a part of them, and exits.
    WildOutbox,
    /// Writes half of a small frame, and exits.
    HalfFrame,
    /// Writes a part of a frame larger than the outbox, and is killed.
    TornFrame,
}

impl Position {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 11] = [
        Self::BeforeHello,
        Self::AfterHello,
        Self::InInit,
        Self::BeforeRead,
        Self::MidRead,
        Self::BeforeRun,
        Self::InRun,
        Self::BeforeWrite,
        Self::MidWrite,
        Self::AfterWrite,
        Self::AtExit,
    ];
}

impl Manner {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Kill, Self::Abort, Self::Exit, Self::Stop, Self::Close];
}

impl Lie {
    /// All of them.
    pub(crate) const ALL: [Self; 22] = [
        Self::OtherBuild,
        Self::OtherProtocol,
        Self::NonsenseHello,
        Self::NoHello,
        Self::Garbage,
        Self::HugeLength,
        Self::HugePromise,
        Self::StrangerCall,
        Self::OtherTicket,
        Self::OtherCall,
        Self::TwiceAnswered,
        Self::HelloAgain,
        Self::Request,
        Self::NonsensePanic,
        Self::NonsenseRecord,
        Self::NonsenseLength,
        Self::Updates,
        Self::PassedUnasked,
        Self::WildPage,
        Self::WildOutbox,
        Self::HalfFrame,
        Self::TornFrame,
    ];
}

const ALWAYS: &str = "always";
const FIRST: &str = "first";

impl Script {
    /// What a pool's workers must be called so that the first of them does this.
    pub(crate) fn for_the_first(self) -> String {
        format!("{self:?} {FIRST}")
    }

    /// What a pool's workers must be called so that each of them does this.
    pub(crate) fn for_all(self) -> String {
        format!("{self:?} {ALWAYS}")
    }

    /// What the worker of that name is to do; `None` for what is no stub.
    pub(super) fn for_worker(name: &str) -> Option<Self> {
        let (name, number) = name.rsplit_once('-')?;
        let (script, which) = name.rsplit_once(' ')?;
        if which != ALWAYS && (which, number) != (FIRST, "1") {
            return None;
        }
        let script = Self::all().find(|one| format!("{one:?}") == script)?;
        Some(match script {
            Self::Tear { shown, .. } => {
                // The first has the number one.
                let at = number.parse::<usize>().ok()?.checked_sub(1)?;
                Self::Tear { shown, at }
            }
            other => other,
        })
    }

    fn all() -> impl Iterator<Item = Self> {
        let deaths = Position::ALL.into_iter().flat_map(|position| {
            let manners = Manner::ALL.into_iter();
            manners.map(move |manner| Self::Die(position, manner))
        });
        let tears = [true, false].map(|shown| Self::Tear { shown, at: 0 });
        deaths
            .chain(Lie::ALL.into_iter().map(Self::Lie))
            .chain(tears)
    }
}
