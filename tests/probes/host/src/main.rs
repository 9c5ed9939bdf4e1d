//! A program without procpool, which loads a shared library that has it.

use std::ffi::CString;

fn main() {
    let path = std::env::args().nth(1).expect("the path of the plugin");
    let path = CString::new(path).expect("a path without zeros");
    // SAFETY: the library's constructors are procpool's and std's; the function that it exports
    // takes nothing and returns nothing.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "the plugin does not load");
        let run = libc::dlsym(library, c"plugin_run".as_ptr());
        assert!(!run.is_null(), "the plugin exports nothing");
        std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(run)();
    }
    println!("host: done");
}
