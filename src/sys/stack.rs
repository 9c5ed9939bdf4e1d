//! The report of a stack overflow. std installs its own before `main`, which a process that becomes
//! a worker earlier than that does not reach; without one an overflow is a SIGSEGV like any other.
//!
//! The handler runs on a stack of its own, since the thread's has no room left. It takes a fault
//! for an overflow if its address lies just below the thread's stack. Every other fault gets its
//! default effect back and happens again, so that the process dies of its own signal, at its own
//! place.

use std::cell::Cell;
use std::mem::{self, MaybeUninit};
use std::{io, ptr};

use super::signal;

/// Has an overflow of the calling thread's stack reported on standard error and turned into
/// SIGABRT, as std does for the threads that it starts.
///
/// A `fork` inherits that. It must be called again when the limit of the main thread's stack is
/// changed. Handlers that somebody else has set stay. The thread's signal stack is never given
/// back, so this is for threads that live as long as the process.
///
/// The main thread's stack grows until it reaches RLIMIT_STACK. Without a limit it grows until it
/// meets another mapping, and libc gives the place where that would be now; in practice memory runs
/// out long before.
pub(crate) fn report_overflow_on_this_thread() -> io::Result<()> {
    OVERFLOW.set(below_this_stack()?);
    ensure_signal_stack()?;
    for number in [libc::SIGSEGV, libc::SIGBUS] {
        let now = signal::disposition(number);
        if now.is_some_and(|now| now.sa_sigaction == libc::SIG_DFL) {
            // SAFETY: `on_fault` does only what a handler may do, as it says line by line.
            unsafe { signal::handle(number, on_fault)? };
        }
    }
    Ok(())
}

thread_local! {
    /// Where a fault means that this thread's stack has overflowed. Neither built at first use nor
    /// dropped, so that the handler may read it.
    static OVERFLOW: Cell<Addresses> = const { Cell::new(Addresses { start: 0, end: 0 }) };
}

/// A `Range` that can be copied.
#[derive(Clone, Copy)]
struct Addresses {
    start: usize,
    end: usize,
}

extern "C" fn on_fault(number: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid description to a SA_SIGINFO handler. For a signal that some
    // process sent, the address is another field's bytes, and is not used.
    let (address, sent) = unsafe { ((*info).si_addr() as usize, (*info).si_code <= 0) };
    // No allocation and no destructor: see there.
    let overflow = OVERFLOW.get();
    if !sent && (overflow.start..overflow.end).contains(&address) {
        report_and_abort();
    }
    // A system call, no more; the same goes for `raise`.
    signal::reset(number);
    if sent {
        // Going back would not make it happen again, as a fault does.
        // SAFETY: the call has no conditions; the signal is blocked until this handler returns.
        unsafe { libc::raise(number) };
    }
}

/// Uses system calls and `abort`, all of which are allowed in a handler.
fn report_and_abort() -> ! {
    const NAME_SIZE: usize = 16;
    let mut name = [0_u8; NAME_SIZE];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, with a zero behind the name.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_SIZE);
    for part in [b"\nthread '", &name[..len], b"' has overflowed its stack\n"] {
        // SAFETY: the slice can be read; that the descriptor is closed or full is an error which
        // nobody could be told.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: the call has no conditions.
    unsafe { libc::abort() }
}

/// Finds the addresses that the calling thread touches when its stack overflows.
///
/// Code that probes its stack page by page, as Rust's does, first touches the page below. Frames of
/// C code may go further; the kernel keeps this much room below a stack that grows.
fn below_this_stack() -> io::Result<Addresses> {
    const ROOM_BELOW: usize = 1 << 20;
    let lowest = lowest_of_this_stack()?;
    Ok(Addresses {
        start: lowest.saturating_sub(ROOM_BELOW),
        // The limit need not be a whole number of pages, and libc may count the guard page in.
        end: lowest.saturating_add(rustix::param::page_size()),
    })
}

fn lowest_of_this_stack() -> io::Result<usize> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the attributes may be written to, and the calling thread exists.
    let failed = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    let (mut lowest, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the call above succeeded, and so has initialised the attributes; they are destroyed
    // once, after their last use.
    unsafe {
        libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    Ok(lowest as usize)
}

/// Gives the calling thread a stack for its signal handlers, unless it has one.
fn ensure_signal_stack() -> io::Result<()> {
    // SAFETY: an all-zero `stack_t` may be written to; without a new stack the call only reads.
    let now: libc::stack_t = unsafe {
        let mut now = mem::zeroed();
        libc::sigaltstack(ptr::null(), &mut now);
        now
    };
    if now.ss_flags & libc::SS_DISABLE == 0 {
        return Ok(());
    }
    let (guard, size) = (rustix::param::page_size(), signal_stack_size());
    // SAFETY: a new anonymous mapping at a place of the kernel's choice overlaps nothing.
    let place = unsafe {
        libc::mmap(
            ptr::null_mut(),
            guard + size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let stack = libc::stack_t {
        ss_sp: place.wrapping_byte_add(guard),
        ss_flags: 0,
        ss_size: size,
    };
    // SAFETY: the first page belongs to the new mapping, and nobody uses it; the stack behind it is
    // exclusively the kernel's from here on, and is never unmapped.
    let failed = unsafe {
        libc::mprotect(place, guard, libc::PROT_NONE) != 0
            || libc::sigaltstack(&stack, ptr::null_mut()) != 0
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// What the kernel needs for the registers of this machine, and room for the handlers of libraries
/// that share the thread.
fn signal_stack_size() -> usize {
    const ROOM_FOR_HANDLERS: usize = 64 << 10;
    // SAFETY: `getauxval` only looks a number up; it is zero where the kernel gives none.
    let registers = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    (registers + ROOM_FOR_HANDLERS).next_multiple_of(rustix::param::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_is_expected_below_a_local_variable_and_not_at_it() {
        let local = 0_u8;
        let below = below_this_stack().expect("a thread has a stack");
        assert!(below.start < below.end);
        assert!(below.end <= &raw const local as usize);
    }

    #[test]
    fn the_signal_stack_is_made_of_whole_pages_and_holds_the_registers() {
        assert_eq!(signal_stack_size() % rustix::param::page_size(), 0);
        assert!(signal_stack_size() >= libc::SIGSTKSZ);
    }
}
