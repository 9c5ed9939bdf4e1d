//! The end of a pool, in all the ways in which it can be asked for.

use std::future::Future;
use std::time::Duration;

use super::ProcessPool;
use super::builder::bounded;
use super::error::NotClosed;
use super::scheduler::Event;

/// Options of [`ProcessPool::shutdown_with`](crate::ProcessPool::shutdown_with).
///
/// ```
/// use std::time::Duration;
/// use procpool::{ProcessPool, ShutdownOptions};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// // Drop what has not been started, and give what runs ten seconds.
/// let options = ShutdownOptions::new().cancel_pending(true).timeout(Duration::from_secs(10));
/// pool.shutdown_with(options).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until they are given to `shutdown_with`"]
pub struct ShutdownOptions {
    pub(crate) wait: bool,
    pub(crate) cancel_pending: bool,
    pub(crate) timeout: Option<Duration>,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self {
            wait: true,
            cancel_pending: false,
            timeout: None,
        }
    }
}

impl ShutdownOptions {
    /// Returns the options of a plain [`shutdown`](crate::ProcessPool::shutdown): wait for
    /// everything, cancel nothing, as long as it takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether to wait until everything is over. Default: true. Without it
    /// [`shutdown_with`](crate::ProcessPool::shutdown_with) resolves at once, and the pool winds
    /// down by itself; [`join`](crate::ProcessPool::join) waits for that later.
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Sets whether tasks that have not been started are cancelled. Default: false.
    pub fn cancel_pending(mut self, cancel: bool) -> Self {
        self.cancel_pending = cancel;
        self
    }

    /// Ends everything that is not over after this time, as
    /// [`terminate`](crate::ProcessPool::terminate) does. Default: no limit. The limit holds also
    /// without [waiting](Self::wait), and when the future of `shutdown_with` is dropped.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(bounded(limit));
        self
    }
}

/// Ending it.
impl ProcessPool {
    /// Takes no new work. What was accepted is finished; then the workers leave.
    ///
    /// Idempotent, as everything here that ends a pool, and never blocks. A later call is refused
    /// with an error that [says so](crate::TaskError::is_shut_down).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let accepted = pool.submit(|n: u64| n + 1, 1);
    /// pool.close();
    /// assert!(pool.submit(|n: u64| n + 1, 2).await.unwrap_err().is_shut_down());
    /// assert_eq!(accepted.await?, 2);
    /// # Ok(()) }
    /// ```
    pub fn close(&self) {
        self.driver().tell(Event::Close);
    }

    /// Waits until a closed pool has finished everything and no process of it is left.
    ///
    /// # Errors
    ///
    /// At once, when the pool has not been closed: it would wait for ever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only watches, and can be called again, by any number of tasks.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// assert!(pool.join().await.is_err(), "it still takes work");
    /// let last = pool.submit(|n: u64| n + 1, 1);
    /// pool.close();
    /// pool.join().await?;
    /// assert_eq!(last.await?, 2);
    /// # Ok(()) }
    /// ```
    pub async fn join(&self) -> Result<(), NotClosed> {
        let driver = self.driver();
        let mut lifetime = driver.watch();
        if !lifetime.borrow().closed {
            return Err(NotClosed(()));
        }
        driver.awaited_here();
        // The sender lives in the driver, which lives as long as this borrow.
        let _ = lifetime.wait_for(|lifetime| lifetime.finished).await;
        driver.let_go().await;
        Ok(())
    }

    /// Takes no new work, and waits until everything is finished and no process is left:
    /// [`close`](Self::close) and [`join`](Self::join).
    ///
    /// A task that never ends keeps it waiting; [`ShutdownOptions::timeout`] sets a limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the pool closed; it winds down by itself. A future that was never
    /// polled has done nothing.
    pub async fn shutdown(&self) {
        self.shutdown_with(ShutdownOptions::new()).await;
    }

    /// Takes no new work, cancels what has not been started, and waits for what runs.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let nap = |millis| std::thread::sleep(Duration::from_millis(millis));
    /// let (first, second) = (pool.submit(nap, 300), pool.submit(nap, 301));
    /// while !first.is_running() {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    /// }
    /// pool.shutdown_now().await;
    /// first.await?; // it ran, and was let finish
    /// assert!(second.await.unwrap_err().is_cancelled());
    /// # Ok(()) }
    /// ```
    pub async fn shutdown_now(&self) {
        self.shutdown_with(ShutdownOptions::new().cancel_pending(true))
            .await;
    }

    /// Ends everything: what waits and what runs resolves as
    /// [shut down](crate::TaskError::is_shut_down) at once, the workers are killed, and when the future
    /// resolves no process is left. Results that were finished before that are still delivered.
    ///
    /// The ending does not wait for the future to be polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the waiting.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let endless = pool.submit(|_: ()| loop { std::thread::park() }, ());
    /// pool.terminate().await;
    /// let outcome: Result<(), _> = endless.await;
    /// assert!(outcome.unwrap_err().is_shut_down());
    /// # Ok(()) }
    /// ```
    pub fn terminate(&self) -> impl Future<Output = ()> + Send + use<> {
        self.driver().tell(Event::Terminate);
        let pool = self.clone();
        async move {
            let _ = pool.join().await;
        }
    }

    /// Shuts the pool down in the way that the options say.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown); a limit that was set holds on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procpool::ShutdownOptions;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let endless = pool.submit(|_: ()| -> () { loop { std::thread::park() } }, ());
    /// pool.shutdown_with(ShutdownOptions::new().timeout(Duration::from_millis(100))).await;
    /// assert!(endless.await.unwrap_err().is_shut_down());
    /// # Ok(()) }
    /// ```
    pub async fn shutdown_with(&self, options: ShutdownOptions) {
        let ShutdownOptions {
            wait,
            cancel_pending,
            timeout,
        } = options;
        let driver = self.driver();
        driver.tell(if cancel_pending {
            Event::CancelPending
        } else {
            Event::Close
        });
        if let Some(limit) = timeout {
            driver.terminate_after(limit);
        }
        if wait {
            let _ = self.join().await;
        }
    }
}
