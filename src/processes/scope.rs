//! Waiting for processes, and for those alone that were started for it.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::future::{join_all, select};
use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::Body;
use super::builder::ProcessBuilder;
use super::error::{SpawnError, SpawnFault};
use super::registry::GRACE;
use super::spawn::Spawning;
use crate::process::{Keeper, Sleep};

/// Runs `body` and then waits for the processes that were started in the scope. It returns when all
/// of them have ended, and their process groups: what they leave is killed.
///
/// [Daemons](ProcessBuilder::daemon) are not waited for: when the others have ended they are sent
/// SIGTERM, and are killed half a second later.
///
/// # Cancel safety
///
/// Dropping the future, and a panic of the body, kill all processes of the scope.
///
/// ```
/// use procpool::processes;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let squares = processes::scope(|scope| async move {
///     let one = scope.spawn(|n: u32| n * n, 2).await?;
///     let other = scope.builder().name("the other").spawn(|n: u32| n * n, 3).await?;
///     // Nobody joins this one but the scope.
///     scope.spawn(|text: String| println!("{text}"), "hello".to_owned()).await?;
///     Ok::<_, Box<dyn std::error::Error>>((one.join().await?, other.join().await?))
/// });
/// assert_eq!(squares.await?, (4, 9));
/// assert!(procpool::active_children().is_empty());
/// # Ok(()) }
/// ```
pub async fn scope<T, F: Future<Output = T>>(body: impl FnOnce(Scope) -> F) -> T {
    let members = Members::default();
    let unattended = Unattended(members.clone());
    let value = body(Scope(members.clone())).await;
    members.see_off().await;
    drop(unattended);
    value
}

/// The same on a thread that may block.
///
/// ```
/// use procpool::{SpawnError, processes};
///
/// fn main() -> Result<(), SpawnError> {
///     processes::blocking_scope(|scope| {
///         for name in ["one", "another"] {
///             scope.spawn(|name: String| println!("{name}"), name.to_owned()).blocking_wait()?;
///         }
///         Ok(())
///     })
/// }
/// ```
pub fn blocking_scope<T>(body: impl FnOnce(Scope) -> T) -> T {
    let members = Members::default();
    let unattended = Unattended(members.clone());
    let value = body(Scope(members.clone()));
    members.blocking_see_off();
    drop(unattended);
    value
}

/// Starts processes that are waited for. Got from [`scope`] and [`blocking_scope`].
///
/// May be cloned and handed on; when the scope is over, nothing is started in it any more.
#[derive(Clone, Debug)]
pub struct Scope(Members);

impl Scope {
    /// Starts a process that calls `function` with `argument`. See [`ProcessBuilder::spawn`].
    ///
    /// # Errors
    ///
    /// As there; and when the scope [is over](SpawnError::is_scope_over).
    pub fn spawn<A, R>(&self, function: fn(A) -> R, argument: A) -> Spawning<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.builder().spawn(function, argument)
    }

    /// Returns the options for a process of this scope.
    pub fn builder(&self) -> ProcessBuilder {
        ProcessBuilder {
            scope: Some(self.0.clone()),
            ..ProcessBuilder::default()
        }
    }
}

/// The processes of a scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    over: bool,
    bodies: Vec<Arc<Body>>,
}

impl Members {
    /// Takes a new one in.
    ///
    /// # Errors
    ///
    /// When the scope is over.
    pub(super) fn admit(&self, body: &Arc<Body>) -> Result<(), SpawnError> {
        let mut state = self.lock();
        if state.over {
            return Err(SpawnFault::ScopeOver.into());
        }
        state.bodies.retain(|body| body.told().is_none());
        state.bodies.push(Arc::clone(body));
        Ok(())
    }

    /// Waits for all but daemons, and ends those.
    async fn see_off(&self) {
        while let Some(body) = self.next_to_wait_for() {
            body.ended().await;
        }
        let daemons = self.dismiss();
        if daemons.is_empty() {
            return;
        }
        let all_ended = || join_all(daemons.iter().map(|daemon| Arc::clone(daemon).ended()));
        if let Ok(keeper) = Keeper::get() {
            select(all_ended(), Sleep::on(keeper.handle(), GRACE)).await;
        }
        daemons.iter().for_each(|daemon| daemon.kill());
        all_ended().await;
    }

    /// The same on a thread that may block.
    fn blocking_see_off(&self) {
        while let Some(body) = self.next_to_wait_for() {
            body.blocking_ended(None);
        }
        let deadline = Instant::now() + GRACE;
        for daemon in self.dismiss() {
            let left = deadline.saturating_duration_since(Instant::now());
            if daemon.blocking_ended(Some(left)).is_none() {
                daemon.kill();
                daemon.blocking_ended(None);
            }
        }
    }

    /// Asks the daemons to end.
    fn dismiss(&self) -> Vec<Arc<Body>> {
        let daemons = std::mem::take(&mut self.lock().bodies);
        for daemon in &daemons {
            // Whom this cannot reach, SIGKILL does.
            let _ = daemon.signal(Signal::TERM);
        }
        daemons
    }

    /// One that is to be waited for; where there is none the scope is over.
    fn next_to_wait_for(&self) -> Option<Arc<Body>> {
        let mut state = self.lock();
        state.bodies.retain(|body| body.told().is_none());
        let mut bodies = state.bodies.iter();
        let next = bodies.find(|body| !body.is_daemon()).cloned();
        state.over = next.is_none();
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A scope that nobody waits for any more when this is dropped, unless it is over.
struct Unattended(Members);

impl Drop for Unattended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.over = true;
        let unattended = std::mem::take(&mut state.bodies);
        drop(state);
        for body in unattended {
            body.kill();
            body.let_go();
        }
    }
}
