//! Sleeping until a bell is rung or a process ends, in a future or on a thread.
//!
//! What has happened since the last look is news, so the order is: look, sleep, look.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::cell::Cell;
use crate::process::{Keeper, Sleep, home};
use crate::sys::bell::Watch;
use crate::sys::incarnation::Incarnation;
use crate::sys::{pidfd, reactor};

/// Somebody who sleeps at times.
#[derive(Debug)]
pub(crate) struct Vigil {
    watch: Watch,
    /// Whose ends are news as well.
    attended: Vec<(Incarnation, OwnedFd)>,
}

impl Vigil {
    /// Begins at one of the bells; what happens from now on is news.
    pub(crate) fn at(cell: &Cell, bell: usize) -> io::Result<Self> {
        let watch = Watch::of(cell.bell(bell))?;
        watch.take_in()?;
        Ok(Self {
            watch,
            attended: Vec::new(),
        })
    }

    /// Attends to that process, and to no other any more; tells whether it lives.
    pub(crate) fn attend(&mut self, process: Incarnation) -> io::Result<bool> {
        self.attend_to(&[process]).map(|dead| dead.is_none())
    }

    /// Attends to those processes, and to no others any more; tells of one that has died.
    pub(crate) fn attend_to(
        &mut self,
        processes: &[Incarnation],
    ) -> io::Result<Option<Incarnation>> {
        let Self { watch, attended } = self;
        attended.retain(|(one, pidfd)| {
            let stays = processes.contains(one);
            if !stays {
                watch.remove(pidfd);
            }
            stays
        });
        for process in processes {
            let known = attended.iter().find(|(one, _)| one == process);
            let lives = match known {
                Some((_, pidfd)) => !pidfd::has_ended(pidfd.as_fd())?,
                None => match process.open()? {
                    Some(pidfd) => {
                        watch.add(&pidfd)?;
                        attended.push((*process, pidfd));
                        true
                    }
                    None => false,
                },
            };
            if !lives {
                return Ok(Some(*process));
            }
        }
        Ok(None)
    }

    /// Sleeps on this thread until there is news, at most until `deadline`.
    pub(crate) fn sleep(&self, deadline: Option<Instant>) -> io::Result<()> {
        self.watch.sleep(deadline)
    }

    /// From now on it sleeps in futures.
    pub(crate) fn in_future(&self) -> io::Result<Rest> {
        let (home, keeper) = home()?;
        let _inside = home.enter();
        Ok(Rest {
            watch: self.watch.clone(),
            news: reactor::register(self.watch.descriptor(), Interest::READABLE)?,
            keeper,
        })
    }
}

/// Sleep in a future.
#[derive(Debug)]
pub(crate) struct Rest {
    watch: Watch,
    news: AsyncFd<Arc<OwnedFd>>,
    /// What drives the reactor, where the runtime has none.
    keeper: Option<Arc<Keeper>>,
}

impl Rest {
    /// Sleeps until there is news, at most that long. Cancel safe.
    pub(crate) async fn sleep(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let Self {
            watch,
            news,
            keeper,
        } = self;
        let readable = async {
            let mut news = news.readable().await?;
            watch.take_in()?;
            // Unless there is more since.
            news.clear_ready();
            Ok(())
        };
        let Some(limit) = limit else {
            return readable.await;
        };
        if keeper.is_none() {
            *keeper = Some(Keeper::get()?);
        }
        let clock = keeper.as_ref().expect("it was just there");
        let asleep = Sleep::on(clock.handle(), limit);
        match select(pin!(readable), asleep).await {
            Either::Left((news, _)) => news,
            Either::Right(_) => Ok(()),
        }
    }
}
