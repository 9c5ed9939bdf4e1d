//! Values and arrays in memory that several processes see, with a lock and without.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use procpool::{Array, Lock, RawArray, RawValue, Value};
use support::{PROMPTLY, everywhere, on_each_runtime, pool, scene, soon};

/// As a struct may be shared: no pointers, no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Point {
    x: i32,
    y: i32,
}

/// CF-224: numbers of each size, changed by a child, with a lock and without.
#[test]
fn values_are_read_and_written_by_all() {
    type Locked = (Value<i32>, Value<f64>, Value<i16>, Value<i64>, Value<u8>);
    type Raw = (
        RawValue<i32>,
        RawValue<f64>,
        RawValue<i16>,
        RawValue<i64>,
        RawValue<u8>,
    );
    fn change((locked, raw): (Locked, Raw)) {
        locked.0.blocking_set(24234, None).unwrap();
        locked.1.blocking_set(-4.25, None).unwrap();
        locked.2.blocking_set(234, None).unwrap();
        locked.3.blocking_set(1 << 34, None).unwrap();
        locked.4.blocking_set(b'y', None).unwrap();
        raw.0.set(24234);
        raw.1.set(-4.25);
        raw.2.set(234);
        raw.3.set(1 << 34);
        raw.4.set(b'y');
    }
    async fn seen((locked, raw): &(Locked, Raw)) -> [(i32, f64, i16, i64, u8); 2] {
        let one = (
            locked.0.get().await.unwrap(),
            locked.1.get().await.unwrap(),
            locked.2.get().await.unwrap(),
            locked.3.get().await.unwrap(),
            locked.4.get().await.unwrap(),
        );
        let raw = (
            raw.0.get(),
            raw.1.get(),
            raw.2.get(),
            raw.3.get(),
            raw.4.get(),
        );
        [one, raw]
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let locked = (
            Value::new(4343).unwrap(),
            Value::new(3.625).unwrap(),
            Value::new(-232).unwrap(),
            Value::new(1 << 33).unwrap(),
            Value::new(b'x').unwrap(),
        );
        let raw = (
            RawValue::new(4343).unwrap(),
            RawValue::new(3.625).unwrap(),
            RawValue::new(-232).unwrap(),
            RawValue::new(1 << 33).unwrap(),
            RawValue::new(b'x').unwrap(),
        );
        let all = (locked, raw);
        assert_eq!(seen(&all).await, [(4343, 3.625, -232, 1 << 33, b'x'); 2]);
        pool.submit(change, all.clone()).await.unwrap();
        assert_eq!(seen(&all).await, [(24234, -4.25, 234, 1 << 34, b'y'); 2]);
        pool.shutdown().await;
    });
}

/// CF-225, CF-229: two values are two, and a copy is a copy.
#[test]
fn values_and_copies_are_independent() {
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
    struct Mixed {
        small: i64,
        real: f64,
        large: i64,
    }

    let _scene = scene();
    let (one, other) = (RawValue::new(0).unwrap(), RawValue::new(0).unwrap());
    one.set(5);
    assert_eq!((one.get(), other.get()), (5, 0));

    let mixed = Mixed {
        small: 2,
        real: 5.0,
        large: 1 << 33,
    };
    let value = Value::new(mixed).unwrap();
    let copy = value.blocking_get(None).unwrap();
    *value.try_lock().unwrap() = Zeroable::zeroed();
    assert_eq!((copy, value.blocking_get(None).unwrap().large), (mixed, 0));
}

