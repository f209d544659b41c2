//! From the element types that files have to f32, exactly.

use std::sync::LazyLock;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use safetensors::Dtype;

/// Values that one thread widens at a time.
const PART: usize = 1 << 16;

/// What [`from`] knows, for errors.
pub(super) const KNOWN: &str = "f32, f16, bf16, f8_e4m3 or f8_e5m2";

/// Little-endian bytes to as many values as there is room for.
type Widen = fn(&[u8], &mut [f32]);

/// What widens a dtype, if it is known.
pub(super) fn from(dtype: Dtype) -> Option<Widen> {
    match dtype {
        Dtype::F32 => Some(|bytes, out| each(bytes, out, f32::from_le_bytes)),
        Dtype::F16 => Some(|bytes, out| in_parts::<2>(bytes, out, f16s)),
        Dtype::BF16 => Some(|bytes, out| each(bytes, out, bf16)),
        Dtype::F8_E4M3 => Some(|bytes, out| each(bytes, out, |[byte]| F8_E4M3[usize::from(byte)])),
        Dtype::F8_E5M2 => Some(|bytes, out| each(bytes, out, f8_e5m2)),
        _ => None,
    }
}

/// `widen` of every value's bytes.
fn each<const SIZE: usize>(bytes: &[u8], out: &mut [f32], widen: impl Fn([u8; SIZE]) -> f32 + Sync) {
    in_parts::<SIZE>(bytes, out, |bytes, out| {
        out.iter_mut().zip(bytes.as_chunks().0).for_each(|(out, &bytes)| *out = widen(bytes));
    });
}

/// `widen` of parts of the values, on the current rayon pool.
fn in_parts<const SIZE: usize>(bytes: &[u8], out: &mut [f32], widen: impl Fn(&[u8], &mut [f32]) + Sync) {
    let parts = out.par_chunks_mut(PART).zip(bytes.par_chunks(PART * SIZE));
    parts.for_each(|(out, bytes)| widen(bytes, out));
}

/// Several at a time, for the machines that widen them so.
fn f16s(bytes: &[u8], out: &mut [f32]) {
    const SEVERAL: usize = 256;
    let mut halves = [f16::ZERO; SEVERAL];
    for (out, bytes) in out.chunks_mut(SEVERAL).zip(bytes.as_chunks().0.chunks(SEVERAL)) {
        let halves = &mut halves[..out.len()];
        halves.iter_mut().zip(bytes).for_each(|(half, &bytes)| *half = f16::from_le_bytes(bytes));
        halves.convert_to_f32_slice(out);
    }
}

/// The upper half of a binary32.
fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// The upper half of a binary16.
fn f8_e5m2([byte]: [u8; 1]) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

/// Four bits of exponent, biased by 7, and three of mantissa, without infinities: what torch calls `float8_e4m3fn`.
static F8_E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let (exponent, mantissa) = ((byte >> 3) as i32 & 0xf, (byte & 7) as f32);
        let magnitude = match (exponent, byte & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa * 2.0_f32.powi(-9),
            _ => (8.0 + mantissa) * 2.0_f32.powi(exponent - 10),
        };
        if byte < 128 { magnitude } else { -magnitude }
    })
});

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value, wherever it begins.
    #[test]
    fn halves_are_read_in_the_order_of_files() {
        let mut bytes = vec![0];
        bytes.extend((0..=u16::MAX).flat_map(u16::to_le_bytes));
        let mut wide = vec![0.0; 1 << 16];
        f16s(&bytes[1..], &mut wide);
        for (bits, wide) in (0..=u16::MAX).zip(wide) {
            let expected = f16::from_bits(bits).to_f32();
            assert!(wide.to_bits() == expected.to_bits() || wide.is_nan() && expected.is_nan(), "{bits:04x}");
        }
    }
}
