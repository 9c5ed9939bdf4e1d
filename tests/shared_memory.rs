//! Memory that several processes see: what one writes, all read; what is made once, all read in place.

mod support;

use std::io;
use std::os::fd::AsFd;

use procpool::{ProcessPool, SharedMemory, SharedSlice, ThreadPool, pipe};
use serde::{Deserialize, Serialize};
use support::{everywhere, pool, runtime, scene};

const MIB: usize = 1 << 20;

fn add_one(block: SharedMemory) -> usize {
    let bytes: Vec<_> = block.to_vec().into_iter().map(|byte| byte + 1).collect();
    block.write_at(0, &bytes);
    bytes.len()
}

/// Blocks in all the places where a value can have them.
#[derive(Serialize, Deserialize)]
struct Blocks {
    name: String,
    one: SharedMemory,
    some: Vec<Option<SharedMemory>>,
    table: Option<SharedSlice<u16>>,
}

/// CF-232, CF-234: 1 MiB full of 0xBA arrives as it was, and is shared, not copied; so are 0 and 3 bytes.
#[test]
fn what_one_process_writes_all_read() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        for bytes in [vec![0xba; MIB], vec![], vec![1, 2, 3]] {
            let block = SharedMemory::copy_of(&bytes).unwrap();
            assert_eq!(
                (block.len(), block.is_empty()),
                (bytes.len(), bytes.is_empty())
            );
            let changed = pool.submit(add_one, block.clone()).await.unwrap();
            assert_eq!(changed, bytes.len());
            assert!(
                block
                    .to_vec()
                    .iter()
                    .zip(&bytes)
                    .all(|(new, old)| *new == old + 1)
            );
        }

        // And the other way round, to a call that runs already.
        let block = SharedMemory::new(8).unwrap();
        let wait_for = |block: SharedMemory| {
            let mut seen = [0; 2];
            while seen != *b"go" {
                std::thread::sleep(std::time::Duration::from_millis(1));
                block.read_at(6, &mut seen);
            }
        };
        let waits = pool.submit(wait_for, block.clone());
        block.write_at(6, b"go");
        waits.await.unwrap();
        pool.shutdown().await;
    });
}

/// CF-232, CF-169: anywhere in a value, on the way there, on the way back, and further on.
#[test]
fn blocks_travel_in_structs_and_to_workers_of_workers_and_back() {
    fn pass_on((deeper, mut blocks): (u8, Blocks)) -> Blocks {
        if deeper > 0 {
            let pool = ProcessPool::builder().workers(1).build().unwrap();
            let mut handle = pool.submit(pass_on, (deeper - 1, blocks));
            return handle.blocking_wait(None).unwrap();
        }
        blocks.one.write_at(0, b"there");
        let last = blocks.some.pop().flatten().unwrap();
        last.write_at(
            1,
            &[u8::try_from(blocks.table.as_ref().unwrap()[999] % 256).unwrap()],
        );
        blocks.some.push(Some(last));
        blocks
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (one, last) = (SharedMemory::new(5).unwrap(), SharedMemory::new(2).unwrap());
        let blocks = Blocks {
            name: "many".to_owned(),
            one: one.clone(),
            some: vec![
                None,
                Some(SharedMemory::new(0).unwrap()),
                Some(last.clone()),
            ],
            table: Some(SharedSlice::from_fn(1000, |n| n as u16).unwrap()),
        };
        let back = pool.submit(pass_on, (1, blocks)).await.unwrap();
        assert_eq!((back.name.as_str(), back.some.len()), ("many", 3));
        assert_eq!(
            (one.to_vec(), last.to_vec()),
            (b"there".to_vec(), vec![0, 231])
        );
        back.one.write_at(0, b"again");
        assert_eq!(one.to_vec(), b"again");
        assert!(!one.ptr_eq(&back.one) && one.ptr_eq(&one.clone()));
        pool.shutdown().await;
    });
}

/// CF-235: made by a process that has ended, and read and written as before.
#[test]
fn a_block_outlives_the_process_that_made_it() {
    fn make(text: String) -> (SharedMemory, SharedSlice<u8>) {
        let block = SharedMemory::copy_of(text.as_bytes()).unwrap();
        (block, SharedSlice::new(text.as_bytes()).unwrap())
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (block, table) = pool.submit(make, "made there".to_owned()).await.unwrap();
        pool.shutdown().await;
        assert_eq!(
            (block.to_vec(), &table[..]),
            (b"made there".to_vec(), &b"made there"[..])
        );
        block.write_at(5, b"here!");
        assert_eq!(block.to_vec(), b"made here!");
        assert_eq!(
            format!("{block:?} {table:?}"),
            "SharedMemory { len: 10, .. } SharedSlice<u8>(10)"
        );
    });
}