/// CF-226, CF-230: its own lock, or exactly the one that was given. (That the raw forms have none, and that
/// nothing else can be given, does not compile otherwise.)
#[test]
fn who_has_the_lock_has_the_value() {
    let _scene = scene();
    let own = Value::new(1).unwrap();
    let guard = own.as_lock().try_lock().unwrap();
    assert!(own.try_lock().unwrap_err().is_would_block());
    assert_eq!(
        format!("{own:?}"),
        "Value<i32>(Lock(locked by this process))"
    );
    drop(guard);
    assert_eq!(*own.try_lock().unwrap(), 1);

    let lock = Lock::new().unwrap();
    let value = Value::with_lock(1, lock.clone()).unwrap();
    let array = Array::with_lock(&[1, 2], lock.clone()).unwrap();
    let zeros = Array::<u8>::zeroed_with_lock(3, lock.clone()).unwrap();
    let mut guard = lock.try_lock().unwrap();
    let limit = Some(Duration::from_millis(20));
    assert!(value.blocking_get(limit).unwrap_err().is_timeout());
    assert!(array.blocking_lock(limit).unwrap_err().is_timeout());
    *value.under(&mut guard) += 1;
    array.under(&mut guard)[1] += 1;
    assert_eq!(zeros.under(&mut guard), [0; 3]);
    let other = std::panic::AssertUnwindSafe(|| *own.under(&mut guard));
    assert!(std::panic::catch_unwind(other).is_err(), "of another lock");
    drop(guard);
    let guard = array.try_lock().unwrap();
    assert!(lock.is_locked() && value.try_lock().unwrap_err().is_would_block());
    assert_eq!(guard[..], [1, 3]);
    drop(guard);
    assert_eq!(value.blocking_get(None).unwrap(), 2);
    assert_eq!(format!("{array:?}"), "Array<i32>(2, Lock(unlocked))");
}

/// CF-226: also where the two have travelled apart.
#[test]
fn a_lock_is_known_again_after_travelling() {
    fn add((lock, from, to): (Lock, Value<i32>, Value<i32>)) {
        let mut guard = lock.blocking_lock(None).unwrap();
        *from.under(&mut guard) -= 30;
        *to.under(&mut guard) += 30;
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let lock = Lock::new().unwrap();
        let [from, to] = [100, 0].map(|value| Value::with_lock(value, lock.clone()).unwrap());
        pool.submit(add, (lock, from.clone(), to.clone()))
            .await
            .unwrap();
        let seen = (from.get().await.unwrap(), to.get().await.unwrap());
        assert_eq!(seen, (70, 30));
        pool.shutdown().await;
    });
}

/// CF-227: single, by range, and running sums made in place by a child.
#[test]
fn arrays_are_read_and_written_in_ranges() {
    const NUMBERS: [i32; 10] = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831];
    fn sum_up((locked, raw): (Array<i32>, RawArray<i32>)) {
        let mut numbers = locked.blocking_lock(None).unwrap();
        for n in 1..numbers.len() {
            numbers[n] += numbers[n - 1];
            raw.set(n, raw.get(n) + raw.get(n - 1));
        }
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (locked, raw) = (
            Array::new(&NUMBERS).unwrap(),
            RawArray::new(&NUMBERS).unwrap(),
        );
        assert_eq!((locked.len(), raw.len()), (10, 10));
        assert_eq!((locked.lock().await.unwrap()[2], raw.get(2)), (934, 934));
        let mut range = [0; 3];
        raw.read_at(2, &mut range);
        assert_eq!(range, NUMBERS[2..5]);
        assert_eq!(locked.lock().await.unwrap()[2..5], NUMBERS[2..5]);

        let mut expected = NUMBERS;
        expected[4..8].copy_from_slice(&[1, 2, 3, 4]);
        locked.lock().await.unwrap()[4..8].copy_from_slice(&[1, 2, 3, 4]);
        raw.write_at(4, &[1, 2, 3, 4]);
        assert_eq!(
            (raw.to_vec(), &locked.lock().await.unwrap()[..]),
            (expected.to_vec(), &expected[..])
        );

        (1..10).for_each(|n| expected[n] += expected[n - 1]);
        pool.submit(sum_up, (locked.clone(), raw.clone()))
            .await
            .unwrap();
        assert_eq!(
            (raw.to_vec(), &locked.lock().await.unwrap()[..]),
            (expected.to_vec(), &expected[..])
        );

        let none = (
            Array::<u64>::new(&[]).unwrap(),
            RawArray::<u64>::zeroed(0).unwrap(),
        );
        assert!(none.0.is_empty() && none.1.is_empty());
        assert_eq!(
            (&none.0.lock().await.unwrap()[..], none.1.to_vec()),
            (&[][..], vec![])
        );
        pool.shutdown().await;
    });
}

