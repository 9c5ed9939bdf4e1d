//! The name under which the kernel and `ps` show this process.
//!
//! The command line that `ps` shows is the memory in which the kernel laid down the arguments at
//! the exec, with the environment right behind it. Writing there changes it; a title that is longer
//! than the arguments runs on into the environment, as the kernel allows. What pointed there is
//! moved to the heap first, while nobody else looks: `std::env::args` and the environment stay as
//! they were. (glibc's own messages name the program by a pointer that it keeps to itself, and will
//! show the title.)

use std::ffi::{CStr, CString, c_char};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::{fs, slice};

/// Names the calling thread (the first 15 bytes of `name`), and shows `title` as the command line of
/// the process if [`prepare`] found room for one.
pub(crate) fn set_title(name: &str, title: &str) {
    set_name(name);
    let mut place = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = place.as_mut() {
        place.show(title);
    }
}

/// Names the calling thread; the main thread's name is that of the process in `top` and `ps -e`.
pub(crate) fn set_name(name: &str) {
    const MAX_LEN: usize = 15;
    let end = (0..=MAX_LEN.min(name.len()))
        .rev()
        .find(|&n| name.is_char_boundary(n));
    let shown = name[..end.unwrap_or(0)].replace('\0', " ");
    if let Ok(shown) = CString::new(shown) {
        // Fails for a bad address only.
        let _ = rustix::thread::set_name(&shown);
    }
}

/// Makes room for a title: moves the arguments and the environment to the heap, for good.
///
/// It does so only on the main thread of a process that has no other, and only if it is sure of what
/// it found. Called before constructors and libraries have taken pointers to those strings.
pub(crate) fn prepare() {
    let mut place = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    if place.is_none() {
        *place = StartStrings::find().map(StartStrings::move_to_heap);
    }
}

static PLACE: Mutex<Option<Place>> = Mutex::new(None);

/// Memory that belongs to the title alone.
#[derive(Debug)]
struct Place {
    memory: Range<usize>,
    /// How much of it must be cleared where the next title does not reach: what the last one left,
    /// and at first the arguments, all of which the kernel shows.
    used: usize,
}

impl Place {
    fn show(&mut self, title: &str) {
        // SAFETY: `move_to_heap` found this memory to be the process's own, writable for good, and
        // left nothing in use that points to it; the lock around `self` makes the access exclusive.
        let memory =
            unsafe { slice::from_raw_parts_mut(self.memory.start as *mut u8, self.memory.len()) };
        let len = title.len().min(memory.len() - 1);
        memory[..len].copy_from_slice(&title.as_bytes()[..len]);
        memory[len..self.used.max(len + 1)].fill(0);
        self.used = len;
    }
}

/// The strings that the kernel laid down at the exec, and who points to them.
struct StartStrings {
    arguments: Range<usize>,
    /// Begins where the arguments end.
    environment: Range<usize>,
    argv: *mut *mut c_char,
    argc: usize,
    envp: *mut *mut c_char,
}

impl StartStrings {
    fn find() -> Option<Self> {
        let main_thread = rustix::thread::gettid() == rustix::process::getpid();
        let status = Status::read().filter(|status| main_thread && status.threads == 1)?;
        let (arguments, environment) = (status.arguments, status.environment);
        let adjoin = arguments.end == environment.start && environment.start <= environment.end;
        if arguments.is_empty() || !adjoin {
            return None;
        }
        // SAFETY: the kernel says that the arguments lie there; it is the top of this thread's
        // stack, mapped for good.
        let bytes = unsafe { slice::from_raw_parts(arguments.start as *const u8, arguments.len()) };
        let argc = bytes.iter().filter(|byte| **byte == 0).count();
        // SAFETY: libc's variable is written by `setenv` and its like alone, and no other thread
        // could call one.
        let envp = unsafe { environ };
        let argv = argv_before(envp, argc, arguments.start)?;
        Some(StartStrings {
            arguments,
            environment,
            argv,
            argc,
            envp,
        })
    }

