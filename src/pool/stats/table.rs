//! A snapshot as text: some lines about the pool, and a table of its workers.

use std::fmt;

use super::{Stats, WorkerStats};

/// What stands above the columns.
const HEADINGS: [&str; 8] = [
    "worker", "pid", "state", "call", "for", "memory", "done", "restarts",
];
/// These columns are numbers and end on one line.
const NUMBERS: [bool; 8] = [false, true, false, false, true, true, true, true];
/// A column of text is no wider.
const WIDEST: usize = 40;

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} workers, {} running, {} waiting; workers started {}, ended {}",
            self.workers.len(),
            self.max_workers,
            self.running(),
            self.unfinished - self.running().min(self.unfinished),
            self.workers_started,
            self.workers_ended,
        )?;
        write!(
            f,
            "submitted {}, completed {}, failed {}, cancelled {}, timed out {}, lost {}, retried {}",
            self.submitted,
            self.completed,
            self.failed,
            self.cancelled,
            self.timed_out,
            self.lost,
            self.retried,
        )?;
        if self.ran.count() > 0 {
            let (lately, mean) = (self.throughput, self.mean_throughput);
            write!(f, "\n{lately:.1} a second lately, {mean:.1} on the whole")?;
            write!(f, "\nwaited: {}\nran: {}", self.waited, self.ran)?;
        }
        if self.workers.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = self.workers.iter().map(row).collect();
        let headings = HEADINGS.map(str::to_owned);
        let widths: [usize; 8] = std::array::from_fn(|column| {
            let cells = rows.iter().chain([&headings]).map(|row| &row[column]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        });
        for row in [&headings].into_iter().chain(&rows) {
            let mut line = String::from("\n");
            for ((cell, width), number) in row.iter().zip(widths).zip(NUMBERS) {
                line += &if number {
                    format!("  {cell:>width$}")
                } else {
                    format!("  {cell:<width$}")
                };
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

fn row(worker: &WorkerStats) -> [String; 8] {
    let call = worker.running.map(|call| match &worker.running_name {
        Some(name) => shortened(&format!("{call} {name}")),
        None => call.to_string(),
    });
    let nothing = || "-".to_owned();
    let length = worker.running_for.map(|length| format!("{length:.1?}"));
    [
        shortened(&worker.name),
        worker.pid.to_string(),
        worker.state.to_string(),
        call.unwrap_or_else(nothing),
        length.unwrap_or_else(nothing),
        worker.memory.map_or_else(nothing, mebibytes),
        worker.done.to_string(),
        worker.restarts.to_string(),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// One line, and not a long one: names are the program's own.
fn shortened(text: &str) -> String {
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = text.clone().take(WIDEST).collect();
    if text.count() > WIDEST {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::WorkerState;
    use super::*;

    fn worker(number: u32) -> WorkerStats {
        WorkerStats {
            name: format!("resize-{number}"),
            pid: 4_120 + number,
            memory: Some(u64::from(number) * 7_000_000),
            done: 3,
            ..WorkerStats::default()
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_worker_and_its_columns_stand_below_each_other() {
        let busy = WorkerStats {
            state: WorkerState::Running,
            running: Some(12),
            running_name: Some("thumbnail".into()),
            running_for: Some(Duration::from_millis(31)),
            done: 1_008,
            restarts: 2,
            ..worker(1)
        };
        let gone = WorkerStats {
            state: WorkerState::Leaving,
            memory: None,
            ..worker(23)
        };
        let mut stats = Stats {
            max_workers: 4,
            workers: vec![busy, worker(2), gone],
            queued: 3,
            unfinished: 4,
            submitted: 1_018,
            completed: 1_013,
            lost: 1,
            workers_started: 5,
            workers_ended: 2,
            throughput: 81.25,
            mean_throughput: 40.0,
            ..Stats::default()
        };
        stats.ran.record(Duration::from_millis(2));
        stats.waited.record(Duration::from_micros(3));
        let expected = "\
3 of 4 workers, 1 running, 3 waiting; workers started 5, ended 2
submitted 1018, completed 1013, failed 0, cancelled 0, timed out 0, lost 1, retried 0
81.2 a second lately, 40.0 on the whole
waited: median 3.0µs, 90 % 3.0µs, 99 % 3.0µs, longest 3.0µs
ran: median 2.0ms, 90 % 2.0ms, 99 % 2.0ms, longest 2.0ms
  worker      pid  state    call             for    memory  done  restarts
  resize-1   4121  running  12 thumbnail  31.0ms   6.7 MiB  1008         2
  resize-2   4122  idle     -                  -  13.4 MiB     3         0
  resize-23  4143  leaving  -                  -         -     3         0";
        assert_eq!(stats.to_string(), expected);
    }

    #[test]
    fn a_pool_without_workers_has_no_table() {
        let text = Stats::default().to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_name_keeps_to_its_line_and_to_its_column() {
        let long = format!("a\n{}", "ö".repeat(100));
        let short = shortened(&long);
        assert_eq!(short.chars().count(), WIDEST);
        assert!(short.starts_with("a ö") && short.ends_with("ö…"), "{short}");
    }
}