/// CF-228: a mix of everything, doubled by a child.
#[test]
fn a_mix_of_shared_data_is_changed_by_a_child() {
    type Locked = (
        Value<i32>,
        Value<f64>,
        Value<i64>,
        Value<Point>,
        Array<f64>,
        Array<u8>,
    );
    type Raw = (
        RawValue<i32>,
        RawValue<f64>,
        RawValue<i64>,
        RawValue<Point>,
        RawArray<f64>,
        RawArray<u8>,
    );
    fn double_text(text: &mut [u8]) {
        let length = text.iter().position(|byte| *byte == 0).unwrap();
        text.copy_within(..length, length);
    }
    fn double((locked, raw): (Locked, Raw)) {
        *locked.0.blocking_lock(None).unwrap() *= 2;
        *locked.1.blocking_lock(None).unwrap() *= 2.0;
        *locked.2.blocking_lock(None).unwrap() *= 2;
        locked.3.blocking_lock(None).unwrap().x *= 2;
        locked.3.blocking_lock(None).unwrap().y *= 2;
        let mut reals = locked.4.blocking_lock(None).unwrap();
        reals.iter_mut().for_each(|real| *real *= 2.0);
        double_text(&mut locked.5.blocking_lock(None).unwrap());

        raw.0.set(raw.0.get() * 2);
        raw.1.set(raw.1.get() * 2.0);
        raw.2.set(raw.2.get() * 2);
        let Point { x, y } = raw.3.get();
        raw.3.set(Point { x: 2 * x, y: 2 * y });
        (0..raw.4.len()).for_each(|n| raw.4.set(n, raw.4.get(n) * 2.0));
        let mut text = raw.5.to_vec();
        double_text(&mut text);
        raw.5.write_at(0, &text);
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (point, reals) = (
            Point { x: 3, y: 2 },
            [0., 1., 2., 3., 4., 5., 6., 7., 8., 9.],
        );
        let mut text = [0; 20];
        text[..5].copy_from_slice(b"hello");
        let locked = (
            Value::new(7).unwrap(),
            Value::new(1.0 / 3.0).unwrap(),
            Value::new(1 << 33).unwrap(),
            Value::new(point).unwrap(),
            Array::new(&reals).unwrap(),
            Array::new(&text).unwrap(),
        );
        let raw = (
            RawValue::new(7).unwrap(),
            RawValue::new(1.0 / 3.0).unwrap(),
            RawValue::new(1 << 33).unwrap(),
            RawValue::new(point).unwrap(),
            RawArray::new(&reals).unwrap(),
            RawArray::new(&text).unwrap(),
        );
        pool.submit(double, (locked.clone(), raw.clone()))
            .await
            .unwrap();

        let doubled = (14, 2.0 / 3.0, 1 << 34, Point { x: 6, y: 4 });
        let (a, b, c, d, e, f) = &locked;
        let seen = (
            a.get().await.unwrap(),
            b.get().await.unwrap(),
            c.get().await.unwrap(),
            d.get().await.unwrap(),
        );
        assert_eq!(seen, doubled);
        assert_eq!(e.lock().await.unwrap()[..], reals.map(|real| 2.0 * real));
        assert_eq!(&f.lock().await.unwrap()[..10], b"hellohello");
        let (a, b, c, d, e, f) = &raw;
        assert_eq!((a.get(), b.get(), c.get(), d.get()), doubled);
        assert_eq!(e.to_vec(), reals.map(|real| 2.0 * real));
        assert_eq!(&f.to_vec()[..10], b"hellohello");
        pool.shutdown().await;
    });
}