    fn move_to_heap(self) -> Place {
        let memory = self.arguments.start..self.environment.end;
        let move_string = |slot: *mut *mut c_char| {
            // SAFETY: the slots of both arrays are on the stack of this, the only thread; what
            // points into the area points to a string of it, each of which ends in zero.
            unsafe {
                if memory.contains(&(*slot as usize)) {
                    *slot = CStr::from_ptr(*slot).to_owned().into_raw();
                }
            }
        };
        for n in 0..self.argc {
            move_string(self.argv.wrapping_add(n));
        }
        let mut slot = self.envp;
        // SAFETY: the environment's array ends in a null pointer.
        while unsafe { !(*slot).is_null() } {
            move_string(slot);
            slot = slot.wrapping_add(1);
        }
        Place {
            used: self.arguments.len(),
            memory,
        }
    }
}

/// Finds the array of arguments, which lies just before that of the environment on the stack, and
/// whose first pointer is known. There is none if libc has moved the environment away: a variable
/// has been set before.
fn argv_before(
    envp: *mut *mut c_char,
    argc: usize,
    first_argument: usize,
) -> Option<*mut *mut c_char> {
    let here = 0_u8;
    let end_of_argv = envp.wrapping_sub(1);
    let argv = end_of_argv.wrapping_sub(argc);
    let count = argv.wrapping_sub(1);
    let on_stack = &raw const here as usize..first_argument;
    let whole = argc < on_stack.len() / size_of::<usize>() && envp.is_aligned();
    if !whole || !on_stack.contains(&(count as usize)) || !on_stack.contains(&(envp as usize)) {
        return None;
    }
    // SAFETY: all three words lie between a local variable and the first argument (checked above):
    // on the stack of the main thread, which is the calling one, and all of it mapped.
    let (last, first, counted) = unsafe { (*end_of_argv, *argv, *count.cast::<usize>()) };
    let found = last.is_null() && first as usize == first_argument && counted == argc;
    found.then_some(argv)
}

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// What the kernel says about this process.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    threads: usize,
    arguments: Range<usize>,
    environment: Range<usize>,
}

impl Status {
    fn read() -> Option<Self> {
        Self::parse(&fs::read("/proc/self/stat").ok()?)
    }

    /// Reads the fields by their numbers in proc(5). The second one is the name in parentheses, and
    /// may contain anything.
    fn parse(line: &[u8]) -> Option<Self> {
        let behind_name = line.iter().rposition(|byte| *byte == b')')? + 1;
        let fields = std::str::from_utf8(&line[behind_name..]).ok()?;
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
        Some(Status {
            threads: field(20)?,
            arguments: field(48)?..field(49)?,
            environment: field(50)?..field(51)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_behind_the_last_parenthesis() {
        let numbers: Vec<_> = (4..=52).map(|n| n.to_string()).collect();
        let line = format!("77 (a) b (c) S {}\n", numbers.join(" "));
        let expected = Status {
            threads: 20,
            arguments: 48..49,
            environment: 50..51,
        };
        assert_eq!(Status::parse(line.as_bytes()), Some(expected));
        assert_eq!(Status::parse(b"77 (a S 1 2"), None);
        assert_eq!(Status::parse(b"77 (a) S 1 2"), None);
    }

    #[test]
    fn this_process_has_threads_and_arguments() {
        let status = Status::read().expect("/proc/self/stat");
        assert!(status.threads >= 1);
        assert!(!status.arguments.is_empty());
    }

    #[test]
    fn a_thread_that_is_not_alone_moves_nothing() {
        let found = std::thread::spawn(|| StartStrings::find().is_some());
        assert!(!found.join().expect("no panic"));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let named = std::thread::spawn(|| {
            set_name("a worker of è pool, whose name is long");
            let all = rustix::thread::name().expect("a name");
            set_name("fourteen bytesè");
            (all, rustix::thread::name().expect("a name"))
        });
        let (all, cut) = named.join().expect("no panic");
        assert_eq!(all.to_bytes(), "a worker of è ".as_bytes());
        assert_eq!(cut.to_bytes(), b"fourteen bytes");
    }

    #[test]
    fn a_shorter_title_leaves_nothing_of_a_longer_one() {
        let mut memory = *b"program\0argument\0A=1\0B=2\0";
        let range = memory.as_mut_ptr_range();
        let (start, end) = (range.start as usize, range.end as usize);
        let mut place = Place {
            memory: start..end,
            used: 17,
        };
        place.show("much longer than what was there");
        assert_eq!(&memory, b"much longer than what wa\0");
        place.show("short");
        assert_eq!(&memory, b"short\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}
