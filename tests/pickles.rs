//! Objects that Python programs send and receive, as values here: what is plain arrives, and what is
//! not is refused and runs nothing.
#![cfg(feature = "pickle")]

#[path = "support/example.rs"]
mod example;
#[path = "support/python.rs"]
mod python;
#[path = "support/socket.rs"]
mod socket;
mod support;
#[path = "support/surroundings.rs"]
mod surroundings;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use example::{Running, example};
use procpool::{Connection, Listener, pipe};
use python::pythons;
use serde::{Deserialize, Serialize};
use socket::Directory;
use support::{HANG, runtime, scene};

/// What a Python program calls a dict.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    name: String,
    amount: u32,
    price: f64,
    note: Option<String>,
    tags: Vec<String>,
    sizes: (u8, i64),
    image: Bytes,
    stock: BTreeMap<String, bool>,
}

fn order() -> Order {
    Order {
        name: "a 'teapot' \u{e9}".to_owned(),
        amount: 70_000,
        price: 2.25,
        note: None,
        tags: vec!["new".to_owned(), String::new()],
        sizes: (7, -(1 << 40)),
        image: Bytes::from_static(b"\x00\xff"),
        stock: BTreeMap::from([("here".to_owned(), true), ("there".to_owned(), false)]),
    }
}

#[test]
fn plain_values_are_what_they_are_in_python_and_come_back() {
    for python in pythons("pickles") {
        let scene = scene();
        let runtime = runtime(1);
        let talk = async {
            let directory = Directory::new();
            let mut listener = Listener::<(), ()>::bind(directory.socket()).unwrap();
            let peer = python.play("connect-objects", listener.address(), "");
            let mut connection = listener.accept().await.unwrap();

            connection.send_pickled(&order()).await.unwrap();
            let repr = "{'name': \"a 'teapot' \u{e9}\", 'amount': 70000, 'price': 2.25, \
                        'note': None, 'tags': ['new', ''], 'sizes': (7, -1099511627776), \
                        'image': b'\\x00\\xff', 'stock': {'here': True, 'there': False}}";
            assert_eq!(peer.hear(), repr, "{python}");
            let back: Order = connection.recv_pickled().await.unwrap();
            assert_eq!(back, order());

            let many: Vec<u32> = (0..10_000).collect();
            connection.send_pickled(&many).await.unwrap();
            peer.hear();
            assert!(connection.recv_pickled::<Vec<u32>>().await.unwrap() == many);

            // What fits no type costs its message.
            connection.send_pickled("text").await.unwrap();
            let error = connection.recv_pickled::<u32>().await.unwrap_err();
            assert!(error.is_decode(), "{error}");
            connection.send_pickled(&()).await.unwrap();
            assert_eq!(connection.recv_pickled::<Option<u8>>().await.unwrap(), None);
            drop(connection);
            assert_eq!([peer.hear(), peer.hear()], ["'text'", "None"]);
            assert_eq!(peer.hear(), "end");
            peer.end();
        };
        runtime.block_on(async { tokio::time::timeout(HANG, talk).await.unwrap() });
        drop(runtime);
        drop(scene);
    }
}

#[test]
fn classes_and_functions_are_refused_and_the_next_message_is_not() {
    for python in pythons("pickles") {
        let _scene = scene();
        let directory = Directory::new();
        let mut listener = Listener::<(), ()>::bind(directory.socket()).unwrap();
        let peer = python.play("connect-others", listener.address(), "");
        let mut connection = listener.blocking_accept(Some(HANG)).unwrap();
        let limit = Some(HANG);
        let error = connection
            .blocking_recv_pickled::<String>(limit)
            .unwrap_err();
        assert!(error.is_decode(), "{error}");
        assert!(format!("{error:#}").contains("posix.system"), "{error:#}");
        let set: Vec<u8> = connection.blocking_recv_pickled(limit).unwrap();
        assert_eq!(set, [1, 2]);
        let error = connection
            .blocking_recv_pickled::<Vec<u8>>(limit)
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("builtins.object"),
            "{error:#}"
        );
        let plain: String = connection.blocking_recv_pickled(limit).unwrap();
        assert_eq!(plain, "plain");
        connection.blocking_send_pickled("done", limit).unwrap();
        assert_eq!(peer.hear(), "done");
        peer.end();
    }
}

/// The example finds `python3` on its path by itself.
#[test]
fn a_python_program_hands_work_to_a_pool() {
    for python in pythons("python_peer") {
        let _scene = scene();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = python.folder().map(Path::to_owned).into_iter();
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&path)));
        let ended = Running::start(example("python_peer").env("PATH", path.unwrap())).end();
        let text = ended.text();
        assert!(ended.status.success(), "{python}: {text}{}", ended.said);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "fib 24 -> 46368", "{python}");
        assert_eq!(lines[1], "collatz 837799 -> 524");
        assert!(
            lines[2].starts_with("crash 0 -> worker died while it ran the task"),
            "{text}"
        );
        assert_eq!(lines[3], "fly 1 -> nobody knows how to fly");
        assert_eq!(lines[4], "fib 10 -> 55");
    }
}

/// All forms are there, on both halves; and without a Python.
#[test]
fn pickles_go_through_pipes() {
    let _scene = scene();
    let (mut one, mut other): (Connection<(), ()>, _) = pipe().unwrap();
    assert!(other.try_recv_pickled::<u8>().unwrap_err().is_empty());
    one.try_send_pickled(&order()).unwrap();
    assert_eq!(other.try_recv_pickled::<Order>().unwrap(), order());
    let short = Some(Duration::from_millis(10));
    let error = other.blocking_recv_pickled::<u8>(short).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    // A value of the connection's own encoding is no pickle.
    one.try_send(&()).unwrap();
    assert!(other.try_recv_pickled::<()>().unwrap_err().is_decode());
    other.set_max_length(10);
    one.try_send_pickled(&order()).unwrap();
    assert!(other.try_recv_pickled::<Order>().unwrap_err().is_too_long());
    // Not everything has a pickle.
    struct Unwilling;
    impl Serialize for Unwilling {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("will not"))
        }
    }
    let error = one.try_send_pickled(&Unwilling).unwrap_err();
    assert!(error.is_encode() && format!("{error:#}").contains("will not"));
}
