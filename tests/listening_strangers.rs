//! Listeners among strangers: who says nothing, says the wrong thing, says too much or goes away
//! costs a listener nothing and keeps nobody waiting.

#[path = "support/program.rs"]
mod program;
#[path = "support/socket.rs"]
mod socket;
mod support;
#[path = "support/surroundings.rs"]
mod surroundings;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use procpool::connection::{Arrival, HandshakeError};
use procpool::{Address, AuthKey, AuthMode, Client, Connection, Listener, pipe};
use program::{Program, hear, role, say};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket::Directory;
use support::{HANG, PROMPTLY, everywhere, pool, runtime, scene};
use surroundings::cannot_run;

const MODES: [AuthMode; 3] = [AuthMode::Python, AuthMode::PythonMd5, AuthMode::Procpool];

fn here<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for threads in [1, 2] {
        let scene = scene();
        let runtime = runtime(threads);
        runtime.block_on(async { tokio::time::timeout(HANG, test()).await.unwrap() });
        drop(runtime);
        drop(scene);
    }
}

fn key() -> AuthKey {
    AuthKey::new("secret password").unwrap()
}

fn any_port() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

fn port_of<S, R>(listener: &Listener<S, R>) -> std::net::SocketAddr {
    listener.address().socket_addr().unwrap()
}

/// The reason for which the next client is turned away.
async fn refusal<S, R>(listener: &mut Listener<S, R>) -> HandshakeError {
    match listener.accept_or_refusal().await.unwrap() {
        Arrival::Refused(refusal) => refusal.reason().clone(),
        Arrival::Accepted(..) => panic!("was let in"),
    }
}

/// A client that has the key is let in, and its first message arrives. Why others were not, that came
/// before it.
async fn welcome(listener: &mut Listener<u32, u32>) -> Vec<HandshakeError> {
    let address = listener.address().clone();
    let client = Client::builder().authkey(key());
    let client = tokio::spawn(async move {
        let mut connection: Connection<u32, u32> = client.connect(address).await.unwrap();
        connection.send(&456).await.unwrap();
        assert!(connection.recv().await.unwrap_err().is_closed());
    });
    let mut reasons = Vec::new();
    let mut accepted = loop {
        match listener.accept_or_refusal().await.unwrap() {
            Arrival::Accepted(accepted, _) => break accepted,
            Arrival::Refused(refusal) => reasons.push(refusal.reason().clone()),
        }
    };
    assert_eq!(accepted.recv().await.unwrap(), 456);
    drop(accepted);
    client.await.unwrap();
    reasons
}

/// CF-259. Neither end hears a message of one that has another key.
#[test]
fn another_key_is_an_error_of_that_client_alone() {
    here(|| async {
        for mode in MODES {
            let builder = Listener::builder().authkey(key()).auth_mode(mode);
            let mut listener = builder.bind::<u32, u32, _>(any_port()).unwrap();
            let wrong = Client::builder().authkey(AuthKey::new("guess").unwrap());
            let wrong = wrong.auth_mode(mode);
            let error = wrong.connect::<(), (), _>(listener.address()).await;
            let error = error.unwrap_err();
            assert!(error.is_authentication() && !error.is_timeout(), "{error}");
            let kind = std::io::Error::from(error).kind();
            assert_eq!(kind, ErrorKind::PermissionDenied);
            let reason = refusal(&mut listener).await;
            assert!(reason.is_authentication(), "{reason}");
            assert!(!reason.is_closed() && !reason.is_displaced());
            // Who only accepts is not told.
            drop(wrong_client(&listener));
            if mode == AuthMode::Python {
                welcome(&mut listener).await;
            }
        }
    });
}

/// Says something else than an answer.
fn wrong_client<S, R>(listener: &Listener<S, R>) -> TcpStream {
    let mut client = TcpStream::connect(port_of(listener)).unwrap();
    client.write_all(b"\0\0\0\x0fsomething bogus").unwrap();
    client
}

