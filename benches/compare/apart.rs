//! Measurements that need a program of their own, in which nothing else was measured before.

use std::io::{self, Read};
use std::process::Stdio;

use crate::role;
use crate::workloads::{idle, memory};

/// Has this program executed once more to measure that, and returns what it says.
pub(crate) fn measured(measurement: &str) -> f64 {
    let mut child = role::command(measurement)
        .stdin(Stdio::null())
        .spawn()
        .expect("this program, again");
    let mut said = String::new();
    let mut output = child.stdout.take().expect("it is piped");
    output.read_to_string(&mut said).expect("it says something");
    let status = child.wait().expect("it is our child");
    assert!(status.success(), "{measurement}: {status}");
    said.trim().parse().expect("a number")
}

/// The other end of it.
pub(crate) fn measure(measurement: &str) -> io::Result<()> {
    let figure = match measurement {
        idle::FOR_TEN_SECONDS => idle::wakeups(10),
        idle::FOR_A_SECOND => idle::wakeups(1),
        memory::CALLS => memory::bytes_per_waiting_call(),
        memory::WORKERS => memory::worker_private_kib(),
        other => panic!("there is no measurement {other}"),
    };
    println!("{figure}");
    Ok(())
}
