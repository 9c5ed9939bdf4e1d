//! What a copy of a process knows of itself and of its parent, and has in common with it.

use std::os::fd::AsFd;
use std::time::Duration;

use procpool::connection::blocking_wait;
use procpool::{AuthKey, Process, active_children, current_process, parent_process};

use crate::fork;
use crate::support::scene;

/// CF-124, CF-128, CF-264, CF-268.
pub(crate) fn lineage() {
    let _scene = scene();
    fn introduce(_: ()) -> (String, String, u32, bool, String) {
        let within = Process::spawn(
            |()| current_process().start_method().unwrap().to_string(),
            (),
        );
        let within = within.blocking_wait().unwrap().blocking_join(None).unwrap();
        let (own, parent) = (current_process(), parent_process().unwrap());
        let alive = blocking_wait([parent.as_fd()], Some(Duration::ZERO))
            .unwrap()
            .is_empty();
        (
            own.name().to_owned(),
            parent.name().to_owned(),
            parent.pid(),
            alive,
            within,
        )
    }
    let process = fork()
        .name("copy")
        .spawn(introduce, ())
        .blocking_wait()
        .unwrap();
    assert_eq!(active_children()[0].name(), "copy");
    let told = process.blocking_join(None).unwrap();
    let names = ("copy".to_owned(), "MainProcess".to_owned());
    assert_eq!(
        told,
        (
            names.0,
            names.1,
            std::process::id(),
            true,
            "fork".to_owned()
        )
    );
    assert!(active_children().is_empty());
    assert_eq!(current_process().name(), "MainProcess");
}

/// CF-124: what the copy changes is not its parent's.
pub(crate) fn key() {
    let _scene = scene();
    let change = |()| {
        let own = current_process().authkey().unwrap();
        current_process().set_authkey(AuthKey::new("another").unwrap());
        let new = Process::spawn(|()| current_process().authkey().unwrap(), ());
        let new = new.blocking_wait().unwrap().blocking_join(None).unwrap();
        (own, new)
    };
    let process = fork().spawn(change, ()).blocking_wait().unwrap();
    let (first, new) = process.blocking_join(None).unwrap();
    let own = current_process().authkey().unwrap();
    assert_eq!(first.expose(), own.expose());
    assert_eq!(new.expose(), b"another");
}
