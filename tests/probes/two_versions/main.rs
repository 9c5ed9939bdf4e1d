//! Two versions of procpool in one program: each has workers of its own, also in the workers of
//! the other.

/// A function that makes a pool of one version and returns what a worker of it answers.
macro_rules! version {
    ($name:ident, $crate_:ident, $other:path) => {
        mod $name {
            use $crate_::{ProcessPool, StartMethod};

            pub(crate) async fn run() -> String {
                let mut answers = String::new();
                for method in StartMethod::available() {
                    let pool = pool(*method);
                    let (alone, nested) = (pool.submit(square, 12), pool.submit(nested, 12));
                    let (alone, nested) = (alone.await.unwrap(), nested.await.unwrap());
                    answers += &format!("{method} {alone} {nested}; ");
                    pool.shutdown().await;
                }
                answers
            }

            /// Builds a pool of the other version in a worker of this one.
            fn nested(n: u32) -> u32 {
                $other(n)
            }

            pub(crate) fn in_a_worker(n: u32) -> u32 {
                let pool = pool(StartMethod::default());
                pool.submit(square, n).blocking_wait(None).unwrap()
            }

            fn pool(method: StartMethod) -> ProcessPool {
                let builder = ProcessPool::builder().workers(1).start_method(method);
                builder.build().unwrap()
            }

            fn square(n: u32) -> u32 {
                n * n
            }
        }
    };
}

version!(this, procpool_this, crate::other::in_a_worker);
version!(other, procpool_other, crate::this::in_a_worker);

#[tokio::main]
async fn main() {
    println!("main: reached");
    let (this, other) = tokio::join!(this::run(), other::run());
    println!("{this}\n{other}");
}
