//! How does `procpool` compare with what the machine can do, and with what else could be used?
//!
//! Every workload is measured for `procpool`, for its floor, which is what the system charges for the least
//! that has to be done, and for its peers, in rounds that alternate between them. All do the same work, and
//! what they return is checked. A line of JSON for each figure, then a table with the goals:
//!
//! ```text
//! cargo bench --bench compare                       minutes, and steady
//! cargo bench --bench compare -- --quick            less than one
//! cargo bench --bench compare -- inflight payload   some workloads
//! cargo bench --bench compare -- --list             their names
//! ```
//!
//! What counts is `ratio`, the median of the rounds' ratios to a floor or a peer. A value by itself says as
//! much about the machine, and about what else it has to do, as about the subject.

#[path = "../support/python.rs"]
mod python_process;

mod apart;
mod arguments;
mod figure;
mod goals;
mod place;
mod role;
mod rounds;
mod statistics;
mod subjects;
mod table;
mod work;
mod workloads;

use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Care};
use workloads::Setting;

fn main() -> ExitCode {
    // Children of `procspawn` stay here, and those of our own in `play`. Workers of `procpool` do not come here.
    procspawn::init();
    if role::play() {
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let workloads = workloads::all();
    let mut selected = workloads
        .iter()
        .filter(|workload| arguments.select(workload.name));
    if arguments.list {
        selected.for_each(|workload| println!("{}", workload.name));
        return ExitCode::SUCCESS;
    }
    let setting = Setting::new(arguments.care);
    let mut figures = Vec::new();
    for workload in &mut selected {
        let begun = Instant::now();
        let measured = workload.measure(&setting);
        place::settle();
        eprintln!("{}: {:.1} s", workload.name, begun.elapsed().as_secs_f64());
        figures.extend(measured.iter().cloned());
        // What a trial measures says nothing.
        if arguments.care != Care::Trial {
            measured
                .iter()
                .for_each(|figure| println!("{}", figure.json()));
        }
    }
    if arguments.care != Care::Trial {
        print!("{}", table::table(&figures));
    }
    ExitCode::SUCCESS
}
