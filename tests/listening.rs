//! Listeners and their clients, of each kind of address: they find each other, talk, and leave
//! nothing behind. Those who mean no good are in `listening_strangers`.

#[path = "support/socket.rs"]
mod socket;
mod support;

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use procpool::connection::AcceptError;
use procpool::{Address, AuthKey, AuthMode, Client, Connection, Listener};
use socket::Directory;
use support::{HANG, PROMPTLY, everywhere, pool, runtime, scene};

const MODES: [AuthMode; 3] = [AuthMode::Python, AuthMode::PythonMd5, AuthMode::Procpool];

type Texts = Connection<String, String>;

/// One test's time on a runtime of each kind, without a pool.
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

fn listen<S, R>(address: &Address) -> Listener<S, R> {
    let builder = Listener::builder().authkey(key());
    builder.bind(address).unwrap()
}

async fn connect<S, R>(address: &Address) -> Connection<S, R> {
    let builder = Client::builder().authkey(key());
    builder.connect(address).await.unwrap()
}

/// One that was somebody's a moment ago.
fn a_free_port() -> Address {
    let listener = listen::<(), ()>(&"127.0.0.1:0".parse().unwrap());
    listener.address().clone()
}

fn say_hello((address, key): (String, AuthKey)) {
    let client = Client::builder().authkey(key);
    let mut connection: Texts = client.blocking_connect(&*address).unwrap();
    connection.blocking_send(&"hello".to_owned(), None).unwrap();
}

/// CF-253. The key goes to the child in its argument.
#[test]
fn a_child_says_hello_at_every_kind_of_address() {
    everywhere(|method| async move {
        let directory = Directory::new();
        let pool = pool(1, method);
        for address in directory.addresses() {
            let mut listener = listen(&address);
            let address = listener.address().to_string();
            let task = pool.submit(say_hello, (address, key()));
            let mut connection: Texts = listener.accept().await.unwrap();
            assert_eq!(connection.recv().await.unwrap(), "hello");
            task.await.unwrap();
            assert!(connection.recv().await.unwrap_err().is_closed());
        }
        pool.shutdown().await;
        assert_eq!(directory.count(), 0);
    });
}

/// CF-253, the part of the scope.
#[test]
fn after_it_is_closed_nobody_is_accepted() {
    here(|| async {
        let directory = Directory::new();
        for address in directory.addresses() {
            let mut listener = listen::<u32, u32>(&address);
            let address = listener.address().clone();
            let mut client: Connection<u32, u32> = connect(&address).await;
            client.send(&1729).await.unwrap();
            let mut accepted = listener.accept().await.unwrap();
            assert_eq!(accepted.recv().await.unwrap(), 1729);
            for _ in 0..2 {
                listener.close();
                assert!(listener.accept().await.unwrap_err().is_closed());
                let error = listener.blocking_accept(None).unwrap_err();
                assert!(error.is_closed() && !error.is_timeout(), "{error}");
                assert!(listener.next().await.is_none());
            }
            // What was accepted goes on.
            accepted.send(&1).await.unwrap();
            assert_eq!(client.recv().await.unwrap(), 1);
            // And the address is free at once.
            drop(listen::<(), ()>(&address));
        }
        assert_eq!(directory.count(), 0);
    });
}

/// CF-254.
#[test]
fn an_address_has_one_listener() {
    here(|| async {
        let directory = Directory::new();
        for address in directory.addresses() {
            let mut listener = listen::<(), ()>(&address);
            let address = listener.address().clone();
            let second = Listener::builder()
                .authkey(key())
                .bind::<(), (), _>(&address);
            assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
            let client = tokio::spawn(async move { connect::<(), ()>(&address).await });
            listener.accept().await.unwrap();
            drop(client.await.unwrap());
        }
    });
}

/// CF-255: they are not there, because whoever is first on the machine has them.
#[test]
fn abstract_addresses_are_refused() {
    let error = Listener::<(), ()>::bind("\0listener").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("abstract"), "{error}");
    let error = Client::blocking_connect::<(), (), _>("\0listener").unwrap_err();
    assert!(error.to_string().contains("abstract"), "{error}");
}