/// CF-224: by a lock, and by an atomic; threads, tasks and processes.
#[test]
fn no_count_is_lost() {
    const TIMES: u32 = 500;
    fn count((locked, raw): (Value<u32>, RawValue<u32>)) {
        for _ in 0..TIMES {
            *locked.blocking_lock(None).unwrap() += 1;
            raw.as_atomic().fetch_add(1, Relaxed);
        }
    }

    everywhere(|method| async move {
        let pool = pool(2, method);
        let (locked, raw) = (Value::new(0).unwrap(), RawValue::new(0).unwrap());
        let job = || (locked.clone(), raw.clone());
        let processes = [(); 2].map(|()| pool.submit(count, job()));
        let threads = [(); 2].map(|()| {
            let job = job();
            tokio::task::spawn_blocking(move || count(job))
        });
        let task = async {
            for _ in 0..TIMES {
                *locked.lock().await.unwrap() += 1;
                raw.as_atomic().fetch_add(1, SeqCst);
            }
        };
        task.await;
        futures::future::try_join_all(processes).await.unwrap();
        futures::future::try_join_all(threads).await.unwrap();
        assert_eq!(
            (locked.get().await.unwrap(), raw.get()),
            (5 * TIMES, 5 * TIMES)
        );
        pool.shutdown().await;
    });
}

/// Without a lock a number is one that somebody has written, and what is beside it is left alone.
#[test]
fn numbers_are_never_torn_and_neighbours_never_undone() {
    type Numbers = (RawValue<u64>, RawArray<f64>, RawArray<u16>, RawValue<u32>);
    fn write((whole, reals, small, stop): Numbers) -> u16 {
        let mut own = 0_u16;
        while stop.get() == 0 {
            for bits in [0, u64::MAX] {
                whole.set(bits);
                reals.set(1, f64::from_bits(bits ^ 1));
            }
            own = own.wrapping_add(1);
            small.set(2, own);
        }
        own
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let numbers: Numbers = (
            RawValue::new(0).unwrap(),
            RawArray::new(&[f64::from_bits(1); 3]).unwrap(),
            RawArray::zeroed(4).unwrap(),
            RawValue::new(0).unwrap(),
        );
        let writes = pool.submit(write, numbers.clone());
        let (whole, reals, small, stop) = numbers;
        let mut seen = [false; 2];
        let both = soon(PROMPTLY, || {
            (1..=1_000).for_each(|n| small.set(1, n));
            let (bits, real) = (whole.get(), reals.get(1).to_bits() ^ 1);
            assert!(
                [bits, real].iter().all(|bits| [0, u64::MAX].contains(bits)),
                "{bits:x} {real:x}"
            );
            seen[usize::from(bits == 0)] = true;
            seen == [true; 2] && small.get(2) > 100
        });
        assert!(both.await);
        stop.as_atomic().store(1, Relaxed);
        let last = writes.await.unwrap();
        assert_eq!(small.to_vec(), [0, 1_000, last, 0]);
        pool.shutdown().await;
    });
}

/// CF-235: made by a process that has ended.
#[test]
fn values_outlive_the_process_that_made_them() {
    type Made = (Value<Point>, Array<u8>, RawValue<f32>, RawArray<i64>);
    fn make((): ()) -> Made {
        (
            Value::new(Point { x: 1, y: 2 }).unwrap(),
            Array::new(b"there").unwrap(),
            RawValue::new(0.5).unwrap(),
            RawArray::new(&[-1]).unwrap(),
        )
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (value, array, raw, raws) = pool.submit(make, ()).await.unwrap();
        pool.shutdown().await;
        value.lock().await.unwrap().y = 3;
        array.lock().await.unwrap()[0] = b'w';
        raw.set(raw.get() * 2.0);
        raws.set(0, raws.get(0) - 1);
        assert_eq!(value.get().await.unwrap(), Point { x: 1, y: 3 });
        assert_eq!(array.lock().await.unwrap()[..], *b"where");
        assert_eq!((raw.get(), raws.to_vec()), (1.0, vec![-2]));
        assert_eq!(
            format!("{raw:?} {raws:?}"),
            "RawValue(1.0) RawArray<i64>(1)"
        );
    });
}

