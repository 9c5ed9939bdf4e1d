//! A shared library that contains procpool, as an extension of another language's interpreter does.

use procpool::ProcessPool;

/// Prints why no pool can be built by the copy in here, neither before nor after it was initialised
/// by hand.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_run() {
    for _ in 0..2 {
        let error = ProcessPool::new().expect_err("a copy in a shared library");
        println!("plugin: {} {error}", error.is_not_in_main_image());
        procpool::init();
    }
}