/// CF-256, CF-257, CF-262. Between accepting and connecting time passes, which nobody's default limit
/// ends; then the accepting side speaks first.
#[test]
fn whoever_accepts_can_wait_and_can_speak_first() {
    here(|| async {
        let directory = Directory::new();
        for address in directory.addresses() {
            let mut listener = listen::<u32, ()>(&address);
            let address = listener.address().clone();
            assert!(listener.accept().now_or_never().is_none());
            let client = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let mut connection: Connection<(), u32> = connect(&address).await;
                assert!(connection.poll(PROMPTLY).await.unwrap());
                assert_eq!(connection.recv().await.unwrap(), 456);
                connection.send_bytes(b"7 bytes").await.unwrap();
            });
            let mut accepted = listener.accept().await.unwrap();
            accepted.send(&456).await.unwrap();
            assert_eq!(accepted.recv_bytes().await.unwrap(), b"7 bytes");
            client.await.unwrap();
        }
    });
}

/// CF-258.
#[test]
fn bad_addresses_are_told_apart() {
    here(|| async {
        let directory = Directory::new();
        for text in [r"\\.\pipe\name", "", "nowhere", "localhost:6000"] {
            let error = Client::connect::<(), (), _>(text).await.unwrap_err();
            assert_eq!(std::io::Error::from(error).kind(), ErrorKind::InvalidInput);
            let error = Listener::<(), ()>::bind(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let long = directory.path().join("x".repeat(108));
        let error = Listener::<(), ()>::bind(long).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");

        let begun = Instant::now();
        let error = Client::connect::<(), (), _>(directory.socket()).await;
        let error = error.unwrap_err();
        assert!(
            error.is_nobody_there() && !error.is_authentication(),
            "{error}"
        );
        // A socket that nobody listens at any more.
        drop(UnixListener::bind(directory.socket()).unwrap());
        let error = Client::connect::<(), (), _>(directory.socket()).await;
        assert!(error.unwrap_err().is_nobody_there());
        let gone = a_free_port();
        let error = Client::connect::<(), (), _>(&gone).await.unwrap_err();
        assert!(error.is_nobody_there(), "{error}");
        assert!(error.to_string().contains(&gone.to_string()), "{error}");
        assert!(begun.elapsed() < PROMPTLY);
    });
}

/// CF-261.
#[test]
fn a_signal_does_not_end_the_waiting() {
    here(|| async {
        let kind = tokio::signal::unix::SignalKind::user_defined1();
        let mut signals = tokio::signal::unix::signal(kind).unwrap();
        let mut listener = listen::<(), ()>(&"127.0.0.1:0".parse().unwrap());
        let address = listener.address().clone();
        let accepting = tokio::task::spawn_blocking(move || {
            listener.blocking_accept(None).unwrap();
        });
        for _ in 0..5 {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::USR1).unwrap();
            signals.recv().await.unwrap();
        }
        assert!(!accepting.is_finished());
        connect::<(), ()>(&address).await;
        accepting.await.unwrap();
    });
}

fn accept_one((address, key): (String, AuthKey)) -> Texts {
    let listener = Listener::builder().authkey(key).bind(&*address);
    listener.unwrap().blocking_accept(None).unwrap()
}

fn say_loudly((address, key, text): (String, AuthKey, String)) {
    let client = Client::builder().authkey(key).limit(HANG);
    // The listener is another child, which may not be there yet.
    let begun = Instant::now();
    let mut connection: Texts = loop {
        match client.clone().blocking_connect(&*address) {
            Err(error) if error.is_nobody_there() && begun.elapsed() < HANG => {
                std::thread::sleep(Duration::from_millis(2));
            }
            connected => break connected.unwrap(),
        }
    };
    connection
        .blocking_send(&text.to_uppercase(), None)
        .unwrap();
}

/// CF-263.
#[test]
fn a_connection_that_a_child_has_accepted_can_be_handed_on() {
    everywhere(|method| async move {
        let directory = Directory::new();
        let pool = pool(2, method);
        let port = a_free_port().to_string();
        for address in [directory.socket().to_str().unwrap().to_owned(), port] {
            let accepting = pool.submit(accept_one, (address.clone(), key()));
            let saying = pool.submit(say_loudly, (address, key(), "hello".to_owned()));
            let mut connection = accepting.await.unwrap();
            assert_eq!(connection.recv().await.unwrap(), "HELLO");
            saying.await.unwrap();
        }
        pool.shutdown().await;
    });
}

/// What is large, and what comes in many pieces, is as it is on a pipe; whatever the handshake.
#[test]
fn messages_go_as_they_do_on_a_pipe() {
    here(|| async {
        let directory = Directory::new();
        for (address, mode) in directory.addresses().into_iter().zip(MODES) {
            let builder = Listener::builder().authkey(key()).auth_mode(mode);
            let mut listener = builder.bind::<u32, u32, _>(&address).unwrap();
            let client = Client::builder().authkey(key()).auth_mode(mode);
            let address = listener.address().clone();
            let echo = tokio::spawn(async move {
                let mut connection: Connection<u32, u32> = client.connect(address).await.unwrap();
                // Some of it comes along with the end of the handshake.
                while let Ok(bytes) = connection.recv_bytes().await {
                    connection.send_bytes(&bytes).await.unwrap();
                }
            });
            let mut connection = listener.accept().await.unwrap();
            for length in [0, 1, 100_000, 8 << 20] {
                let bytes: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
                connection.send_bytes(&bytes).await.unwrap();
                assert!(connection.recv_bytes().await.unwrap() == bytes, "{length}");
            }
            drop(connection);
            echo.await.unwrap();
        }
    });
}

/// Without a runtime, and with limits that pass.
#[test]
fn threads_can_listen_and_connect() {
    let _scene = scene();
    let directory = Directory::new();
    let mut listener = listen::<u32, u32>(&directory.socket().try_into().unwrap());
    let limit = Duration::from_millis(50);
    let begun = Instant::now();
    let error = listener.blocking_accept(Some(limit)).unwrap_err();
    assert!(error.is_timeout() && begun.elapsed() >= limit, "{error}");
    let address = listener.address().clone();
    let client = std::thread::spawn(move || {
        let client = Client::builder().authkey(key());
        let mut connection: Connection<u32, u32> = client.blocking_connect(address).unwrap();
        connection.blocking_send(&7, Some(HANG)).unwrap();
        connection.blocking_recv(Some(HANG)).unwrap()
    });
    let mut connection = listener.blocking_accept(Some(HANG)).unwrap();
    let n = connection.blocking_recv(Some(HANG)).unwrap();
    connection.blocking_send(&(n * 6), Some(HANG)).unwrap();
    assert_eq!(client.join().unwrap(), 42);
}

/// Who accepts and gives up takes nobody away.
#[test]
fn accepting_can_be_given_up() {
    here(|| async {
        let mut listener = listen::<u32, u32>(&"127.0.0.1:0".parse().unwrap());
        let address = listener.address().clone();
        let clients = tokio::spawn(async move {
            for n in 0..20 {
                connect::<u32, u32>(&address).await.send(&n).await.unwrap();
            }
        });
        let mut got = Vec::new();
        while got.len() < 20 {
            let limit = Duration::from_micros(100);
            if let Ok(accepted) = tokio::time::timeout(limit, listener.accept()).await {
                got.push(accepted.unwrap().recv().await.unwrap());
            }
        }
        assert_eq!(got, (0..20).collect::<Vec<_>>());
        clients.await.unwrap();
    });
}

/// A listener is a stream, and says who came.
#[test]
fn clients_come_as_a_stream_and_are_known() {
    here(|| async {
        let directory = Directory::new();
        let mut listener = Listener::<(), ()>::bind(directory.socket()).unwrap();
        assert!(listener.last_accepted().is_none());
        let address = listener.address().clone();
        assert_eq!(address.path(), Some(&*directory.socket()));
        let _client: Connection<(), ()> = Client::connect(&address).await.unwrap();
        let accepted: Result<Connection<(), ()>, AcceptError> = listener.next().await.unwrap();
        accepted.unwrap();
        let peer = listener.last_accepted().unwrap();
        assert_eq!(peer.pid(), Some(std::process::id()));
        let user = rustix::process::geteuid().as_raw();
        assert_eq!((peer.uid(), peer.socket_addr()), (Some(user), None));

        let mut listener = listen::<(), ()>(&"127.0.0.1:0".parse().unwrap());
        let address = listener.address().clone();
        assert!(
            address
                .socket_addr()
                .is_some_and(|address| address.port() > 0)
        );
        let client = connect::<(), ()>(&address).await;
        let accepted = listener.accept().await.unwrap();
        for end in [client.as_fd(), accepted.as_fd()] {
            assert!(rustix::net::sockopt::tcp_nodelay(end).unwrap());
        }
        let peer = listener.last_accepted().unwrap();
        assert!(
            peer.socket_addr()
                .is_some_and(|from| from.ip().is_loopback())
        );
        assert_eq!((peer.pid(), peer.uid(), peer.gid()), (None, None, None));
    });
}

/// The mode is that which was said, from the first moment and whatever the umask.
#[test]
fn a_path_has_the_mode_that_was_said_and_goes_with_its_listener() {
    let _scene = scene();
    let directory = Directory::new();
    let path = directory.socket();
    for (mode, found) in [(None, 0o600), (Some(0o666), 0o666), (Some(0o620), 0o620)] {
        let builder = Listener::builder();
        let builder = mode
            .into_iter()
            .fold(builder, |builder, mode| builder.mode(mode));
        let listener = builder.bind::<(), (), _>(&path).unwrap();
        let file = std::fs::symlink_metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, found);
        drop(listener);
        assert!(!path.exists());
    }
    // But not if somebody has put something else there.
    let listener = Listener::<(), ()>::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(UnixStream::connect(&path).is_ok());
    drop(other);
}

