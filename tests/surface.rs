//! What a dependent crate leans on without saying so: which traits the public types have, what
//! becomes of options at the ends of their ranges, and that an error's text says each thing once.

mod support;

use std::error::Error;
use std::fmt::{Debug, Display};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use procpool::connection::{
    AcceptError, AddressError, Arrival, ClientBuilder, ConnectError, HandshakeError,
    ListenerBuilder, Peer, Receiver, Refusal, Sender, Waitable,
};
use procpool::processes::{CurrentProcess, ParentProcess, Scope, Spawning, StillRunning};
use procpool::queue::{
    GetError, JoinError, JoinableQueue, PutError, Queue, QueueSink, QueueStream, SimpleQueue,
};
use procpool::task::{
    CancelReason, CancellationToken, DecodeError, EncodeError, ForeignFunction, Progress,
    ProgressError, TaskContext,
};
use procpool::{
    Ability, AcquireError, Address, Array, AsyncProgressTask, AuthKey, AuthMode, Barrier,
    BarrierError, BarrierWaitResult, BoundedSemaphore, BuildError, Call, CallbackId, Condition,
    Connection, ConnectionError, Enumerated, Event, Exit, Listener, Lock, LockError, LockGuard,
    Map, NotClosed, PanicInfo, Permit, Process, ProcessBuilder, ProcessError, ProcessPool,
    ProcessPoolBuilder, ProgressTask, RLock, RLockGuard, RawArray, RawValue, ReleaseError,
    ResizeError, Restart, Semaphore, SharedMemory, SharedSlice, ShutdownOptions, SpawnError,
    StartError, StartMethod, Stats, Stdio, Task, TaskCall, TaskError, TaskHandle, ThreadAsyncTask,
    ThreadMap, ThreadPool, ThreadPoolBuilder, ThreadProgressTask, ThreadTask, ThreadTaskCall,
    TrySubmitError, UnknownStartMethod, Unsupported, Updates, Value, ValueGuard, WhenFull,
    WorkerExit, WorkerLine, WorkerStats, WrongLock,
};
use support::everywhere;

/// Where items come from a plain range.
type Items = futures::stream::Iter<std::ops::Range<u8>>;

fn shared<T: Send + Sync + Unpin + Debug + 'static>() {}
fn copied<T: Clone>() {}
fn caught<T: UnwindSafe + RefUnwindSafe>() {}
fn shown<T: Display>() {}
fn error<T: Error + Send + Sync + 'static>() {}

