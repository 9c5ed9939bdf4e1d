//! A program that has closed its standard descriptors, so that others get their numbers.

use procpool as _;

#[tokio::main]
async fn main() {
    for number in 0..3 {
        // SAFETY: nothing in this program uses them from here on.
        unsafe { libc::close(number) };
    }
    probe_common::run().await;
}
