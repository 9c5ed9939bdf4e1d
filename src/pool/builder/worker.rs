//! The options that say what the workers' processes are like.

use std::ffi::OsString;
use std::path::PathBuf;

use super::ProcessPoolBuilder;
use super::build::check;
use crate::pool::error::{BuildError, BuildFault};
use crate::process::Environment;
use crate::sys::attributes::{Attributes, MOST_CORES, Resource};

/// What all workers of a pool are given by the system, and what each.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerOptions {
    environment: Environment,
    attributes: Attributes,
    /// The cores of each worker, by its place and round again; empty for no change.
    cores: Vec<Vec<usize>>,
}

impl ProcessPoolBuilder {
    /// Sets an environment variable for the workers, beside those of the program, which they
    /// inherit as they are when the workers' first process is started. May be called repeatedly.
    /// A key that is empty or has `=` or a zero byte in it, and a value that has a zero byte, are
    /// errors of [`build`](Self::build).
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.worker.environment.set(key.into(), value.into());
        self
    }

    /// Keeps an environment variable from the workers.
    ///
    /// ```
    /// let builder = procpool::ProcessPool::builder().env_remove("DATABASE_PASSWORD");
    /// ```
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.worker.environment.remove(key.into());
        self
    }

    /// Keeps all environment variables from the workers, but for those that are
    /// [set](Self::env) after this.
    ///
    /// That includes `LD_LIBRARY_PATH`, without which some programs do not start.
    ///
    /// ```
    /// use procpool::ProcessPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ProcessPool::builder().workers(1).env_clear().env("LANG", "C").build()?;
    /// let home = pool.submit(|name: String| std::env::var(name).ok(), "HOME".to_owned()).await?;
    /// assert_eq!(home, None);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn env_clear(mut self) -> Self {
        self.worker.environment.clear();
        self
    }

    /// Sets the workers' working directory. Default: that of the program. A relative path begins
    /// where the program is when [`build`](Self::build) is called.
    ///
    /// As everything that the system may refuse to a worker, a directory that is not there is an
    /// error of [`ready`](crate::ProcessPool::ready) and, when it has happened five times in a row,
    /// of every task: the pool is [broken](crate::TaskError::is_broken).
    ///
    /// ```
    /// use procpool::ProcessPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ProcessPool::builder().workers(1).current_dir("/").build()?;
    /// let here = pool.submit(|_: ()| std::env::current_dir().unwrap(), ()).await?;
    /// assert_eq!(here.to_str(), Some("/"));
    /// # pool.shutdown().await;
    ///
    /// let pool = ProcessPool::builder().workers(1).current_dir("/nowhere").build()?;
    /// let error = pool.ready().await.unwrap_err();
    /// assert!(error.to_string().starts_with("could not go to the directory /nowhere: No such file"));
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.worker.attributes.directory = Some(path.into().into_os_string());
        self
    }

    /// Sets the workers' nice value, from -20 to 19: workers with a greater one get less of the
    /// processors while others want them. Default: that of the program. Whoever is not privileged
    /// may only make it greater.
    ///
    /// A program that must answer while its workers compute gives them a greater one than its own:
    ///
    /// ```
    /// use procpool::ProcessPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ProcessPool::builder().workers(1).nice(10).build()?;
    /// pool.ready().await?;
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn nice(mut self, nice: i32) -> Self {
        self.worker.attributes.nice = Some(nice);
        self
    }

    /// Sets the cores on which the workers may run, all of them on each of these. Default: those of
    /// the program. The number of workers does not follow from it.
    ///
    /// Cores are counted from zero; of those that the system does not have or does not give to the
    /// program, at least one has to be left.
    ///
    /// ```
    /// use procpool::ProcessPool;
    ///
    /// // The program keeps the first core to itself.
    /// let builder = ProcessPool::builder().workers(3).cpu_affinity(1..4);
    /// ```
    pub fn cpu_affinity(self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cpu_affinity_per_worker([cores])
    }

    /// Sets the cores of each worker: the first set is the first worker's, and so on, and then round
    /// again. A worker that replaces another gets that one's cores.
    ///
    /// ```
    /// use procpool::ProcessPool;
    ///
    /// // Eight workers, two of them on each of four cores.
    /// let builder = ProcessPool::builder()
    ///     .workers(8)
    ///     .cpu_affinity_per_worker((0..4).map(|core| [core]));
    /// ```
    pub fn cpu_affinity_per_worker<C>(mut self, cores: impl IntoIterator<Item = C>) -> Self
    where
        C: IntoIterator<Item = usize>,
    {
        let cores = cores.into_iter().map(|cores| cores.into_iter().collect());
        self.worker.cores = cores.collect();
        // So that an empty list of sets is refused as an empty set is.
        if self.worker.cores.is_empty() {
            self.worker.cores.push(Vec::new());
        }
        self
    }

    /// Limits a resource for each worker: the soft limit is what holds, the hard one is how far the
    /// worker may raise it. [`Resource::UNLIMITED`] is no limit. Default: the program's limits. May
    /// be called for several resources.
    ///
    /// Whoever is not privileged may not raise a hard limit.
    ///
    /// ```
    /// use procpool::{ProcessPool, Resource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ProcessPool::builder()
    ///     .workers(1)
    ///     .rlimit(Resource::Core, 0, 0)
    ///     .rlimit(Resource::AddressSpace, 1 << 40, 1 << 40)
    ///     .build()?;
    /// let huge = |bytes: usize| Vec::<u8>::new().try_reserve_exact(bytes).is_err();
    /// assert!(pool.submit(huge, 1 << 41).await?, "there is no room for 2 TiB");
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        let limits = &mut self.worker.attributes.limits;
        limits.retain(|(other, ..)| *other != resource);
        limits.push((resource, soft, hard));
        self
    }

    /// Sets how likely the kernel is to choose a worker when memory runs out and something has to
    /// be killed, from -1000 (never) to 1000 (before anything else). Default: 200 more than the
    /// program has, so that a worker goes before the program. Whoever is not privileged may not go
    /// below what the program has.
    ///
    /// ```
    /// let builder = procpool::ProcessPool::builder().oom_score_adj(1000);
    /// ```
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.worker.attributes.oom_score_adj = Some(score);
        self
    }
}

