//! Python programs at the other end of connections, with every version that is to be found: they
//! listen or connect, have the right key or another, and go away when they should not.

#[path = "support/python.rs"]
mod python;
#[path = "support/socket.rs"]
mod socket;
mod support;
#[path = "support/surroundings.rs"]
mod surroundings;

use std::sync::OnceLock;

use procpool::connection::{Arrival, ConnectError, HandshakeError};
use procpool::{Address, AuthKey, AuthMode, Client, Connection, Listener};
use python::{Peer, Python, pythons};
use socket::Directory;
use support::{HANG, runtime, scene};

const KEY: &str = "secret password";

/// Runs a test with each Python, on a runtime of each kind in turn.
fn with_each<F: Future<Output = ()>>(name: &str, test: impl Fn(&'static Python) -> F) {
    for (python, threads) in pythons(name).iter().zip([1, 2].into_iter().cycle()) {
        let scene = scene();
        let runtime = runtime(threads);
        let test = async { tokio::time::timeout(HANG, test(python)).await };
        assert!(runtime.block_on(test).is_ok(), "hangs with {python}");
        drop(runtime);
        drop(scene);
    }
}

/// The one that has to be chosen for it.
fn mode(python: &Python) -> AuthMode {
    match python.knows_sha256() {
        true => AuthMode::Python,
        false => AuthMode::PythonMd5,
    }
}

fn places(directory: &Directory) -> [Address; 2] {
    let [path, port, _] = directory.addresses();
    [path, port]
}

fn listen(address: &Address, mode: AuthMode) -> Listener<(), ()> {
    let builder = Listener::builder().authkey(AuthKey::new(KEY).unwrap());
    builder.auth_mode(mode).bind(address).unwrap()
}

/// Connects to a listener that says where it is.
async fn connect(
    peer: &Peer,
    key: &str,
    mode: AuthMode,
) -> Result<Connection<(), ()>, ConnectError> {
    let address: Address = peer.hear().parse().unwrap();
    let client = Client::builder().authkey(AuthKey::new(key).unwrap());
    client.auth_mode(mode).connect(address).await
}

async fn refusal(listener: &mut Listener<(), ()>) -> HandshakeError {
    match listener.accept_or_refusal().await.unwrap() {
        Arrival::Refused(refusal) => refusal.reason().clone(),
        Arrival::Accepted(..) => panic!("was let in"),
    }
}

/// Bytes of every size there and back.
async fn converse(mut connection: Connection<(), ()>, python: &Python) {
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    let all = ALL.get_or_init(|| (0..=255).collect::<Vec<u8>>().repeat(256 << 10));
    // Up to 16 KiB goes out of a Python in one piece with its header.
    for size in [0, 1, 255, 16_384, 16_385, 1 << 20, 64 << 20] {
        let bytes = &all[..size];
        connection.send_bytes(bytes).await.unwrap();
        let back = connection.recv_bytes().await.unwrap();
        assert!(back == bytes, "{python}: {size} bytes, {} back", back.len());
    }
}

#[test]
fn python_connects_and_bytes_of_every_size_come_back() {
    with_each("python connects", |python| async move {
        let directory = Directory::new();
        for address in places(&directory) {
            let mut listener = listen(&address, mode(python));
            let peer = python.play("connect-bytes", listener.address(), KEY);
            let connection = listener.accept().await.unwrap();
            converse(connection, python).await;
            assert_eq!(peer.hear(), "end");
            peer.end();
        }
    });
}

#[test]
fn python_listens_and_bytes_of_every_size_come_back() {
    with_each("python listens", |python| async move {
        let directory = Directory::new();
        for address in places(&directory) {
            let peer = python.play("listen-bytes", &address, KEY);
            let connection = connect(&peer, KEY, mode(python)).await.unwrap();
            converse(connection, python).await;
            assert_eq!(peer.hear(), "end");
            peer.end();
        }
    });
}

/// Without a key on either side there is no handshake.
#[test]
fn without_a_key_nothing_is_proved() {
    with_each("no key", |python| async move {
        let directory = Directory::new();
        let mut listener = Listener::<(), ()>::bind(directory.socket()).unwrap();
        let peer = python.play("connect-bytes", listener.address(), "");
        let mut connection = listener.accept().await.unwrap();
        connection.send_bytes(b"hello").await.unwrap();
        assert_eq!(connection.recv_bytes().await.unwrap(), b"hello");
        drop(connection);
        peer.end();
    });
}

/// CF-259. Either end finds out, and says so in its own words.
#[test]
fn another_key_is_found_out_by_both() {
    with_each("another key", |python| async move {
        let mut listener = listen(&"127.0.0.1:0".parse().unwrap(), mode(python));
        let peer = python.play("connect-bytes", listener.address(), "a guess");
        let reason = refusal(&mut listener).await;
        assert!(reason.is_authentication(), "{python}: {reason}");
        assert_eq!(peer.hear(), "AuthenticationError");
        peer.end();

        let directory = Directory::new();
        let peer = python.play("listen-bytes", &directory.addresses()[0], KEY);
        let error = connect(&peer, "a guess", mode(python)).await.unwrap_err();
        assert!(error.is_authentication(), "{python}: {error}");
        assert_eq!(peer.hear(), "AuthenticationError");
        peer.end();
    });
}

/// Older Pythons know nothing but HMAC-MD5, which is refused where nobody has allowed it. The newer
/// ones prefer what is better, where both are allowed.
#[test]
fn md5_is_spoken_only_where_it_was_allowed() {
    with_each("md5", |python| async move {
        let modes = [AuthMode::Python, AuthMode::PythonMd5];
        for mode in modes {
            let works = python.knows_sha256() || mode == AuthMode::PythonMd5;
            let mut listener = listen(&"127.0.0.1:0".parse().unwrap(), mode);
            let peer = python.play("connect-bytes", listener.address(), KEY);
            if works {
                drop(listener.accept().await.unwrap());
            } else {
                let reason = refusal(&mut listener).await.to_string();
                assert!(reason.contains("AuthMode::PythonMd5"), "{reason}");
            }
            drop(peer);
            let directory = Directory::new();
            let peer = python.play("listen-bytes", &directory.addresses()[0], KEY);
            match connect(&peer, KEY, mode).await {
                Ok(_) => assert!(works, "{python}"),
                Err(error) => assert!(!works && error.is_authentication(), "{python}: {error}"),
            }
        }
    });
}

/// A Python that knows nothing of the stricter handshake is turned away by it, and not kept waiting.
#[test]
fn the_stricter_handshake_is_not_for_python() {
    with_each("the stricter handshake", |python| async move {
        let mut listener = listen(&"127.0.0.1:0".parse().unwrap(), AuthMode::Procpool);
        let peer = python.play("connect-bytes", listener.address(), KEY);
        let told = peer.hear();
        assert!(
            ["AuthenticationError", "AssertionError"].contains(&&*told),
            "{told}"
        );
        peer.end();
        let reason = refusal(&mut listener).await;
        assert!(reason.is_closed(), "{python}: {reason}");
    });
}

/// In the middle of the handshake, and in the middle of a message.
#[test]
fn a_python_that_vanishes_has_vanished() {
    with_each("vanishing", |python| async move {
        let directory = Directory::new();
        for address in places(&directory) {
            let mut listener = listen(&address, mode(python));
            let peer = python.play("connect-vanish", listener.address(), KEY);
            let reason = refusal(&mut listener).await;
            assert!(reason.is_closed(), "{python}: {reason}");
            peer.end();
            let peer = python.play("connect-half", listener.address(), KEY);
            let mut connection = listener.accept().await.unwrap();
            let error = connection.recv_bytes().await.unwrap_err();
            assert!(error.is_broken() && !error.is_closed(), "{python}: {error}");
            peer.end();
        }
        let peer = python.play("listen-half", &directory.addresses()[1], KEY);
        let mut connection = connect(&peer, KEY, mode(python)).await.unwrap();
        let error = connection.recv_bytes().await.unwrap_err();
        assert!(error.is_broken() && !error.is_closed(), "{python}: {error}");
        peer.end();
    });
}
