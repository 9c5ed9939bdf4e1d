//! Where processes are started from: one fork server for all that want one, which is there while any
//! of them is.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::error::{SpawnError, SpawnFault};
use crate::StartMethod;
use crate::process::{Child, Environment, Keeper, Launcher, Order, Own, Program};
use crate::worker::boot;

/// How long a fork server stays when there is nothing left that came from it: to start one costs a
/// few milliseconds, and who has started one process often starts another.
pub(super) const LINGER: Duration = Duration::from_millis(50);

/// How long a fork server may take to be ready, and to answer.
const HANDSHAKE: Duration = Duration::from_millis(7500);

/// Something to start processes from. Dropping it waits for nobody: what it has started stays.
#[derive(Debug)]
pub(super) struct Home {
    launcher: Launcher,
    keeper: Arc<Keeper>,
}

static SHARED: Own<Mutex<Weak<Home>>> = Own::new();

impl Home {
    /// The home for processes that are started in that way. `environment` is how theirs differs from
    /// the program's, and left there if it is for them to see to.
    pub(super) fn of(
        method: StartMethod,
        environment: &mut Environment,
    ) -> Result<Arc<Self>, SpawnError> {
        if method == StartMethod::Spawn {
            return Self::new(method, std::mem::take(environment));
        }
        let mut shared = SHARED.get().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = shared.upgrade() {
            return Ok(home);
        }
        let home = Self::new(method, Environment::default())?;
        *shared = Arc::downgrade(&home);
        Ok(home)
    }

    fn new(method: StartMethod, environment: Environment) -> Result<Arc<Self>, SpawnError> {
        let keeper = Keeper::get().map_err(SpawnError::system("start the crate's own thread"))?;
        let program = Program {
            method,
            environment,
            boot: boot::boot_variable(),
            shared: None,
            handshake_timeout: HANDSHAKE,
        };
        let launcher = Launcher::new(Arc::clone(&keeper), program);
        Ok(Arc::new(Self { launcher, keeper }))
    }

    pub(super) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    pub(super) async fn launch(&self, order: Order) -> Result<Child, SpawnError> {
        let launched = self.launcher.launch(order).await;
        launched.map_err(|error| SpawnFault::Start(error).into())
    }
}