/// CF-259: with bytes of its own, on both sides.
#[test]
fn something_bogus_is_turned_away() {
    here(|| async {
        let builder = Listener::builder().authkey(key());
        let mut listener = builder.bind::<u32, u32, _>(any_port()).unwrap();
        let mut client = wrong_client(&listener);
        assert!(refusal(&mut listener).await.is_authentication());
        let told = tokio::task::spawn_blocking(move || {
            let mut told = Vec::new();
            // Its end may be a reset.
            let _ = client.read_to_end(&mut told);
            told
        });
        let told = told.await.unwrap();
        assert!(told.ends_with(b"#FAILURE#"), "{}", told.escape_ascii());
        welcome(&mut listener).await;

        let directory = Directory::new();
        for says in [
            // A challenge, and something else than a welcome.
            &b"\0\0\0\x36#CHALLENGE#{sha256}forty bytes that nobody would guess, or so\0\0\0\x0fsomething bogus"[..],
            b"\0\0\0\x0fsomething bogus",
            b"\x7f\xff\xff\xff",
            b"\xff\xff\xff\xfe",
        ] {
            let path = directory.socket();
            let false_listener = UnixListener::bind(&path).unwrap();
            let client = Client::builder().authkey(key());
            let to = path.clone();
            let client = tokio::spawn(async move { client.connect::<(), (), _>(to).await });
            let answering = tokio::task::spawn_blocking(move || {
                let (mut client, _) = false_listener.accept().unwrap();
                client.write_all(says).unwrap();
                client
            });
            let error = client.await.unwrap().unwrap_err();
            assert!(error.is_authentication(), "{error}");
            drop(answering.await.unwrap());
            std::fs::remove_file(path).unwrap();
        }
    });
}

/// Nobody's descriptors are kept who has proved nothing, wherever in a message they come.
#[test]
fn descriptors_before_the_key_is_proved_are_not_taken() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage::ScmRights, SendFlags, sendmsg};
    here(|| async {
        let directory = Directory::new();
        let builder = Listener::builder().authkey(key());
        let mut listener = builder.bind::<u32, u32, _>(directory.socket()).unwrap();
        for says in [&[0][..], &[0, 0, 0, 9, b'#']] {
            let client = UnixStream::connect(directory.socket()).unwrap();
            let (mut here, there) = UnixStream::pair().unwrap();
            let descriptors = [there.as_fd(); 100];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            assert!(beside.push(ScmRights(&descriptors)));
            let bytes = [IoSlice::new(says)];
            sendmsg(&client, &bytes, &mut beside, SendFlags::empty()).unwrap();
            drop(there);
            let begun = Instant::now();
            let reason = refusal(&mut listener).await;
            assert!(reason.is_authentication(), "{reason}");
            assert!(begun.elapsed() < PROMPTLY / 4, "at once, not by the limit");
            // All of them are closed, while the client is still there.
            here.set_read_timeout(Some(PROMPTLY)).unwrap();
            assert_eq!(here.read(&mut [0]).unwrap(), 0);
            drop(client);
        }
        welcome(&mut listener).await;
    });
}

/// What is announced is not believed, before the key is proved: nothing is read of it, and nothing
/// allocated.
#[test]
fn a_long_message_before_the_key_is_proved_is_cut_off() {
    here(|| async {
        let builder = Listener::builder().authkey(key());
        let mut listener = builder.bind::<u32, u32, _>(any_port()).unwrap();
        for header in [
            &[0x7f, 0xff, 0xff, 0xff][..],
            &[0, 0, 1, 1],
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0, 0, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xfe],
        ] {
            let mut client = TcpStream::connect(port_of(&listener)).unwrap();
            client.write_all(header).unwrap();
            let begun = Instant::now();
            let reason = refusal(&mut listener).await;
            assert!(reason.is_authentication(), "{reason}");
            assert!(begun.elapsed() < PROMPTLY / 4, "at once, not by the limit");
        }
        welcome(&mut listener).await;
    });
}

