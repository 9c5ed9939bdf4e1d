//! Filters of system calls, as containers have them; with them a kernel can be made to look older.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use libc::sock_filter;

/// A system call that is answered with an error number.
#[derive(Clone, Copy)]
pub struct Refusal {
    call: libc::c_long,
    /// Only with this argument: its place, and its lower 32 bits.
    argument: Option<(usize, u32)>,
    errno: i32,
}

impl Refusal {
    pub const fn of(call: libc::c_long, errno: i32) -> Self {
        Self {
            call,
            argument: None,
            errno,
        }
    }

    const fn with(call: libc::c_long, argument: (usize, u32), errno: i32) -> Self {
        Self {
            call,
            argument: Some(argument),
            errno,
        }
    }

    fn instructions(self) -> Vec<sock_filter> {
        let mut body = Vec::new();
        if let Some((place, value)) = self.argument {
            let low = if cfg!(target_endian = "big") { 4 } else { 0 };
            body.push(load(
                std::mem::offset_of!(libc::seccomp_data, args) + 8 * place + low,
            ));
            body.push(unless(value, 1));
        }
        body.push(answer(libc::SECCOMP_RET_ERRNO | self.errno.unsigned_abs()));
        let call = u32::try_from(self.call).unwrap();
        let mut all = vec![
            load(std::mem::offset_of!(libc::seccomp_data, nr)),
            unless(call, u8::try_from(body.len()).unwrap()),
        ];
        all.extend(body);
        all
    }
}

/// What Linux 5.4 does not have and later ones do, of what a pool makes use of: to kill a process
/// group by a descriptor (6.9), to ask a descriptor for its process's exit (6.15), `clone3` with
/// all that came with it, and `close_range`.
pub const OLD_KERNEL: [Refusal; 4] = [
    Refusal::with(libc::SYS_pidfd_send_signal, (3, 1 << 2), libc::EINVAL),
    Refusal::with(libc::SYS_ioctl, (1, 0xc040_ff0b), libc::ENOTTY),
    Refusal::of(libc::SYS_clone3, libc::ENOSYS),
    Refusal::of(libc::SYS_close_range, libc::ENOSYS),
];

/// From now on the kernel refuses those calls to this thread, and to all that it starts.
#[expect(unsafe_code, reason = "filters are installed through libc")]
pub fn refuse(refusals: &[Refusal]) {
    let each = refusals.iter().flat_map(|refusal| refusal.instructions());
    let mut filter: Vec<_> = each.collect();
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap(),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the first call takes numbers alone; the second reads the program and its
    // instructions, which live until it has returned.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    assert!(done, "no filter: {}", std::io::Error::last_os_error());
}

/// Whether the kernel refuses to kill a process group by a descriptor, as old ones do.
#[expect(unsafe_code, reason = "the call is to be made as it is")]
pub fn is_old_kernel() -> bool {
    use std::os::fd::AsRawFd;
    let own = rustix::process::getpid();
    let own = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).unwrap();
    let (nothing, no_details, group) = (0, std::ptr::null::<libc::siginfo_t>(), 1 << 2);
    let call = libc::SYS_pidfd_send_signal;
    // SAFETY: the descriptor is open, and without details no memory is read.
    let done = unsafe { libc::syscall(call, own.as_raw_fd(), nothing, no_details, group) };
    done != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

fn load(offset: usize) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset as u32)
}

fn answer(what: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, what)
}

/// Passes over so many instructions, unless what was loaded is that value.
fn unless(value: u32, over: u8) -> sock_filter {
    sock_filter {
        jf: over,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}
