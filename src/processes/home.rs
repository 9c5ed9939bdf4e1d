//! Where processes are started from: one fork server for all that want the same of it, which is there
//! while any of them is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::error::{SpawnError, SpawnFault};
use crate::StartMethod;
use crate::process::{Child, Environment, Keeper, Launcher, Order, Own, Program};
use crate::sys::mapping;
use crate::worker::boot;

/// How long a fork server stays when there is nothing left that came from it: to start one costs a
/// few milliseconds, and who has started one process often starts another.
pub(super) const LINGER: Duration = Duration::from_millis(50);

/// How long a fork server may take to be ready, and to answer.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long it may take for what it is to preload.
const PRELOAD: Duration = Duration::from_secs(60);

/// Something to start processes from. Dropping it waits for nobody: what it has started stays.
#[derive(Debug)]
pub(super) struct Home {
    launcher: Launcher,
    keeper: Arc<Keeper>,
}

/// Each by what it has preloaded: hooks, encoded.
type Homes = BTreeMap<Vec<Vec<u8>>, Weak<Home>>;

static SHARED: Own<Mutex<Homes>> = Own::new();

impl Home {
    /// The home for processes that are started in that way. `environment` is how theirs differs from
    /// the program's, and left there if it is for them to see to.
    pub(super) fn of(
        method: StartMethod,
        environment: &mut Environment,
        preload: Vec<Vec<u8>>,
    ) -> Result<Arc<Self>, SpawnError> {
        if method == StartMethod::Spawn {
            return Self::new(method, std::mem::take(environment), &[]);
        }
        let mut shared = SHARED.get().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = shared.get(&preload).and_then(Weak::upgrade) {
            return Ok(home);
        }
        let home = Self::new(method, Environment::default(), &preload)?;
        shared.retain(|_, other| other.strong_count() > 0);
        shared.insert(preload, Arc::downgrade(&home));
        Ok(home)
    }

    fn new(
        method: StartMethod,
        environment: Environment,
        preload: &[Vec<u8>],
    ) -> Result<Arc<Self>, SpawnError> {
        let keeper = Keeper::get().map_err(SpawnError::system("start the crate's own thread"))?;
        let files = preload
            .iter()
            .map(|hook| mapping::sealed_copy("procpool-hook", &[hook]));
        let preload = files
            .collect::<Result<_, _>>()
            .map_err(SpawnError::system("make room for what is preloaded"))?;
        let program = Program {
            method,
            environment,
            boot: boot::boot_variable(),
            shared: None,
            handshake_timeout: HANDSHAKE,
            preload,
            preload_limit: PRELOAD,
        };
        let launcher = Launcher::new(Arc::clone(&keeper), program);
        Ok(Arc::new(Self { launcher, keeper }))
    }

    pub(super) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    pub(super) async fn launch(&self, order: Order) -> Result<Child, SpawnError> {
        let launched = async {
            self.launcher.prepare().await?;
            self.launcher.launch(order).await
        };
        launched
            .await
            .map_err(|error| SpawnFault::Start(error).into())
    }
}
