//! The element types that the CPU computes on.

use half::bf16;

use super::Isa;
use crate::tensor::Element;

/// A type in which the CPU keeps a network's tensors: `f32`, or `bf16`, whose sums are f32 all the same. Latents are
/// always f32.
pub trait Compute: Element + sealed::Sealed {
    /// The value, exactly.
    fn widen(self) -> f32;
    /// The nearest value, ties to even.
    fn narrow(value: f32) -> Self;
}

mod sealed {
    use std::sync::atomic::{Ordering, compiler_fence};

    use half::bf16;

    use super::super::product::{Kernel, kernel_bf16, kernel_f32};
    use super::Isa;
    use crate::simd::bf16::{LANES, round};

    pub trait Sealed: Sized {
        /// What multiplies it.
        fn kernel(isa: Isa) -> Kernel<Self>;
        /// The terms numbered `within` of the first columns of a packed weight, whose terms lie together as many as the
        /// kernel is deep.
        fn unpack<const N: usize>(columns: &[Self], within: usize) -> [f32; N];
        /// The nearest values, ties to even; those of bf16 below its normal numbers may become 0.
        fn narrow_all(values: [f32; LANES], to: &mut [Self; LANES]);
    }
    impl Sealed for f32 {
        fn kernel(isa: Isa) -> Kernel<Self> {
            kernel_f32(isa)
        }
        #[inline(always)]
        fn unpack<const N: usize>(columns: &[Self], _: usize) -> [f32; N] {
            *columns.first_chunk().expect("so many columns")
        }
        #[inline(always)]
        fn narrow_all(values: [f32; LANES], to: &mut [Self; LANES]) {
            // Or values would be gathered for several arrays side by side.
            compiler_fence(Ordering::SeqCst);
            *to = values;
        }
    }
    impl Sealed for bf16 {
        fn kernel(isa: Isa) -> Kernel<Self> {
            kernel_bf16(isa)
        }
        #[inline(always)]
        fn unpack<const N: usize>(columns: &[Self], within: usize) -> [f32; N] {
            let pairs: &[[Self; 2]; N] = columns.as_chunks().0.first_chunk().expect("so many columns");
            let mut terms = [0.0; N];
            for (term, &[first, second]) in terms.iter_mut().zip(pairs) {
                let [low, high] = [first, second].map(|value| u32::from(value.to_bits()) << 16);
                // Where both are read, it is by vectors.
                *term = f32::from_bits(if within == 0 { low } else { high });
            }
            terms
        }
        #[inline(always)]
        fn narrow_all(values: [f32; LANES], to: &mut [Self; LANES]) {
            if round(&values, to) {
                return;
            }
            // An array's own `map` would be a call, with all that registers hold in memory.
            for (to, value) in to.iter_mut().zip(values) {
                *to = super::Compute::narrow(value);
            }
        }
    }
}

impl Compute for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

/// Like `half`'s own conversions but for their branches, which keep loops from vectorising.
impl Compute for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
        // Rounded like a number, a NaN might become infinity.
        let nan = bits | 0x0040_0000;
        bf16::from_bits(((if value.is_nan() { nan } else { nearest }) >> 16) as u16)
    }
}

/// The first values of a row; 0 past its last.
#[inline(always)]
pub(super) fn widened<E: Compute, const N: usize>(row: &[E]) -> [f32; N] {
    match row.first_chunk::<N>() {
        Some(values) => values.map(E::widen),
        None => std::array::from_fn(|i| row.get(i).map_or(0.0, |value| value.widen())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_converted_as_half_does() {
        for bits in 0..=u16::MAX {
            let value = bf16::from_bits(bits);
            assert_eq!(value.widen().is_nan(), value.is_nan());
            if !value.is_nan() {
                assert_eq!(value.widen().to_bits(), value.to_f32().to_bits());
            }
            // The value itself, and around the half-way points to its neighbours.
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let value = f32::from_bits(u32::from(bits) << 16 | low);
                assert_eq!(bf16::narrow(value).to_bits(), bf16::from_f32(value).to_bits(), "{value:e}");
            }
        }
    }
}
