//! What is used again, and what is not.

use super::*;

const MIB: usize = 1024 * 1024;

/// Others than those of the process.
fn slabs(limit: usize) -> Arc<Slabs> {
    Arc::new(Slabs {
        most: 8,
        ..Slabs::new(limit)
    })
}

fn number(slab: &Slab) -> u64 {
    rustix::fs::fstat(slab).unwrap().st_ino
}

/// Lends one, and gives its number.
fn lend(slabs: &Arc<Slabs>, length: usize) -> Option<(u64, OwnedFd)> {
    let slab = slabs.slab_for(length, slabs.limit())?;
    let number = number(&slab);
    let (lender, lease) = Lender::lend().unwrap();
    slabs.shelve(slab, Some(lender));
    Some((number, lease))
}

#[test]
fn a_slab_is_used_again_when_it_is_lent_no_more() {
    let slabs = slabs(LIMIT);
    let (first, lease) = lend(&slabs, MIB).unwrap();
    let (second, _) = lend(&slabs, MIB).unwrap();
    assert_ne!(first, second);
    drop(lease);
    let (small, _) = lend(&slabs, 10).unwrap();
    assert!(
        small == first || small == second,
        "one that is large enough"
    );
    let (large, _) = lend(&slabs, 2 * MIB).unwrap();
    assert!(large != first && large != second);
}

#[test]
fn there_are_no_more_than_there_may_be() {
    let slabs = slabs(4 * MIB);
    let leases: Vec<_> = (0..4).map(|_| lend(&slabs, MIB).unwrap()).collect();
    assert!(lend(&slabs, MIB).is_none(), "bytes");
    drop(leases);
    assert!(lend(&slabs, 4 * MIB).is_some(), "free ones make room");
    assert!(lend(&slabs, 5 * MIB).is_none() && lend(&slabs, usize::MAX).is_none());
    let leases: Vec<_> = (0..8).map_while(|_| lend(&slabs, 1)).collect();
    assert_eq!(leases.len(), 8);
    assert!(lend(&slabs, 1).is_none(), "number");
    // One that is being filled counts as well.
    drop(leases);
    let filled = slabs.slab_for(4 * MIB, slabs.limit()).unwrap();
    assert!(slabs.slab_for(1, slabs.limit()).is_none());
    slabs.shelve(filled, None);
}

#[test]
fn each_slab_has_one_window() {
    let (slabs, slab, other) = (slabs(LIMIT), Slab::new(MIB), Slab::new(MIB));
    let (slab, other) = (slab.unwrap(), other.unwrap());
    let window = slabs.window(&slab).unwrap();
    assert!(Arc::ptr_eq(&window, &slabs.window(&slab).unwrap()));
    assert!(!Arc::ptr_eq(&window, &slabs.window(&other).unwrap()));
    for _ in 0..2 * MOST {
        slabs.window(Slab::new(4096).unwrap()).unwrap();
    }
    assert_eq!(slabs.lock().windows.len(), MOST);
}

#[test]
fn what_is_unused_is_given_back_lent_or_not() {
    let slabs = slabs(LIMIT);
    let (_, _lease) = lend(&slabs, MIB).unwrap();
    slabs.window(Slab::new(MIB).unwrap()).unwrap();
    slabs.keep_buffer(Buffer::new(MIB).unwrap());
    assert!(slabs.trim() && slabs.is_anything(), "it was used just now");
    slabs.clear();
    assert!(!slabs.is_anything() && !slabs.trim());
}

#[test]
fn the_best_buffer_is_taken_and_few_are_kept() {
    let slabs = slabs(LIMIT);
    for size in [3, 1, 2, 4, 5] {
        slabs.keep_buffer(Buffer::new(size * 4096).unwrap());
    }
    assert_eq!(slabs.lock().buffers.len(), BUFFERS);
    assert_eq!(slabs.buffer_for(5000).unwrap().len(), 2 * 4096);
    assert!(slabs.buffer_for(5 * 4096).is_none());
}

#[test]
fn queues_have_a_limit_of_their_own() {
    let none = slabs(0);
    let by = |slabs: &Slabs, purpose| slabs.slab_for(MIB, slabs.limit_for(purpose)).is_some();
    assert!(!by(&none, Use::Calls) && by(&none, Use::Queues));
    let little = slabs(MIB);
    assert_eq!(little.limit(), MIB);
    little.for_queues.store(true, Ordering::Relaxed);
    assert_eq!((little.limit_for(Use::Calls), little.limit()), (MIB, LIMIT));
}

#[test]
fn each_of_two_who_watch_goes_on_until_he_has_seen_it_empty() {
    let slabs = slabs(LIMIT);
    slabs.watch.get_or_init(|| Box::new(|_| {}));
    slabs.lock().stays = true;
    slabs.keep_buffer(Buffer::new(MIB).unwrap());
    assert!(slabs.trim_for_queues());
    slabs.clear();
    let kept = slabs.lock();
    assert!(!kept.watched && kept.stays);
    drop(kept);
    assert!(!slabs.trim_for_queues() && !slabs.lock().stays);
}
