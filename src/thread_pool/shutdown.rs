//! The end of a pool of threads, in all the ways in which it can be asked for.

use std::future::Future;
use std::sync::Arc;

use super::ThreadPool;
use super::driver::{Driver, Lifetime};
use crate::pool::error::{Ability, Kind, NotClosed, Unsupported};
use crate::pool::shutdown::ShutdownOptions;

/// What a task is told that a `terminate` has kept from being started.
const TERMINATED: Kind = Kind::ShutDown { started: false };

/// Ending it. A task that waits for the end of its own pool waits for ever.
impl ThreadPool {
    /// Takes no new work. What was accepted is finished; then the threads end.
    ///
    /// Idempotent, as everything here that ends a pool, and never blocks. A later call is refused
    /// with an error that [says so](crate::TaskError::is_shut_down).
    pub fn close(&self) {
        self.driver().close();
    }

    /// Waits until a closed pool has finished everything and its threads have left.
    ///
    /// # Errors
    ///
    /// At once, when the pool has not been closed: it would wait for ever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only watches, and can be called again, by any number of tasks.
    pub async fn join(&self) -> Result<(), NotClosed> {
        if !self.is_closed() {
            return Err(NotClosed(()));
        }
        finished(self.driver().clone()).await;
        Ok(())
    }

    /// Takes no new work, and waits until everything is finished: [`close`](Self::close) and
    /// [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the pool closed; it winds down by itself. A future that was never
    /// polled has done nothing.
    pub async fn shutdown(&self) {
        self.close();
        finished(self.driver().clone()).await;
    }

    /// Takes no new work, cancels what has not been started, and waits for what runs.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_now(&self) {
        self.driver().close_and_drop(&Kind::Cancelled);
        finished(self.driver().clone()).await;
    }

    /// Ends what can be ended: what waits resolves as
    /// [shut down](crate::TaskError::is_shut_down) at once, so do async tasks, and threads that run
    /// nothing leave. Blocking tasks that run are
    /// [asked](crate::task::TaskContext::is_cancelled) to come to their ends. The ending does not wait for the
    /// future to be polled.
    ///
    /// # Errors
    ///
    /// At once, if a blocking task is running: that goes on until it comes to its end, its handle
    /// resolves then, and [`join`](Self::join) waits for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the waiting.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// let nap = |millis| std::thread::sleep(Duration::from_millis(millis));
    /// let (first, second) = (pool.submit(nap, 200), pool.submit(nap, 201));
    /// while !first.is_running() {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    /// }
    /// assert!(pool.terminate().await.is_err(), "a thread cannot be killed");
    /// assert!(second.await.unwrap_err().is_shut_down());
    /// first.await?; // it ran to its end
    /// pool.join().await?;
    /// # Ok(()) }
    /// ```
    pub fn terminate(&self) -> impl Future<Output = Result<(), Unsupported>> + Send + use<> {
        let driver = self.driver().clone();
        driver.close_and_drop(&TERMINATED);
        driver.end_all(&Kind::ShutDown { started: true });
        async move {
            if driver.is_running() {
                return Err(Unsupported(Ability::EndRunning));
            }
            finished(driver).await;
            Ok(())
        }
    }

    /// Shuts the pool down in the way that the options say. A
    /// [limit](ShutdownOptions::timeout) ends what [`terminate`](Self::terminate) ends, and the waiting.
    ///
    /// # Errors
    ///
    /// When the limit has passed and something still runs, which goes on.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown); a limit that was set holds on.
    pub async fn shutdown_with(&self, options: ShutdownOptions) -> Result<(), Unsupported> {
        let ShutdownOptions {
            wait,
            cancel_pending,
            timeout,
        } = options;
        let driver = self.driver();
        if cancel_pending {
            driver.close_and_drop(&Kind::Cancelled);
        } else {
            driver.close();
        }
        if let Some(limit) = timeout {
            driver.close_and_drop_after(limit, TERMINATED);
        }
        if !wait {
            return Ok(());
        }
        let over =
            |lifetime: &Lifetime| lifetime.finished || (lifetime.expired && timeout.is_some());
        // The sender lives in the driver, which lives as long as this borrow.
        let _ = driver.watch().wait_for(over).await;
        if driver.is_running() {
            return Err(Unsupported(Ability::EndRunning));
        }
        finished(driver.clone()).await;
        Ok(())
    }
}

async fn finished(driver: Arc<Driver>) {
    // The sender lives in the driver, which this holds.
    let _ = driver.watch().wait_for(|lifetime| lifetime.finished).await;
}
