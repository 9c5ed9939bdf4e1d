//! Descriptors that travel beside encoded bytes.
//!
//! Bytes cannot carry a descriptor. What is encoded holds its place in a list, and the list goes
//! beside the bytes: [`collect`] gathers it while a value is encoded, [`supply`] hands it out while
//! one is decoded. Both are matters of the thread that encodes or decodes. Outside of them there
//! is no list, and whoever would be written there without its descriptor is refused.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::LocalKey;

use serde::{de, ser};

use super::slabs::{self, Slabs, Use};

/// The most descriptors beside one value: what the system takes beside one message.
pub(crate) const MOST: usize = 253;

/// What is beside one value; nothing is allocated for nothing.
pub(crate) type Attached = Vec<OwnedFd>;

const ELSEWHERE: &str = "a descriptor travels only as a part of a task's argument or result, of a \
                         message on a connection, or of an item of a queue";

thread_local! {
    /// What has been attached to the value that is being encoded.
    static COLLECTED: Place<Collected> = const { RefCell::new(None) };
    /// What came beside the value that is being decoded.
    static SUPPLIED: Place<Supplied> = const { RefCell::new(None) };
}

/// Where a list is while there is one. Who has put it there takes it out again, so nothing is left to be
/// dropped with the thread: it need not be asked each time whether it is ending.
type Place<T> = RefCell<Option<ManuallyDrop<T>>>;

struct Collected {
    list: Attached,
    /// Where slabs go as well: for what, and how many bytes are in them.
    slabs: Option<(Use, usize)>,
}

struct Supplied {
    /// What was not taken yet.
    list: Vec<Option<OwnedFd>>,
    origin: Origin,
    /// How many bytes were taken out of slabs.
    taken: usize,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The program that we serve, and that has chosen what we run.
    Parent,
    /// An item of a queue, which anybody has put there who has it.
    Queue,
    /// Anywhere else.
    Other,
}

/// Encodes, and gives what was attached meanwhile.
pub(crate) fn collect<T>(encode: impl FnOnce() -> T) -> (T, Attached) {
    let (encoded, collected) = collect_into(None, encode);
    (encoded, collected.list)
}

/// The same where large bytes go in slabs. Gives how many do.
pub(crate) fn collect_with_slabs<T>(
    purpose: Use,
    encode: impl FnOnce() -> T,
) -> (T, Attached, usize) {
    let (encoded, collected) = collect_into(Some((purpose, 0)), encode);
    let slabs = collected.slabs.map_or(0, |(_, bytes)| bytes);
    (encoded, collected.list, slabs)
}

fn collect_into<T>(slabs: Option<(Use, usize)>, encode: impl FnOnce() -> T) -> (T, Collected) {
    let list = Attached::new();
    let inside = Inside::new(&COLLECTED, Collected { list, slabs });
    let encoded = encode();
    (encoded, inside.leave())
}

/// Decodes what came with these descriptors. Those that nobody takes are closed.
pub(crate) fn supply<T>(attached: Attached, decode: impl FnOnce() -> T) -> T {
    supply_from(Origin::Other, attached, decode)
}

/// The same where it is known from whom it came.
pub(crate) fn supply_from<T>(origin: Origin, attached: Attached, decode: impl FnOnce() -> T) -> T {
    let list = attached.into_iter().map(Some).collect();
    let supplied = Supplied {
        list,
        origin,
        taken: 0,
    };
    let _inside = Inside::new(&SUPPLIED, supplied);
    decode()
}

/// Attaches a copy of the descriptor to what is being encoded, and gives its place.
///
/// # Errors
///
/// Where nothing is being encoded that travels with descriptors, at the limits of the process and of
/// a message.
pub(crate) fn attach<E: ser::Error>(descriptor: impl AsFd) -> Result<u32, E> {
    let copy = descriptor.as_fd().try_clone_to_owned();
    COLLECTED.with_borrow_mut(|collected| {
        let collected = collected.as_mut();
        let list = &mut collected.ok_or_else(|| E::custom(ELSEWHERE))?.list;
        if list.len() == MOST {
            return Err(E::custom(format_args!(
                "no more than {MOST} descriptors travel with one value"
            )));
        }
        let copy = copy
            .map_err(|error| E::custom(format_args!("its descriptor cannot be copied: {error}")))?;
        list.push(copy);
        Ok(list.len() as u32 - 1)
    })
}

/// Takes the descriptor at that place from beside what is being decoded.
///
/// # Errors
///
/// Where nothing is being decoded that came with descriptors, or not with that one.
pub(crate) fn take<E: de::Error>(place: u32) -> Result<OwnedFd, E> {
    SUPPLIED.with_borrow_mut(|supplied| {
        let supplied = supplied.as_mut();
        let list = &mut supplied.ok_or_else(|| E::custom(ELSEWHERE))?.list;
        let count = list.len();
        let descriptor = list.get_mut(place as usize).and_then(Option::take);
        descriptor.ok_or_else(|| {
            E::custom(format_args!(
                "descriptor {place} of the {count} that came with it is not there"
            ))
        })
    })
}

