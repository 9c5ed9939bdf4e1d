//! A program that has procpool only because a library uses it.

fn main() {
    library::resize();
}
