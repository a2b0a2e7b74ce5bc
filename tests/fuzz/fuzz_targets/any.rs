//! The target that `BBC_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

#[path = "../targets.rs"]
mod targets;

use targets::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("BBC_FUZZ_TARGET").expect("a name in `BBC_FUZZ_TARGET`");
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("the name of a target").1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
