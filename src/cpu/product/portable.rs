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
    ($name:ident, $element:ty, depth $depth:literal, |$weights:ident, $part:pat_param| $weight:expr) => {
        impl Lanes for $name {
            type Element = $element;
            type Row = f32;
            type Sums = [f32; LANES];
            type Terms = [f32; LANES];
            const LANES: usize = LANES;
            const DEPTH: usize = $depth;
            const VECTORS: usize = 2;
            const PARTS: usize = $depth;

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
            unsafe fn weights(weights: *const $element, $part: usize) -> [f32; LANES] {
                // SAFETY: as above.
                let weights = unsafe { weights.cast::<[[$element; $depth]; LANES]>().read() };
                weights.map(
                    #[inline(always)]
                    |$weights| $weight,
                )
            }
            #[inline(always)]
            unsafe fn broadcast(term: *const f32) -> [f32; LANES] {
                // SAFETY: as above.
                [unsafe { *term }; LANES]
            }
            #[inline(always)]
            unsafe fn broadcast_last(term: *const f32) -> [f32; LANES] {
                // SAFETY: as above.
                unsafe { Self::broadcast(term) }
            }
            #[inline(always)]
            unsafe fn multiply_add(mut sums: [f32; LANES], a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum = multiply_add(*sum, a, b);
                }
                sums
            }
            unsafe fn tile<const R: usize, const V: usize>(job: Job<'_, f32, $element>) {
                // SAFETY: as above.
                unsafe { tile::<Self, R, V>(job) }
            }
        }
    };
}

lanes!(Portable, f32, depth 1, |weights, _| weights[0]);
lanes!(PortableBf16, bf16, depth 2, |weights, part| weights[part].widen());