#[test]
fn the_public_types_can_be_shared_shown_and_kept_across_a_caught_panic() {
    shared::<ProcessPool>();
    shared::<ProcessPoolBuilder>();
    shared::<TaskHandle<u8>>();
    // A result that cannot be shared, or moved when pinned, does not make its handle so.
    fn moved<T: Send + Unpin>() {}
    moved::<TaskHandle<std::cell::Cell<u8>>>();
    moved::<TaskHandle<std::marker::PhantomPinned>>();
    // Arguments and results stay on their side: what is kept of them are bytes.
    shared::<Task<std::rc::Rc<u8>, u8>>();
    shared::<TaskCall<u8>>();
    shared::<Call<u8>>();
    shared::<TaskContext>();
    shared::<(CancellationToken, CancelReason, WhenFull)>();
    // Values are on their side of the pipe as well.
    shared::<Progress<std::cell::Cell<u8>>>();
    shared::<Updates<std::cell::Cell<u8>>>();
    shared::<ProgressTask<std::rc::Rc<u8>, std::rc::Rc<u8>, u8>>();
    shared::<AsyncProgressTask<std::rc::Rc<u8>, std::rc::Rc<u8>, std::future::Ready<u8>>>();
    shared::<(Map<Items, u8>, Enumerated<Map<Items, u8>>)>();
    shared::<Connection<std::cell::Cell<u8>, std::rc::Rc<u8>>>();
    shared::<(SharedMemory, SharedSlice<u8>)>();
    shared::<(Value<u8>, Array<u8>, ValueGuard<u8>, ValueGuard<[u8]>)>();
    shared::<(RawValue<u8>, RawArray<u8>)>();
    error::<LockError<ValueGuard<[f64]>>>();
    caught::<(Value<u8>, Array<u8>, RawValue<u8>, RawArray<u8>)>();
    shared::<(Lock, LockGuard, LockError, Event)>();
    // Whatever the items are, as long as they stay on their side.
    shared::<(Queue<std::rc::Rc<u8>>, JoinableQueue<std::rc::Rc<u8>>)>();
    shared::<(SimpleQueue<std::rc::Rc<u8>>, GetError, JoinError)>();
    moved::<(QueueStream<std::rc::Rc<u8>>, QueueSink<std::rc::Rc<u8>>)>();
    copied::<(
        Queue<std::cell::Cell<u8>>,
        JoinableQueue<std::cell::Cell<u8>>,
        SimpleQueue<std::cell::Cell<u8>>,
    )>();
    error::<PutError<u8>>();
    error::<GetError>();
    error::<JoinError>();
    shared::<(RLock, RLockGuard, LockError<RLockGuard>)>();
    shared::<(Semaphore, BoundedSemaphore, Permit, Condition)>();
    shared::<(Barrier, BarrierError, BarrierWaitResult)>();
    shared::<(Sender<std::rc::Rc<u8>>, Receiver<std::rc::Rc<u8>>)>();
    shared::<Waitable<'static>>();
    shared::<(Process<std::rc::Rc<u8>>, Spawning<std::rc::Rc<u8>>)>();
    shared::<(ProcessBuilder, Scope, CurrentProcess, ParentProcess)>();
    shared::<Listener<std::cell::Cell<u8>, std::rc::Rc<u8>>>();
    shared::<Arrival<std::cell::Cell<u8>, std::rc::Rc<u8>>>();
    shared::<(ListenerBuilder, ClientBuilder, Peer, Refusal)>();
    shared::<(Address, AuthKey, AuthMode)>();
    shared::<(Stats, WorkerStats, WorkerLine<'static>, Stdio)>();
    shared::<(Exit, WorkerExit, PanicInfo, CallbackId)>();
    shared::<(ShutdownOptions, Restart, StartMethod)>();
    shared::<(ThreadPool, ThreadPoolBuilder, Ability)>();
    shared::<ThreadTask<std::cell::Cell<u8>, u8>>();
    shared::<ThreadTaskCall<u8>>();
    shared::<ThreadAsyncTask<std::cell::Cell<u8>, std::future::Ready<u8>>>();
    shared::<ThreadProgressTask<std::cell::Cell<u8>, std::rc::Rc<u8>, u8>>();
    moved::<ThreadMap<Items, std::cell::Cell<u8>>>();
    moved::<Enumerated<ThreadMap<Items, u8>>>();

    copied::<(ProcessPool, ProcessPoolBuilder, Task<std::rc::Rc<u8>, u8>)>();
    copied::<(
        CancellationToken,
        Progress<std::rc::Rc<u8>>,
        ProgressTask<std::rc::Rc<u8>, u8, u8>,
    )>();
    copied::<(TaskError, WorkerExit, PanicInfo, StartError, Stats, Stdio)>();
    copied::<(
        ThreadPool,
        ThreadPoolBuilder,
        ThreadTask<std::rc::Rc<u8>, u8>,
    )>();
    copied::<(
        Lock,
        RLock,
        Event,
        Semaphore,
        BoundedSemaphore,
        Condition,
        Barrier,
    )>();
    copied::<(ProcessBuilder, ProcessError, Scope, CurrentProcess)>();
    copied::<(ListenerBuilder, ClientBuilder, Address, AuthKey)>();
    shown::<Address>();
    shown::<Stats>();
    shown::<Exit>();
    shown::<StartMethod>();

    caught::<(
        ProcessPool,
        ProcessPoolBuilder,
        TaskHandle<u8>,
        Task<u8, u8>,
    )>();
    caught::<(TaskError, StartError, Stdio, TaskContext)>();
    caught::<(Process<u8>, ProcessBuilder, ProcessError)>();
    caught::<(
        CancellationToken,
        Progress<u8>,
        Updates<u8>,
        ProgressTask<u8, u8, u8>,
    )>();
    caught::<(ThreadPool, ThreadPoolBuilder, ThreadTask<u8, u8>)>();
    caught::<(Queue<u8>, JoinableQueue<u8>, SimpleQueue<u8>)>();

    error::<ConnectionError>();
    error::<AcquireError>();
    error::<LockError>();
    error::<ReleaseError>();
    error::<WrongLock>();
    error::<BarrierError>();
    error::<LockError<RLockGuard>>();
    error::<SpawnError>();
    error::<ProcessError>();
    error::<StillRunning<u8>>();
    error::<AcceptError>();
    error::<AddressError>();
    error::<ConnectError>();
    error::<HandshakeError>();
    error::<TaskError>();
    error::<TrySubmitError<u8>>();
    error::<BuildError>();
    error::<StartError>();
    error::<NotClosed>();
    error::<Unsupported>();
    error::<ResizeError>();
    error::<UnknownStartMethod>();
    error::<WorkerExit>();
    error::<PanicInfo>();
    error::<EncodeError>();
    error::<DecodeError>();
    error::<ForeignFunction>();
    error::<ProgressError>();
}

/// No clock can have `Duration::MAX` added to it, and just below the point where nanoseconds
/// overflow a century is a blink.
#[test]
fn the_longest_limits_are_as_good_as_none() {
    let blink = Duration::from_nanos(u64::MAX) + Duration::from_millis(1);
    everywhere(|method| async move {
        for long in [Duration::MAX, blink] {
            let pool = ProcessPool::builder()
                .workers(1)
                .start_method(method)
                .start_timeout(long)
                .handshake_timeout(long)
                .task_timeout(long)
                .abort_grace(long)
                .max_pending(usize::MAX)
                .build()
                .unwrap();
            pool.ready().await.unwrap();
            let left = pool.submit(time_left, ()).await.unwrap();
            assert!(left > Duration::from_secs(10 * 365 * 86_400), "{left:?}");
            let task = pool.task(|n: u32| n + 1).timeout(long).queue_timeout(long);
            assert_eq!(task.run(1).await.unwrap(), 2);
            assert_eq!(task.submit(1).timeout(long).await.unwrap(), 2);
            assert_eq!(task.submit(1).blocking_wait(Some(long)).unwrap(), 2);
            let last = pool.submit(time_left, ());
            pool.shutdown_with(ShutdownOptions::new().timeout(long))
                .await;
            last.await.unwrap();
        }
    });
}

fn time_left(_: ()) -> Duration {
    let deadline = procpool::task::current().unwrap().deadline().unwrap();
    deadline.saturating_duration_since(Instant::now())
}

#[test]
fn more_workers_than_a_system_can_have_are_refused() {
    let error = ProcessPool::builder()
        .workers(usize::MAX)
        .build()
        .unwrap_err();
    assert!(error.is_invalid_argument(), "{error}");
}

#[test]
fn an_error_says_all_that_is_behind_it_in_one_line_and_each_thing_once() {
    everywhere(|method| async move {
        let pool = ProcessPool::builder().workers(1).start_method(method);
        let pool = pool.build().unwrap();
        let panicked = pool.submit(|n: u32| 10 / n, 0).await.unwrap_err();
        let lost = pool.submit(|_: ()| -> () { std::process::exit(7) }, ());
        let lost = lost.await.unwrap_err();
        pool.close();
        let refused = pool.try_submit(|n: u32| n, 0).unwrap_err();
        let cases: [(&dyn Error, String, &[&str]); 3] = [
            (
                &panicked,
                format!("{panicked:#}"),
                &["task panicked", "divide by zero", file!()],
            ),
            (
                &lost,
                format!("{lost:#}"),
                &["worker died", "exit code 7", "pid "],
            ),
            (&refused, format!("{refused:#}"), &["shut down"]),
        ];
        for (error, whole, said) in cases {
            let behind = std::iter::successors(error.source(), |error| (**error).source());
            let behind: Vec<_> = behind.map(ToString::to_string).collect();
            assert!(whole.ends_with(&behind.join(": ")), "{whole}");
            for words in said {
                assert_eq!(whole.matches(words).count(), 1, "{words}: {whole}");
            }
        }
        pool.shutdown().await;
    });
}