/// Puts bytes into a slab that goes with what is being encoded, and gives its place. `None` where they
/// are to go another way: because nothing is being encoded that slabs go with, or there is no room.
pub(super) fn attach_slab(bytes: &[u8]) -> Option<u32> {
    let purpose = COLLECTED.with_borrow(|collected| {
        let collected = collected.as_ref()?;
        let (purpose, before) = collected.slabs?;
        let fits = purpose == Use::Calls || before.checked_add(bytes.len())? <= slabs::LIMIT;
        (fits && collected.list.len() + 2 <= MOST).then_some(purpose)
    })?;
    let (file, lease) = slabs::place(purpose, bytes)?;
    COLLECTED.with_borrow_mut(|collected| {
        let collected = collected.as_mut()?;
        let place = collected.list.len() as u32;
        collected.list.extend([file, lease]);
        collected.slabs.as_mut()?.1 += bytes.len();
        Some(place)
    })
}

/// A slab that came beside a value, whatever it may be.
pub(super) struct SlabTaken {
    pub(super) file: OwnedFd,
    pub(super) lease: OwnedFd,
    pub(super) origin: Origin,
    /// What is kept for queues, as it is used.
    _slabs: Option<Arc<Slabs>>,
}

/// Takes the slab at that place from beside what is being decoded, to take so many bytes out of it.
///
/// # Errors
///
/// As [`take`], and where that is more than one message may bring.
pub(super) fn take_slab<E: de::Error>(place: u32, length: usize) -> Result<SlabTaken, E> {
    let (file, lease) = (take(place)?, take(place.saturating_add(1))?);
    SUPPLIED.with_borrow_mut(|supplied| {
        let supplied = supplied.as_mut().ok_or_else(|| E::custom(ELSEWHERE))?;
        let origin = supplied.origin;
        let (slabs, limit) = match origin {
            Origin::Queue => (slabs::for_queues(), slabs::limit().max(slabs::LIMIT)),
            _ => (None, slabs::limit()),
        };
        let taken = supplied.taken.checked_add(length);
        supplied.taken = taken.filter(|taken| *taken <= limit).ok_or_else(|| {
            E::custom(format_args!(
                "{length} bytes in shared memory are more than the {limit} that may come so"
            ))
        })?;
        Ok(SlabTaken {
            file,
            lease,
            origin,
            _slabs: slabs,
        })
    })
}

/// A list in its place for as long as this lives; then what was there before. A value's own code may
/// encode and decode other values, and may panic.
struct Inside<T: 'static> {
    place: &'static LocalKey<Place<T>>,
    before: Option<ManuallyDrop<T>>,
}

impl<T> Inside<T> {
    fn new(place: &'static LocalKey<Place<T>>, list: T) -> Self {
        let before = place.replace(Some(ManuallyDrop::new(list)));
        Self { place, before }
    }

    /// Puts back what was there before, and gives the list.
    fn leave(self) -> T {
        let mut this = ManuallyDrop::new(self);
        this.take().expect("only the drop of this takes it away")
    }

    fn take(&mut self) -> Option<T> {
        let list = self.place.replace(self.before.take());
        list.map(ManuallyDrop::into_inner)
    }
}

impl<T> Drop for Inside<T> {
    fn drop(&mut self) {
        // Outside of the borrow.
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::task::error::Fault;

    fn file() -> File {
        File::open("/dev/null").unwrap()
    }

    #[test]
    fn nothing_travels_outside_of_a_message() {
        let error = attach::<Fault>(file()).unwrap_err();
        assert!(error.to_string().contains("only as a part of"));
        assert!(take::<Fault>(0).is_err());
    }

    #[test]
    fn each_is_given_out_once_and_what_is_left_is_closed() {
        let (places, attached) =
            collect(|| [(); 3].map(|()| attach::<Fault>(file()).expect("there is room")));
        assert_eq!(places, [0, 1, 2]);
        let numbers: Vec<_> = attached.iter().map(AsRawFd::as_raw_fd).collect();
        let taken = supply(attached, || {
            let taken = take::<Fault>(1).unwrap();
            assert!(take::<Fault>(1).is_err() && take::<Fault>(3).is_err());
            taken
        });
        assert_eq!(taken.as_raw_fd(), numbers[1]);
    }

    #[test]
    fn a_message_within_a_message_has_a_list_of_its_own() {
        let (inner, outer) = collect(|| {
            attach::<Fault>(file()).unwrap();
            let ((), inner) = collect(|| {
                attach::<Fault>(file()).unwrap();
                attach::<Fault>(file()).unwrap();
            });
            attach::<Fault>(file()).unwrap();
            inner
        });
        assert_eq!((inner.len(), outer.len()), (2, 2));
    }

    #[test]
    fn a_panic_leaves_no_list_behind() {
        let panicked = std::panic::catch_unwind(|| {
            collect(|| -> () { std::panic::resume_unwind(Box::new(())) })
        });
        assert!(panicked.is_err());
        assert!(attach::<Fault>(file()).is_err());
    }

    #[test]
    fn more_than_a_message_can_carry_are_refused() {
        let (last, attached) = collect(|| {
            let file = file();
            (0..MOST).for_each(|_| assert!(attach::<Fault>(&file).is_ok()));
            attach::<Fault>(&file)
        });
        assert!(last.unwrap_err().to_string().contains("253"));
        assert_eq!(attached.len(), MOST);
    }
}
