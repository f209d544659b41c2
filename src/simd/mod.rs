//! The widest vectors that this machine has, for loops that are written without any, and its caches.

pub(crate) mod bf16;
mod memory;

pub(crate) use memory::{Ahead, CACHE_LINE, PastCaches, prefetch, want_large_pages};

/// Runs `f` compiled for the widest vectors that this machine has; it and what it calls must be `#[inline(always)]` to
/// profit.
///
/// Only the width changes, and how values are rounded to [`bf16`]. Rust never fuses a multiplication with an addition, so
/// the bits are the same, but for values below the normal numbers of bf16.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if bf16::x86::has_vectors() {
        // SAFETY: as it says.
        return unsafe { bf16::x86::vectorised(f) };
    }
    pulp::Arch::new().dispatch(f)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use pulp::Arch;

    #[test]
    fn vectors_are_as_wide_as_the_machine_has() {
        let width = match Arch::new() {
            Arch::Scalar => 128,
            Arch::V3(_) => 256,
            Arch::V4(_) => 512,
            other => panic!("{other:?} is unknown"),
        };
        assert_eq!(width >= 256, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
        assert_eq!(width == 512, is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl"));
    }
}
