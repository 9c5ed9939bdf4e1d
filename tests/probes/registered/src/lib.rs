//! A crate that registers something before `main` and has never heard of procpool.

use std::sync::atomic::{AtomicU8, Ordering};

/// What is registered.
pub struct Item(pub &'static str);

inventory::collect!(Item);
inventory::submit! { Item("of a library") }

/// When a crate's own constructor ran, as seen from procpool's.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Never,
    Before,
    Behind,
}

/// Reads what [`note_order!`] has noted.
pub fn order(noted: &AtomicU8) -> Order {
    match noted.load(Ordering::Relaxed) {
        0 => Order::Never,
        1 => Order::Before,
        _ => Order::Behind,
    }
}

/// Defines a constructor that notes whether procpool's had run before it, in a worker: then the
/// variable had gone.
#[macro_export]
macro_rules! note_order {
    ($noted:ident) => {
        pub static $noted: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

        // SAFETY: the section is an array of pointers to functions that libc calls before `main`.
        #[used]
        #[unsafe(link_section = ".init_array")]
        static NOTE_ORDER: extern "C" fn() = {
            extern "C" fn note() {
                let before = std::env::var_os("PROCPOOL_BOOT").is_some();
                let order = if before { 1 } else { 2 };
                $noted.store(order, std::sync::atomic::Ordering::Relaxed);
            }
            note
        };
    };
}

note_order!(ORDER);
