//! From options to a pool: what is impossible is found out here, and the rest settled.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use super::hooks::Hooks;
use super::worker::Checked;
use super::{ProcessPoolBuilder, bounded};
use crate::pool::ProcessPool;
use crate::pool::driver::{Driver, Plan, Venue};
use crate::pool::error::{BuildError, BuildFault};
use crate::pool::rooms::RoomRules;
use crate::pool::scheduler::{Renewal, Rules};
use crate::process::{Keeper, Launcher, Program, StartMethod};
use crate::supervisor::start::Recipe;
use crate::sys::memory::Memory;
use crate::sys::reactor;
use crate::task::identity::Target;
use crate::task::panic;
use crate::wire::page::BERTHS;
use crate::worker::{boot, fitness};

/// The longest frame that its header can announce, less room for the call's particulars.
const LONGEST_FRAME: usize = u32::MAX as usize - 64 * 1024;
/// How long a worker may take to drop an async task that was ended: far more than a task should
/// run between two of its awaits.
const YIELD_LIMIT: Duration = Duration::from_secs(1);
/// For how long anybody waits awake: much longer, and it would be a busy core by another name.
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// How many workers there may be: more than any program needs, and each place costs memory.
pub(crate) const MOST_WORKERS: usize = 1 << 16;

impl ProcessPoolBuilder {
    /// Builds the pool. No process is started before the first task, or
    /// [`ready`](crate::ProcessPool::ready), unless there is something to be
    /// [kept warm](Self::min_workers).
    ///
    /// # Errors
    ///
    /// When an option has an impossible value; when the argument of an initializer cannot be
    /// encoded; when the crate's start-up code has not run in this process; when this copy of the
    /// crate is not part of the main program; when the program runs with raised privileges; when
    /// this is a task of a pool in a task of a pool, four deep; when the system refuses a call that
    /// no pool can do without, or has no room for a thread. [`BuildError`](crate::BuildError) tells them apart.
    ///
    /// That workers cannot be *started* is found out later: it is told by
    /// [`ready`](crate::ProcessPool::ready), and by the tasks.
    pub fn build(self) -> Result<ProcessPool, BuildError> {
        // Taken apart here, so that an option that is not used does not compile.
        let Self {
            workers,
            min_workers,
            idle_timeout,
            start_method,
            task_timeout,
            task_soft_timeout,
            start_timeout,
            handshake_timeout,
            max_frame,
            busy_poll,
            large_payloads,
            max_pending,
            max_async_per_worker,
            max_tasks_per_worker,
            max_age,
            max_memory_per_worker,
            retire_when,
            abort_grace,
            restart,
            inline,
            worker_name,
            worker,
            hooks,
            observing,
            stdout,
            stderr,
            runtime,
        } = self;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = workers.unwrap_or(cores);
        check(workers > 0, "the number of workers must be greater than 0")?;
        check(
            workers <= MOST_WORKERS,
            "the number of workers must not be greater than 65536",
        )?;
        check(
            min_workers <= workers,
            "more workers are to be kept warm than there may be",
        )?;
        check(
            idle_timeout != Some(Duration::ZERO),
            "the idle timeout must be greater than 0",
        )?;
        check(
            task_timeout != Some(Duration::ZERO),
            "a task timeout must be greater than 0",
        )?;
        check(
            task_soft_timeout != Some(Duration::ZERO),
            "a soft task timeout must be greater than 0",
        )?;
        check(
            (1..=BERTHS).contains(&max_async_per_worker),
            "the number of async tasks per worker must be between 1 and 1024",
        )?;
        check(
            max_tasks_per_worker != Some(0),
            "the number of tasks per worker must be greater than 0",
        )?;
        let max_tasks = max_tasks_per_worker.and_then(|tasks| NonZeroU64::new(tasks as u64));
        check(
            max_age != Some(Duration::ZERO),
            "a worker's age must be greater than 0",
        )?;
        check(
            max_memory_per_worker != Some(0),
            "the memory of a worker must be greater than 0",
        )?;
        if max_memory_per_worker.is_some() && !inline {
            Memory::of_self().map_err(BuildFault::Unmeasurable)?;
        }
        let retire_when = retire_when.map(Target::of::<_, ()>).transpose();
        let retire_when = retire_when.map_err(BuildFault::Foreign)?;
        check(
            start_method != StartMethod::Fork,
            "the workers of a pool cannot be forked from the program itself",
        )?;
        check(
            start_method == StartMethod::ForkServer || inline || !hooks.has_preload(),
            "what is preloaded can only be shared by workers of a fork server",
        )?;
        check(
            !start_timeout.is_zero(),
            "the start timeout must be greater than 0",
        )?;
        check(
            !handshake_timeout.is_zero(),
            "the handshake timeout must be greater than 0",
        )?;
        check(max_frame > 0, "the largest frame must be greater than 0")?;
        check(
            max_frame <= LONGEST_FRAME,
            "the largest frame must be less than 4 GiB",
        )?;
        check(
            busy_poll.is_none_or(|limit| limit <= LONGEST_POLL),
            "busy polling must not go on for longer than a second",
        )?;
        let named = worker_name
            .as_ref()
            .is_none_or(|name| !name.is_empty() && !name.contains('\0'));
        check(named, "a worker name must be a text without zero bytes")?;
        let Checked {
            environment,
            attributes,
            cores: worker_cores,
        } = worker.check()?;
        let (hooks, in_place) = if inline {
            (Hooks::default(), Some(hooks.settle_in_place()?))
        } else {
            fitness::check_for_a_pool().map_err(BuildFault::from)?;
            (hooks.settle()?, None)
        };
        let observed = observing.settle()?;
        let Hooks {
            preload,
            initializer,
            finalizer,
            leave_limit,
        } = hooks;
        let home = runtime.or_else(|| Handle::try_current().ok());
        check(
            home.as_ref().is_none_or(reactor::has_io),
            "the runtime must have I/O enabled (enable_io, or enable_all, of tokio's builder)",
        )?;
        let keeper = Keeper::get().map_err(BuildFault::System)?;
        let home = home.unwrap_or_else(|| keeper.handle().clone());
        let plan = Plan {
            rules: Rules {
                workers,
                starts_at_once: 2 * cores,
                restart,
                abort_grace: bounded(abort_grace),
                leave_limit: bounded(leave_limit),
                // What there is none of cannot be kept warm.
                min_workers: if inline { 0 } else { min_workers },
                idle_timeout: idle_timeout.map(bounded),
                renewal: Renewal {
                    max_tasks,
                    max_age: max_age.map(bounded),
                    max_memory: max_memory_per_worker,
                },
                slow_call: observed.slow_call,
            },
            label: worker_name.clone(),
            recipe: Recipe {
                name: worker_name.unwrap_or_else(default_name),
                depth: crate::worker::depth() + 1,
                max_frame,
                busy_poll: busy_poll.unwrap_or_default(),
                large_payloads,
                max_tasks,
                max_memory: max_memory_per_worker,
                retire_when,
                handshake_timeout: bounded(handshake_timeout),
                start_timeout: bounded(start_timeout),
                attributes,
                cores: worker_cores,
                initializer: initializer.is_some(),
                finalizer,
                worker_events: observed.worker_events,
                stdout,
                stderr,
            },
            max_pending,
            task_timeout: task_timeout.map(bounded),
            task_soft_timeout: task_soft_timeout.map(bounded),
            busy_poll,
            rooms: RoomRules {
                most: max_async_per_worker,
                grace: bounded(abort_grace),
                yield_limit: YIELD_LIMIT,
            },
            home,
        };
        let venue = match in_place {
            Some(in_place) => {
                // A hook cannot be changed while a panic is on its way through this thread.
                if !std::thread::panicking() {
                    panic::install_hook();
                }
                Venue::InPlace(in_place)
            }
            None => {
                let program = Program {
                    method: start_method,
                    environment,
                    boot: boot::boot_variable(),
                    shared: initializer,
                    handshake_timeout: bounded(handshake_timeout),
                    preload,
                    preload_limit: bounded(start_timeout),
                };
                Venue::Workers(Launcher::new(keeper.clone(), program))
            }
        };
        Ok(crate::ProcessPool::new_with(Driver::start(
            plan, venue, keeper,
        )))
    }
}

pub(super) fn check(holds: bool, otherwise: &'static str) -> Result<(), BuildError> {
    if holds {
        Ok(())
    } else {
        Err(BuildFault::Invalid(otherwise).into())
    }
}

fn default_name() -> String {
    static POOLS: AtomicU64 = AtomicU64::new(1);
    format!("procpool{}", POOLS.fetch_add(1, Ordering::Relaxed))
}