/// Over TCP a key is needed, or to say that none is.
#[test]
fn a_port_is_not_open_to_everybody_by_oversight() {
    here(|| async {
        let error = Listener::<(), ()>::bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("authkey"), "{error}");
        let open = Listener::builder().without_authkey();
        let mut listener = open.bind::<u32, u32, _>("127.0.0.1:0").unwrap();
        let mut client = Client::connect::<u32, u32, _>(listener.address())
            .await
            .unwrap();
        client.send(&1).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().recv().await.unwrap(), 1);
    });
}

/// With TCP there is a network between, and an end that was not an orderly one is told as what it is,
/// whichever half meets it first.
#[test]
fn a_reset_is_not_taken_for_an_end() {
    here(|| async {
        for sends_first in [false, true] {
            let mut listener = listen::<u32, u32>(&"127.0.0.1:0".parse().unwrap());
            let mut client = connect::<u32, u32>(listener.address()).await;
            let mut accepted = listener.accept().await.unwrap();
            accepted.send(&1).await.unwrap();
            // With something unread, closing is a reset.
            client.send(&2).await.unwrap();
            assert!(client.poll(PROMPTLY).await.unwrap());
            drop(client);
            assert_eq!(accepted.recv().await.unwrap(), 2);
            if sends_first {
                while accepted.send(&3).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            }
            for _ in 0..2 {
                let error = accepted.recv().await.unwrap_err();
                assert!(error.is_reset() && error.is_broken(), "{error}");
                assert!(!error.is_closed(), "{error}");
                assert!(accepted.try_recv().unwrap_err().is_reset());
            }
            assert!(accepted.send(&4).await.unwrap_err().is_broken_pipe());
            let error = std::io::Error::from(accepted.recv().await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    });
}