/// What was sent as one thing is not taken for another, which would be memory that has no lock, or
/// another one.
#[test]
fn what_is_something_else_is_refused() {
    use procpool::{Connection, SharedMemory, pipe};
    use serde::{Serialize, de::DeserializeOwned};
    use std::os::fd::AsFd;

    async fn confused<A: Serialize + DeserializeOwned, B: Serialize + DeserializeOwned>(
        sent: A,
    ) -> String {
        let (mut here, there) = pipe::<A, ()>().unwrap();
        let there = there.as_fd().try_clone_to_owned().unwrap();
        let mut there = Connection::<(), B>::try_from(there).unwrap();
        here.send(&sent).await.unwrap();
        let error = there.recv().await.err().expect("it is another type");
        format!("{error:#}")
    }

    on_each_runtime(|| async {
        let (value, array) = (Value::new(7_u64).unwrap(), Array::new(&[7_u64]).unwrap());
        let (raw, raws) = (
            RawValue::new(7_u64).unwrap(),
            RawArray::new(&[7_u64]).unwrap(),
        );
        let told = [
            confused::<_, (RawValue<u64>, Lock)>(value.clone()).await,
            confused::<_, (RawArray<u64>, Lock)>(array.clone()).await,
            confused::<_, Array<u64>>(value.clone()).await,
            confused::<_, Value<u64>>(array.clone()).await,
            confused::<_, Value<[u32; 2]>>(value.clone()).await,
            confused::<_, Value<f32>>(value.clone()).await,
            confused::<_, RawArray<u64>>(raw.clone()).await,
            confused::<_, RawValue<u64>>(raws.clone()).await,
            confused::<_, Value<u64>>((raw.clone(), Lock::new().unwrap())).await,
        ];
        assert!(
            told.iter()
                .all(|told| told.contains("it is something else")),
            "{told:#?}"
        );
        let told = [
            confused::<_, (SharedMemory, Lock)>(value.clone()).await,
            confused::<_, SharedMemory>(raws).await,
        ];
        assert!(
            told.iter().all(|told| told.contains("another size")),
            "{told:#?}"
        );
    });
}

/// A child changes a column, and every dimension is counted.
#[cfg(feature = "ndarray")]
#[test]
fn arrays_have_as_many_dimensions_as_they_are_seen_in() {
    use ndarray::ShapeBuilder;

    fn clear_a_column(matrix: Array<f32>) {
        let mut matrix = matrix.blocking_lock(None).unwrap();
        matrix.view_mut((3, 4)).unwrap().column_mut(1).fill(0.0);
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let numbers: Vec<_> = (0..12_u8).map(f32::from).collect();
        let matrix = Array::new(&numbers).unwrap();
        pool.submit(clear_a_column, matrix.clone()).await.unwrap();
        let mut guard = matrix.lock().await.unwrap();
        assert_eq!(guard[..6], [0.0, 0.0, 2.0, 3.0, 4.0, 0.0]);
        let cube = guard.view((2, 2, 3)).unwrap();
        assert_eq!((cube[[0, 1, 1]], cube[[1, 1, 2]]), (4.0, 11.0));
        assert_eq!(guard.view((3, 4).f()).unwrap()[[2, 0]], 2.0);
        assert!(guard.view((3, 5)).is_err() && guard.view((3, 3)).is_err());
        assert!(guard.view_mut((3, 5)).is_err() && guard.view_mut((3, 3)).is_err());
        pool.shutdown().await;
    });
}

#[test]
fn what_is_not_there_cannot_be_read_or_written() {
    let _scene = scene();
    let array = RawArray::new(&[1, 2, 3]).unwrap();
    for (index, count) in [(3, 1), (0, 4), (usize::MAX, 2)] {
        let read = std::panic::AssertUnwindSafe(|| array.read_at(index, &mut vec![0; count]));
        assert!(std::panic::catch_unwind(read).is_err());
        let write = std::panic::AssertUnwindSafe(|| array.write_at(index, &vec![0; count]));
        assert!(std::panic::catch_unwind(write).is_err());
    }
    array.read_at(3, &mut []);
    assert_eq!(array.as_atomics().len(), 3);
    assert!(RawArray::<u64>::zeroed(usize::MAX).is_err());
    assert!(Array::<u64>::zeroed(1 << 60).is_err());
    assert!(
        postcard::to_stdvec(&array).is_err()
            && postcard::to_stdvec(&Value::new(1).unwrap()).is_err()
    );
}
