//! What no pool can do without and not every system grants: calls that are younger than some
//! kernels, or unknown to the filters of some containers. Tried out before a pool is built, since
//! a pool that found out later could not end what it has started.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{mapping, pidfd, wait};

/// A call that the system refuses.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {error}")]
pub(crate) struct Refused {
    call: &'static str,
    #[source]
    error: io::Error,
}

/// Makes each of those calls once, in a way that changes nothing.
///
/// Anything else that goes wrong with them is no refusal: what is scarce now may be there when it
/// is needed.
pub(crate) fn check() -> Result<(), Refused> {
    // That children are woken when the thread goes that started them.
    let death_signal = rustix::process::parent_process_death_signal().map(|_| ());
    granted("prctl", death_signal.map_err(io::Error::from))?;
    let page = mapping::sealed_file("procpool-try", 1);
    granted("memfd_create", page.map(|_| ()))?;
    let own = match pidfd::open_own() {
        Ok(own) => own,
        Err(error) => return granted("pidfd_open", Err(error)),
    };
    granted("pidfd_send_signal", pidfd::try_to_signal(own.as_fd()))?;
    match wait::reap(own.as_fd()) {
        // Nobody is a child of its own.
        Err(error) if error.raw_os_error() == Some(Errno::CHILD.raw_os_error()) => Ok(()),
        other => granted("waitid", other.map(|_| ())),
    }
}

fn granted(call: &'static str, tried: io::Result<()>) -> Result<(), Refused> {
    let refusals = [Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::INVAL];
    match tried {
        Err(error) if refusals.iter().any(|refusal| is(&error, *refusal)) => {
            Err(Refused { call, error })
        }
        _ => Ok(()),
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_system_grants_all() {
        check().unwrap();
    }

    #[test]
    fn what_is_refused_is_named_and_what_is_scarce_is_not_refused() {
        let error = |errno: Errno| Err(io::Error::from(errno));
        let refused = granted("pidfd_open", error(Errno::NOSYS)).unwrap_err();
        assert!(refused.to_string().starts_with("pidfd_open: "), "{refused}");
        assert!(granted("pidfd_open", error(Errno::PERM)).is_err());
        assert!(granted("pidfd_open", error(Errno::MFILE)).is_ok());
        assert!(granted("pidfd_open", Ok(())).is_ok());
    }
}
