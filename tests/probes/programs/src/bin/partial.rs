//! A program with a line on its standard output that has not come to its end.

use std::io::Write;

use procpool::{ProcessPool, StartMethod};

#[tokio::main]
async fn main() {
    for method in StartMethod::available() {
        print!("{method}: begun");
        let builder = ProcessPool::builder().workers(1).start_method(*method);
        let pool = builder.build().expect("a pool");
        pool.submit(print, 1).await.expect("a line");
        pool.shutdown().await;
        println!(", ended");
    }
}

/// The second line has no end either: the worker writes it out when it leaves.
fn print(number: u32) {
    println!("worker: {number}");
    print!("worker: begun; ");
    eprint!("worker: complains; ");
    std::io::stderr().flush().expect("an output");
}