/// The options, checked.
pub(super) struct Checked {
    pub(super) environment: Environment,
    pub(super) attributes: Attributes,
    pub(super) cores: Vec<Vec<usize>>,
}

impl WorkerOptions {
    /// Refuses what no system could do, and settles what depends on this moment.
    pub(super) fn check(self) -> Result<Checked, BuildError> {
        let Self {
            environment,
            mut attributes,
            cores,
        } = self;
        check(
            environment.is_possible(),
            "an environment variable has an impossible name or value",
        )?;
        let within = |value: Option<i32>, least, most| {
            value.is_none_or(|value| (least..=most).contains(&value))
        };
        check(
            within(attributes.nice, -20, 19),
            "a nice value must be from -20 to 19",
        )?;
        check(
            within(attributes.oom_score_adj, -1000, 1000),
            "an OOM score adjustment must be from -1000 to 1000",
        )?;
        check(
            cores.iter().all(|cores| !cores.is_empty()),
            "a worker must have at least one core",
        )?;
        check(
            cores.iter().flatten().all(|core| *core < MOST_CORES),
            "the number of a core must be less than 1024",
        )?;
        check(
            attributes.limits.iter().all(|(_, soft, hard)| soft <= hard),
            "a soft limit must not be greater than the hard one",
        )?;
        if let Some(directory) = &mut attributes.directory {
            let bytes = directory.as_encoded_bytes();
            check(
                !bytes.is_empty() && !bytes.contains(&0) && bytes.len() < 4096,
                "a working directory must be a path",
            )?;
            let absolute = std::path::absolute(&*directory).map_err(BuildFault::Directory)?;
            *directory = absolute.into_os_string();
        }
        Ok(Checked {
            environment,
            attributes,
            cores,
        })
    }
}
