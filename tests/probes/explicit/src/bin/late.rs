//! `init` is called where it is too late for a worker: beside other threads.

#[tokio::main]
async fn main() {
    procpool::init();
    probe_common::run().await;
}
