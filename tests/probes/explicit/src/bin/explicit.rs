//! Without the start-up constructor: `main` begins with `init`.

fn main() {
    procpool::init();
    start();
}

#[tokio::main]
async fn start() {
    probe_common::run().await;
}