#[test]
fn a_table_is_read_in_place_by_all_workers_at_once() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let table = SharedSlice::from_fn(MIB, |n| n as u64).unwrap();
        let part = |(table, part): (SharedSlice<u64>, usize)| -> u64 {
            table.chunks(MIB / 8).nth(part).unwrap().iter().sum()
        };
        let sums = (0..8).map(|n| pool.submit(part, (table.clone(), n)));
        let sums = futures::future::try_join_all(sums).await.unwrap();
        let all = MIB as u64;
        assert_eq!(sums.into_iter().sum::<u64>(), all * (all - 1) / 2);
        pool.shutdown().await;
    });
}

#[test]
fn blocks_go_through_connections_threads_and_pools_without_workers() {
    let _scene = scene();
    runtime(2).block_on(async {
        let (block, table) = (
            SharedMemory::new(4).unwrap(),
            SharedSlice::new(&[1_u32, 2]).unwrap(),
        );
        let (mut here, mut there) = pipe::<(SharedMemory, SharedSlice<u32>), ()>().unwrap();
        here.send(&(block.clone(), table.clone())).await.unwrap();
        let (arrived, same) = there.recv().await.unwrap();
        arrived.write_at(0, b"sent");
        assert_eq!((block.to_vec(), &same), (b"sent".to_vec(), &table));

        let threads = ThreadPool::builder().workers(1).build().unwrap();
        assert_eq!(threads.submit(add_one, block.clone()).await.unwrap(), 4);
        let inline = ProcessPool::builder().inline().build().unwrap();
        assert_eq!(inline.submit(add_one, block.clone()).await.unwrap(), 4);
        assert_eq!(block.to_vec(), b"ugpv");
        threads.shutdown().await;
    });
}

/// Sealed: neither its length nor, for a slice, what is in it can be changed by anybody.
#[test]
fn nobody_can_cut_a_block_short_or_change_a_slice() {
    let _scene = scene();
    let (block, table) = (
        SharedMemory::new(9).unwrap(),
        SharedSlice::new(&[7_u8; 9]).unwrap(),
    );
    for file in [block.as_fd(), table.as_fd()] {
        assert!(rustix::fs::ftruncate(file, 1).is_err());
        assert!(rustix::fs::ftruncate(file, 1 << 16).is_err());
    }
    assert!(rustix::io::pwrite(table.as_fd(), b"x", 0).is_err());
    assert_eq!(*table, [7; 9]);
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let _scene = scene();
    let (block, table) = (
        SharedMemory::new(9).unwrap(),
        SharedSlice::new(&[1_u64]).unwrap(),
    );
    #[cfg(feature = "json")]
    for elsewhere in [serde_json::to_string(&block), serde_json::to_string(&table)] {
        let error = elsewhere.unwrap_err().to_string();
        assert!(error.contains("travels only as a part of"), "{error}");
    }
    assert!(postcard::to_stdvec(&block).is_err() && postcard::to_stdvec(&table).is_err());

    for (offset, count) in [(9, 1), (0, 10), (usize::MAX, 2)] {
        let read = || block.read_at(offset, &mut vec![0; count]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).is_err());
        let write = || block.write_at(offset, &vec![0; count]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).is_err());
    }
    block.read_at(9, &mut []);
    assert!(SharedMemory::new(1 << 60).is_err());
    assert!(SharedSlice::<u64>::from_fn(usize::MAX, |_| 0).is_err());
    let fails = SharedSlice::<u64>::fill(3, |_| Err(io::Error::other("no more")));
    assert_eq!(fails.unwrap_err().to_string(), "no more");
}

/// A descriptor that is not what it is said to be.
#[test]
fn what_is_no_shared_memory_is_not_taken_for_it() {
    #[derive(Serialize)]
    struct Forged(procpool::Fd<std::fs::File>, u64);

    let _scene = scene();
    runtime(1).block_on(async {
        let file = |size: u64| {
            let name = rustix::fs::memfd_create("forged", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::ftruncate(&name, size).unwrap();
            procpool::Fd(std::fs::File::from(name))
        };
        let (mut one, other) = pipe::<Forged, ()>().unwrap();
        let copy = other.as_fd().try_clone_to_owned().unwrap();
        let mut other = procpool::Connection::<(), SharedSlice<u8>>::try_from(copy).unwrap();
        one.send(&Forged(file(64), 64)).await.unwrap();
        let error = other.recv().await.unwrap_err();
        assert!(format!("{error:#}").contains("frozen"), "{error:#}");
    });
}
