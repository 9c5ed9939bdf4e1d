//! What `ps` and `top` show of a pool's processes: `comm` and `cmdline` are what they read.

mod support;

use std::fs;
use std::process::Command;

use procpool::{ProcessPool, StartMethod};
use support::everywhere;

/// A task that tells of its worker and of that one's parent.
fn pids(_: ()) -> [u32; 2] {
    [std::process::id(), std::os::unix::process::parent_id()]
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn command_line(pid: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.trim_end_matches('\0').to_owned()
}

#[test]
fn a_worker_is_shown_by_its_name() {
    everywhere(|method| async move {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let pool = builder.worker_name("resize").build().unwrap();
        let [worker, _] = pool.submit(pids, ()).await.unwrap();
        assert_eq!(comm(worker), "resize-1");
        assert_eq!(command_line(worker), "procpool: worker resize-1");
        pool.shutdown().await;
    });
}

#[test]
fn the_name_of_a_worker_is_the_one_in_its_errors_and_numbers_go_on() {
    everywhere(|method| async move {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let pool = builder.worker_name("resize").build().unwrap();
        let lost: Result<(), _> = pool.submit(|()| std::process::abort(), ()).await;
        assert_eq!(lost.unwrap_err().worker_exit().unwrap().name(), "resize-1");
        let [worker, _] = pool.submit(pids, ()).await.unwrap();
        assert_eq!(comm(worker), "resize-2");
        pool.shutdown().await;
    });
}

#[test]
fn a_long_name_is_cut_for_the_kernel_and_whole_in_the_title() {
    everywhere(|method| async move {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let pool = builder.worker_name("thumbnails of films").build().unwrap();
        let [worker, _] = pool.submit(pids, ()).await.unwrap();
        assert_eq!(comm(worker), "thumbnails of f");
        let title = "procpool: worker thumbnails of films-1";
        assert_eq!(command_line(worker), title);
        pool.shutdown().await;
    });
}

#[test]
fn without_a_name_the_pools_of_a_program_have_numbers() {
    everywhere(|method| async move {
        let build = || {
            ProcessPool::builder()
                .workers(1)
                .start_method(method)
                .build()
        };
        let (one, other) = (build().unwrap(), build().unwrap());
        let [first, _] = one.submit(pids, ()).await.unwrap();
        let [second, _] = other.submit(pids, ()).await.unwrap();
        assert_ne!(comm(first), comm(second));
        for worker in [first, second] {
            let name = comm(worker);
            let number = name.strip_prefix("procpool").unwrap();
            assert!(number.strip_suffix("-1").unwrap().parse::<u64>().is_ok());
            assert_eq!(command_line(worker), format!("procpool: worker {name}"));
        }
        one.shutdown().await;
        other.shutdown().await;
    });
}

#[test]
fn a_fork_server_is_shown_as_one() {
    everywhere(|method| async move {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let pool = builder.build().unwrap();
        let [_, parent] = pool.submit(pids, ()).await.unwrap();
        match method {
            StartMethod::ForkServer => {
                assert_eq!(comm(parent), "procpool-server");
                assert_eq!(command_line(parent), "procpool: fork server");
            }
            _ => assert_eq!(parent, std::process::id()),
        }
        pool.shutdown().await;
    });
}

/// The program itself keeps its name, and what a task starts has its own.
#[test]
fn only_workers_have_a_title() {
    let before = (comm(std::process::id()), command_line(std::process::id()));
    everywhere(|method| async move {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let pool = builder.build().unwrap();
        let title = pool.submit(title_of_a_child, ()).await.unwrap();
        assert_eq!(title, "cat /proc/self/cmdline");
        pool.shutdown().await;
    });
    let after = (comm(std::process::id()), command_line(std::process::id()));
    assert_eq!(after, before);
}

fn title_of_a_child(_: ()) -> String {
    let output = Command::new("cat").arg("/proc/self/cmdline").output();
    let line = String::from_utf8(output.unwrap().stdout).unwrap();
    line.trim_end_matches('\0').replace('\0', " ")
}
