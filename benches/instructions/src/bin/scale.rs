//! Reckons how a pool behaves with more workers than a machine at hand has cores: what its parent has to do,
//! how busy it keeps them, and how long a great many calls take.
//!
//! ```sh
//! RUSTFLAGS="--cfg counting" cargo run --release --manifest-path benches/instructions/Cargo.toml --bin scale
//! ```

use std::time::Duration;

use procpool::scale::{Load, reckon};

fn main() {
    println!(
        "| workers | work a call | calls/s | parent busy | its time a call | workers busy | 10⁶ calls | 10⁹ calls |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for workers in [64, 256, 1_024] {
        for micros in [0, 10, 100, 1_000, 10_000] {
            let load = Load {
                workers,
                calls: 1_000_000,
                callers: workers * 16,
                work: Duration::from_micros(micros),
            };
            let reckoned = reckon(&load);
            let rate = reckoned.rate(&load);
            println!(
                "| {workers} | {} | {:.0} | {:.0} % | {:.2} µs | {:.0} % | {} | {} |",
                duration(micros as f64 / 1e6),
                rate,
                100.0 * reckoned.parent,
                reckoned.parent_micros(&load),
                100.0 * reckoned.worker,
                duration(1e6 / rate),
                duration(1e9 / rate),
            );
        }
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        0.0 => "none".to_owned(),
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
