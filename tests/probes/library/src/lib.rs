//! A library that embeds a pool.

use procpool as _;

/// Does its work in a worker.
#[tokio::main(flavor = "current_thread")]
pub async fn resize() {
    probe_common::run().await;
}
