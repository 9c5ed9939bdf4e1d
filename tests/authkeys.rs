//! The key that a program's processes have in common: who has which, and where it is not to be found.

mod support;

#[path = "support/surroundings.rs"]
mod surroundings;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use procpool::{
    AuthKey, Client, Connection, Listener, Process, ProcessPool, StartMethod, current_process,
};
use support::{HANG, descendants, everywhere, pool};
use surroundings::cannot_run;

fn own(_: ()) -> AuthKey {
    current_process().authkey().unwrap()
}

fn same(one: &AuthKey, other: &AuthKey) -> bool {
    one.expose() == other.expose()
}

/// The key of a process that this one starts.
fn of_a_child(method: StartMethod) -> AuthKey {
    let child = Process::builder().start_method(method).spawn(own, ());
    child.blocking_wait().unwrap().blocking_join(None).unwrap()
}

/// CF-123.
#[test]
fn a_key_is_made_once_and_of_chance() {
    let key = own(());
    assert_eq!(key.expose().len(), 32);
    assert!(same(&key, &own(())));
    assert!(!same(&key, &AuthKey::random().unwrap()));
    assert_eq!(format!("{key:?}"), "AuthKey(..)");
}

/// CF-124: a worker of a pool and the child of a child, too.
#[test]
fn every_process_of_the_program_has_the_key() {
    everywhere(|method| async move {
        let key = own(());
        let child = Process::builder().start_method(method);
        let child = child.spawn(own, ()).await.unwrap();
        assert!(same(&child.join().await.unwrap(), &key));
        let pool = pool(1, method);
        assert!(same(&pool.submit(own, ()).await.unwrap(), &key));
        let below = pool.submit(of_a_child, method);
        assert!(same(&below.await.unwrap(), &key));
        pool.shutdown().await;
    });
}

/// CF-272: what is preloaded has it as those have that are forked then.
#[test]
fn a_fork_server_that_preloads_has_the_key() {
    static PRELOADED: std::sync::OnceLock<AuthKey> = std::sync::OnceLock::new();
    let preload = |()| drop(PRELOADED.set(own(())));
    everywhere(|_| async move {
        let builder = ProcessPool::builder().workers(1).preload(preload, ());
        let pool = builder.build().unwrap();
        let keys = pool.submit(|()| (PRELOADED.get().cloned(), own(())), ());
        let (preloaded, workers) = keys.await.unwrap();
        assert!(same(&preloaded.unwrap(), &own(())));
        assert!(same(&workers, &own(())));
        pool.shutdown().await;
    });
}

/// What a process finds that gets another key: whether the children that it had keep theirs, those
/// that it has then get the new one, and one that is given its own has that.
fn change(method: StartMethod) -> [bool; 5] {
    let first = own(());
    let pool = pool(1, method);
    let before = pool.submit(own, ()).blocking_wait(None).unwrap();
    current_process().set_authkey(AuthKey::new("another").unwrap());
    let kept = pool.submit(own, ()).blocking_wait(None).unwrap();
    let later = of_a_child(method);
    let favoured = Process::builder()
        .start_method(method)
        .authkey(AuthKey::new("its own").unwrap());
    let favoured = favoured.spawn(own, ()).blocking_wait().unwrap();
    let favoured = favoured.blocking_join(None).unwrap();
    [
        same(&before, &first),
        same(&kept, &first),
        later.expose() == b"another",
        favoured.expose() == b"its own",
        own(()).expose() == b"another",
    ]
}

/// CF-124, CF-126.
#[test]
fn another_key_is_for_the_children_to_come_alone() {
    everywhere(|method| async move {
        let builder = Process::builder().start_method(method);
        let process = builder.spawn(change, method).await.unwrap();
        assert_eq!(process.join().await.unwrap(), [true; 5]);
        let key = current_process().authkey().unwrap();
        assert_ne!(key.expose(), b"another");
    });
}

fn say_hello(address: String) {
    let client = Client::builder().authkey(own(())).limit(HANG);
    let mut connection: Connection<String, ()> = client.blocking_connect(&*address).unwrap();
    connection
        .blocking_send(&"hello".to_owned(), Some(HANG))
        .unwrap();
}

/// Those who have used it, too, and the fork server, by whose hands it went.
#[test]
fn nobody_finds_the_key_around_a_process_or_in_its_core() {
    everywhere(|method| async move {
        let key = own(());
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        let listener = Listener::builder().authkey(key.clone()).bind("127.0.0.1:0");
        let mut listener: Listener<(), String> = listener.unwrap();
        let call = pool.submit(say_hello, listener.address().to_string());
        let mut guest = listener.accept().await.unwrap();
        assert_eq!(guest.recv().await.unwrap(), "hello");
        call.await.unwrap();

        let own_pid = std::process::id();
        // What is here, is found.
        let shown = AuthKey::random().unwrap().expose().to_vec();
        let control = in_core(own_pid, &shown).map(|places| places.len());
        assert!(control.unwrap_or(1) > 0);
        let family = [vec![own_pid], descendants(own_pid)].concat();
        assert!(family.len() >= 3, "{family:?}");
        for pid in family {
            for name in ["environ", "cmdline"] {
                let text = fs::read(format!("/proc/{pid}/{name}")).unwrap();
                assert_eq!(count(&text, key.expose()), 0, "{name} of {pid}");
            }
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
                let open = fs::read_link(entry.unwrap().path()).unwrap_or_default();
                assert!(
                    !open.to_string_lossy().contains("memfd:procpool-authkey"),
                    "{open:?}"
                );
            }
            match in_core(pid, key.expose()) {
                Ok(places) => assert!(places.is_empty(), "in {pid}: {places:#?}"),
                Err(error) => cannot_run("the search for a key in memory", error),
            }
        }
        drop((guest, listener));
        pool.shutdown().await;
    });
}

/// The mappings of a process that would be in a core dump and have these bytes in them.
fn in_core(pid: u32, bytes: &[u8]) -> io::Result<Vec<String>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut found = Vec::new();
    let mut mapping = "";
    for line in maps.lines() {
        let Some(flags) = line.strip_prefix("VmFlags:") else {
            let starts = line
                .split(' ')
                .next()
                .is_some_and(|word| word.contains('-'));
            mapping = if starts { line } else { mapping };
            continue;
        };
        let has = |flag| flags.split(' ').any(|other| other == flag);
        // Written to, and not left out.
        if !has("wr") || has("dd") || has("io") {
            continue;
        }
        let (start, rest) = mapping.split_once('-').unwrap();
        let end = rest.split(' ').next().unwrap();
        let [start, end] = [start, end].map(|word| u64::from_str_radix(word, 16).unwrap());
        let mut text = vec![0; usize::try_from(end - start).unwrap()];
        // What is gone meanwhile is in no core.
        if memory.read_exact_at(&mut text, start).is_ok() && count(&text, bytes) > 0 {
            found.push(mapping.to_owned());
        }
    }
    Ok(found)
}

fn count(text: &[u8], bytes: &[u8]) -> usize {
    let windows = text.windows(bytes.len());
    windows.filter(|window| *window == bytes).count()
}
