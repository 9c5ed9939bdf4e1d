//! What a worker's process is given beside its task: scheduling, limits, a directory.

use std::ffi::OsString;
use std::path::Path;
use std::{fmt, io};

use rustix::process::{Rlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::stack;

/// A resource of which a worker may be given only so much. See
/// [`rlimit`](crate::ProcessPoolBuilder::rlimit).
///
/// The manual page `setrlimit(2)` says more about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resource {
    /// Memory that the process may map, in bytes. Beyond it allocations fail, which ends most
    /// programs by an abort. It counts what is mapped and not what is used.
    #[doc(alias = "RLIMIT_AS")]
    AddressSpace,
    /// The size of a core dump, in bytes; zero for none.
    #[doc(alias = "RLIMIT_CORE")]
    Core,
    /// Time on processors, in seconds, of all tasks of a worker together. At the soft limit the
    /// worker is ended by SIGXCPU, at the hard one by SIGKILL.
    #[doc(alias = "RLIMIT_CPU")]
    Cpu,
    /// Private writable memory (the heap, above all), in bytes.
    #[doc(alias = "RLIMIT_DATA")]
    Data,
    /// The size of a file that is written to, in bytes. Beyond it the worker is ended by SIGXFSZ.
    #[doc(alias = "RLIMIT_FSIZE")]
    FileSize,
    /// Memory that may be locked, in bytes.
    #[doc(alias = "RLIMIT_MEMLOCK")]
    LockedMemory,
    /// The highest number of a descriptor, plus one. A worker has about ten of its own.
    #[doc(alias = "RLIMIT_NOFILE")]
    OpenFiles,
    /// Processes and threads of the *user*, beyond which this process can make no more. It does
    /// not bind a privileged one.
    #[doc(alias = "RLIMIT_NPROC")]
    Processes,
    /// The stack on which tasks run, in bytes: it may grow to the soft limit, as far as there was
    /// room for it when the program was executed, which is 128 MiB at least.
    #[doc(alias = "RLIMIT_STACK")]
    Stack,
}

impl Resource {
    /// The limit that is none.
    pub const UNLIMITED: u64 = u64::MAX;

    fn number(self) -> rustix::process::Resource {
        use rustix::process::Resource as Number;
        match self {
            Self::AddressSpace => Number::As,
            Self::Core => Number::Core,
            Self::Cpu => Number::Cpu,
            Self::Data => Number::Data,
            Self::FileSize => Number::Fsize,
            Self::LockedMemory => Number::Memlock,
            Self::OpenFiles => Number::Nofile,
            Self::Processes => Number::Nproc,
            Self::Stack => Number::Stack,
        }
    }
}

/// A resource, its soft and its hard limit.
pub(crate) type Limit = (Resource, u64, u64);

/// How many cores can be told apart here.
pub(crate) const MOST_CORES: usize = CpuSet::MAX_CPU;

/// Attributes for a process to give to itself. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// From -20, the most favoured, to 19.
    pub(crate) nice: Option<i32>,
    /// The cores that it may run on, each less than [`MOST_CORES`]; empty for no change.
    pub(crate) cores: Vec<usize>,
    /// From -1000, never killed for lack of memory, to 1000.
    pub(crate) oom_score_adj: Option<i32>,
    /// The working directory; no `PathBuf`, which travels only if it is UTF-8.
    pub(crate) directory: Option<OsString>,
    /// At most one for each resource.
    pub(crate) limits: Vec<Limit>,
}

/// An attribute that the system refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What was to be done ("set the nice value to -5").
    pub(crate) doing: String,
    /// Why not.
    pub(crate) error: io::Error,
}

impl Attributes {
    /// Takes on everything but the limits. Of a process with one thread: the system keeps some of
    /// these for each thread, and new threads begin with those of the one that starts them.
    pub(crate) fn take_on(&self) -> Result<(), Refused> {
        if let Some(nice) = self.nice {
            let set = setpriority_process(None, nice).map_err(io::Error::from);
            refused(set, || format!("set the nice value to {nice}"))?;
        }
        if !self.cores.is_empty() {
            let set = sched_setaffinity(None, &cpu_set(&self.cores)).map_err(io::Error::from);
            refused(set, || format!("run on the cores {:?} alone", self.cores))?;
        }
        if let Some(score) = self.oom_score_adj {
            let set = std::fs::write("/proc/self/oom_score_adj", score.to_string());
            refused(set, || format!("set the OOM score adjustment to {score}"))?;
        }
        if let Some(directory) = &self.directory {
            let directory = Path::new(directory);
            let set = std::env::set_current_dir(directory);
            refused(set, || {
                format!("go to the directory {}", directory.display())
            })?;
        }
        Ok(())
    }

    /// Takes on the limits, on the main thread. They may leave no room for another thread or
    /// descriptor, so this comes when everything else is there.
    pub(crate) fn limit(&self) -> Result<(), Refused> {
        for &(resource, soft, hard) in &self.limits {
            let bound = |limit| (limit != Resource::UNLIMITED).then_some(limit);
            let limit = Rlimit {
                current: bound(soft),
                maximum: bound(hard),
            };
            let set = setrlimit(resource.number(), limit).map_err(io::Error::from);
            refused(set, || {
                let (soft, hard) = (shown(soft), shown(hard));
                format!("limit {resource:?} to {soft} (soft) and {hard} (hard)")
            })?;
            if resource == Resource::Stack {
                // The place where an overflow is told by has moved. A worker that cannot report
                // one still dies of it.
                let _ = stack::report_overflow_on_this_thread();
            }
        }
        Ok(())
    }
}

fn refused(done: io::Result<()>, doing: impl FnOnce() -> String) -> Result<(), Refused> {
    done.map_err(|error| Refused {
        doing: doing(),
        error,
    })
}

fn cpu_set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    set
}

fn shown(limit: u64) -> impl fmt::Display {
    if limit == Resource::UNLIMITED {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}
