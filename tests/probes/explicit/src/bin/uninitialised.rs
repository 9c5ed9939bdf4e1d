//! Without the start-up constructor and without `init`: no pool can be built here.

fn main() {
    let error = procpool::ProcessPool::new().expect_err("nobody has called `init`");
    println!("{} {error}", error.is_not_initialised());
}
