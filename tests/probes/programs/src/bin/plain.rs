//! A tokio program that knows nothing of workers but the crate's name.

use procpool as _;

#[tokio::main]
async fn main() {
    probe_common::run().await;
}