/// Who says nothing for too long has to go, and so has one that goes on too slowly.
#[test]
fn silence_has_a_limit() {
    here(|| async {
        let limit = Duration::from_millis(200);
        let builder = Listener::builder().authkey(key()).handshake_limit(limit);
        let mut listener = builder.bind::<u32, u32, _>(any_port()).unwrap();
        let begun = Instant::now();
        let mut silent = TcpStream::connect(port_of(&listener)).unwrap();
        silent.write_all(&[0, 0, 0]).unwrap();
        let reason = refusal(&mut listener).await;
        assert!(reason.is_timeout() && begun.elapsed() >= limit, "{reason}");
        // And a listener that says nothing.
        let directory = Directory::new();
        let _silent = UnixListener::bind(directory.socket()).unwrap();
        let client = Client::builder().authkey(key()).limit(limit);
        let begun = Instant::now();
        let error = client.connect::<(), (), _>(directory.socket()).await;
        let error = error.unwrap_err();
        assert!(error.is_timeout() && begun.elapsed() >= limit, "{error}");
        // One that is full does not, either.
        let error = Client::builder().limit(limit);
        let mut waiting = Vec::new();
        let error = loop {
            match error.clone().connect::<(), (), _>(directory.socket()).await {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
        };
        assert!(error.is_timeout(), "{error}");
    });
}

/// Who goes away in the middle has gone away, and no more.
#[test]
fn whoever_leaves_is_gone() {
    here(|| async {
        let directory = Directory::new();
        let builder = Listener::builder().authkey(key());
        let mut listener = builder.bind::<u32, u32, _>(directory.socket()).unwrap();
        for says in [&b""[..], b"\0\0", b"\0\0\0\x40half of"] {
            let mut client = UnixStream::connect(directory.socket()).unwrap();
            client.write_all(says).unwrap();
            drop(client);
            let reason = refusal(&mut listener).await;
            assert!(reason.is_closed(), "{reason}");
        }
        welcome(&mut listener).await;
    });
}

/// A thousand clients that say nothing. Each has its handshake beside the others, and the oldest go
/// when there are too many.
#[test]
fn a_thousand_silent_clients_keep_nobody_waiting() {
    let _scene = scene();
    let Some(_raised) = Descriptors::at_least(4_000) else {
        return cannot_run("a thousand silent clients", "too few descriptors");
    };
    let runtime = runtime(2);
    let listening = async {
        let directory = Directory::new();
        let any: Address = directory.socket().try_into().unwrap();
        for address in [any, any_port()] {
            let mut longest = Duration::MAX;
            // A machine that others keep busy may take longer once, and not each time.
            for _ in 0..4 {
                longest = longest.min(longest_among_a_thousand(&address).await);
                if longest < Duration::from_secs(1) {
                    break;
                }
            }
            assert!(longest < Duration::from_secs(1), "{longest:?}");
        }
    };
    runtime.block_on(async { tokio::time::timeout(HANG, listening).await.unwrap() });
}

/// How long the one of six clients waited that waited for longest: five while a thousand silent ones come,
/// and one when they are there.
async fn longest_among_a_thousand(address: &Address) -> Duration {
    let builder = Listener::builder().authkey(key());
    let mut listener = builder.bind::<u32, u32, _>(address).unwrap();
    let to = listener.address().clone();
    let silent = tokio::task::spawn_blocking(move || {
        (0..1_000).map(|_| Silent::connect(&to)).collect::<Vec<_>>()
    });
    let (mut longest, mut reasons) = (Duration::ZERO, Vec::new());
    let mut welcome_soon = async || {
        let begun = Instant::now();
        reasons.extend(welcome(&mut listener).await);
        longest = longest.max(begun.elapsed());
    };
    for _ in 0..5 {
        welcome_soon().await;
    }
    let silent = silent.await.unwrap();
    welcome_soon().await;
    assert!(reasons.len() >= 64, "so many are kept");
    assert!(reasons.iter().all(HandshakeError::is_displaced));
    drop(silent);
    longest
}

/// A client that only connects.
enum Silent {
    Unix { _stream: UnixStream },
    Tcp { _stream: TcpStream },
}

impl Silent {
    fn connect(address: &Address) -> Self {
        match (address.path(), address.socket_addr()) {
            (Some(path), _) => Self::Unix {
                _stream: UnixStream::connect(path).unwrap(),
            },
            (None, port) => Self::Tcp {
                _stream: TcpStream::connect(port.unwrap()).unwrap(),
            },
        }
    }
}

/// A limit on descriptors that is put back.
struct Descriptors(Rlimit);

impl Descriptors {
    fn at_least(count: u64) -> Option<Self> {
        let before = getrlimit(Resource::Nofile);
        let enough = before.current.is_none_or(|current| current >= count);
        let current = if enough { before.current } else { Some(count) };
        let maximum = before.maximum;
        let raised = setrlimit(Resource::Nofile, Rlimit { current, maximum });
        raised.is_ok().then_some(Self(before))
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

/// Clients that nobody accepts are bounded, too: the rest stay in the system's queue, and come in as
/// others are taken.
#[test]
fn whoever_is_not_accepted_waits() {
    here(|| async {
        let directory = Directory::new();
        let builder = Listener::builder().backlog(2).max_pending(1);
        let mut listener = builder.bind::<u32, u32, _>(directory.socket()).unwrap();
        let address = listener.address().clone();
        let clients = tokio::spawn(async move {
            let clients = (0..20).map(|n| {
                let address = address.clone();
                async move {
                    let mut client = Client::connect::<u32, u32, _>(address).await.unwrap();
                    client.send(&n).await.unwrap();
                    client.recv().await.unwrap()
                }
            });
            futures::future::join_all(clients).await
        });
        for _ in 0..20 {
            let mut accepted = listener.accept().await.unwrap();
            let n = accepted.recv().await.unwrap();
            accepted.send(&(n + 100)).await.unwrap();
        }
        let answers: Vec<u32> = clients.await.unwrap();
        assert_eq!(answers, (100..120).collect::<Vec<_>>());
    });
}

/// While there are no descriptors for them clients wait, nothing spins, and nothing ends.
#[test]
fn a_listener_without_descriptors_waits_for_some() {
    if role().is_some() {
        return short_of_descriptors();
    }
    let _scene = scene();
    let test = "a_listener_without_descriptors_waits_for_some";
    let mut program = Program::start(test, "short");
    let path = program.hear();
    let _waiting = UnixStream::connect(path).unwrap();
    // It has used the processor for as much of this as it says.
    program.tell("connected");
    let milliseconds: u64 = program.hear().parse().unwrap();
    assert!(milliseconds < 250, "{milliseconds} ms of half a second");
    assert_eq!(program.hear(), "accepted");
    assert!(program.end().success());
}

fn short_of_descriptors() {
    let directory = Directory::new();
    let mut listener = Listener::<(), ()>::bind(directory.socket()).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    let few = Rlimit {
        current: Some(64),
        maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    say(directory.socket().display());
    hear();
    let used = || {
        let clock = rustix::time::ClockId::ProcessCPUTime;
        let time = rustix::time::clock_gettime(clock);
        time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
    };
    let before = used();
    let limit = Some(Duration::from_millis(500));
    assert!(listener.blocking_accept(limit).unwrap_err().is_timeout());
    say(used() - before);
    drop(files);
    listener.blocking_accept(Some(HANG)).unwrap();
    say("accepted");
}

/// At a Unix path the kernel says who comes.
#[test]
fn another_user_is_let_in_only_where_that_was_said() {
    let _scene = scene();
    if !rustix::process::geteuid().is_root() {
        return cannot_run("another user", "only root can be another");
    }
    let runtime = runtime(1);
    runtime.block_on(async {
        for any_user in [false, true] {
            let directory = Directory::new();
            let builder = Listener::builder().mode(0o666);
            let builder = if any_user {
                builder.any_user()
            } else {
                builder
            };
            let mut listener = builder.bind::<u32, u32, _>(directory.socket()).unwrap();
            let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); \
                          s.connect(sys.argv[1]); s.sendall(b'\\0\\0\\0\\1x'); s.recv(1)";
            let path = std::env::var_os("PATH").unwrap_or_default();
            let started = std::env::split_paths(&path).find_map(|folder| {
                let mut command = Command::new(folder.join("python3"));
                command.args(["-c", script]).arg(directory.socket());
                command.uid(65_534).gid(65_534).stdin(Stdio::null());
                command.stderr(Stdio::null()).spawn().ok()
            });
            let Some(mut client) = started else {
                return cannot_run("another user", "no python3 that it may run");
            };
            match listener.accept_or_refusal().await.unwrap() {
                Arrival::Accepted(mut connection, peer) => {
                    assert!(any_user);
                    assert_eq!((peer.uid(), peer.gid()), (Some(65_534), Some(65_534)));
                    assert_eq!(peer.pid(), Some(client.id()));
                    assert_eq!(connection.recv_bytes().await.unwrap(), b"x");
                }
                Arrival::Refused(refusal) => {
                    assert!(!any_user);
                    assert!(refusal.reason().is_foreign_user());
                    assert_eq!(refusal.peer().uid(), Some(65_534));
                }
            }
            client.wait().unwrap();
        }
    });
}

fn same_key((theirs, bytes): (AuthKey, Vec<u8>)) -> AuthKey {
    assert_eq!(theirs.expose(), bytes);
    theirs
}

/// The key goes to a child beside the bytes of its argument, and comes back; it is shown nowhere.
#[test]
fn a_key_travels_and_is_not_told() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let key = AuthKey::random().unwrap();
        let bytes = key.expose().to_vec();
        assert_eq!(bytes.len(), 32);
        let back = pool.submit(same_key, (key.clone(), bytes.clone()));
        assert_eq!(back.await.unwrap().expose(), bytes);
        pool.shutdown().await;

        let (mut one, mut other) = pipe::<AuthKey, AuthKey>().unwrap();
        one.send(&key).await.unwrap();
        assert_eq!(other.recv().await.unwrap().expose(), bytes);
        let error = serde_json::to_string(&key).unwrap_err();
        assert!(error.to_string().contains("travels only"), "{error}");
        let shown = format!("{:?}", Listener::builder().authkey(key.clone()));
        assert!(shown.contains("AuthKey(..)"), "{shown}");
    });
    let error = AuthKey::new("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
