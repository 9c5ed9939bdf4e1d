//! A program with a registry that constructors fill: some of them stand before procpool's own, some
//! behind it, as the linker happened to put them.

// The linker is given the crates in the opposite order: this puts a constructor behind procpool's.
extern crate registered;

extern crate procpool;

use probe_common::Facts;
use registered::{Item, Order, order};

inventory::submit! { Item("of the program") }

registered::note_order!(ORDER);

#[tokio::main]
async fn main() {
    probe_common::run_with(&[("items", items), ("orders", orders)]).await;
}

fn items(_: Facts) -> String {
    let mut names: Vec<_> = inventory::iter::<Item>().map(|item| item.0).collect();
    names.sort_unstable();
    names.join(", ")
}

fn orders(_: Facts) -> String {
    let known = [order(&ORDER), order(&registered::ORDER)];
    let count = |wanted| known.iter().filter(|order| **order == wanted).count();
    let (before, behind) = (count(Order::Before), count(Order::Behind));
    format!("{before} before, {behind} behind")
}
