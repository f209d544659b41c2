//! Loops that the compiler turns into whatever vectors the target has.

use half::bf16;

use super::super::Compute;
use super::tile::{Job, Lanes, tile};

const LANES: usize = 4;

/// f32.
pub(super) struct Portable;

/// bf16, widened.
pub(super) struct PortableBf16;

#[inline(always)]
fn multiply_add(sum: f32, a: f32, b: f32) -> f32 {
    // Where fusing the two is no instruction, it is a library call.
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, sum) } else { sum + a * b }
}

macro_rules! lanes {
    ($name:ident, $element:ty, $terms:ty, depth $depth:literal, parts $parts:literal,
     |$pair:ident| $broadcast:expr, |$term:ident| $last:expr, |$part:pat_param, $a:ident| $widen:expr) => {
        impl Lanes for $name {
            type Element = $element;
            type Sums = [f32; LANES];
            type Terms = [$terms; LANES];
            const LANES: usize = LANES;
            const DEPTH: usize = $depth;
            const VECTORS: usize = 2;
            const PARTS: usize = $parts;

            #[inline(always)]
            unsafe fn load(sums: *const f32) -> [f32; LANES] {
                // SAFETY: the caller says that the pointer is good; so below.
                unsafe { sums.cast::<[f32; LANES]>().read() }
            }
            #[inline(always)]
            unsafe fn store(sums: *mut f32, values: [f32; LANES]) {
                // SAFETY: as above.
                unsafe { sums.cast::<[f32; LANES]>().write(values) }
            }
            #[inline(always)]
            unsafe fn zero() -> [f32; LANES] {
                [0.0; LANES]
            }
            #[inline(always)]
            unsafe fn add(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
                std::array::from_fn(|lane| a[lane] + b[lane])
            }
            #[inline(always)]
            unsafe fn prefetch(_: *const f32) {}
            #[inline(always)]
            unsafe fn weights(weights: *const $element) -> [$terms; LANES] {
                // SAFETY: as above.
                unsafe { weights.cast::<[$terms; LANES]>().read() }
            }
            #[inline(always)]
            unsafe fn broadcast($pair: *const $element) -> [$terms; LANES] {
                // SAFETY: as above.
                [unsafe { $broadcast }; LANES]
            }
            #[inline(always)]
            unsafe fn broadcast_last($term: *const $element) -> [$terms; LANES] {
                // SAFETY: as above.
                [unsafe { $last }; LANES]
            }
            #[inline(always)]
            unsafe fn multiply_add(
                $part: usize,
                mut sums: [f32; LANES],
                a: [$terms; LANES],
                b: [$terms; LANES],
            ) -> [f32; LANES] {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    let widen = |$a: $terms| $widen;
                    *sum = multiply_add(*sum, widen(a), widen(b));
                }
                sums
            }
            unsafe fn tile<const R: usize, const V: usize>(job: &Job<'_, $element>) {
                // SAFETY: as above.
                unsafe { tile::<Self, R, V>(job) }
            }
        }
    };
}

lanes!(Portable, f32, f32, depth 1, parts 1, |term| *term, |term| *term, |_, term| term);
lanes!(
    PortableBf16, bf16, [bf16; 2], depth 2, parts 2,
    |pair| *pair.cast::<[bf16; 2]>(),
    |term| [*term, bf16::ZERO],
    |part, pair| pair[part].widen()
);
