//! What is done when this process ends in order.

/// Has `function` called when `main` returns or `exit` is called; in copies of this process that
/// are forked after this, too.
pub(crate) fn at_exit(function: extern "C" fn()) {
    // SAFETY: the call keeps a pointer to a function of the program, which is there to its end; the
    // crate is never part of something that is unloaded before (`Readiness::NotInMainImage`).
    // Without room for it nothing is called, and what was to be done is not promised.
    let _ = unsafe { libc::atexit(function) };
}
