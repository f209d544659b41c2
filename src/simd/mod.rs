//! The widest vectors that this machine has, for loops that are written without any, and its caches.

mod memory;

pub(crate) use memory::{PastCaches, prefetch, want_large_pages};

/// Runs `f` compiled for the widest vectors that this machine has; it and what it calls must be `#[inline(always)]` to
/// profit.
///
/// Only the width changes. Rust never fuses a multiplication with an addition, so the bits are the same.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}
