use std::fmt;

use half::{bf16, f16};

/// The element types that tensors and weight files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// IEEE binary64; the reference backend only.
    F64,
}

impl DType {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            DType::F16 | DType::BF16 => 2,
            DType::F32 => 4,
            DType::F64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
        })
    }
}

/// A number that a tensor can hold.
pub trait Element: bytemuck::Pod + Default + PartialEq + fmt::Debug + Send + Sync {
    /// The type's name at run time.
    const DTYPE: DType;
    /// The nearest value, ties to even.
    fn from_f64(value: f64) -> Self;
    /// The value, exactly.
    fn to_f64(self) -> f64;
    /// The nearest value, ties to even.
    fn from_f32(value: f32) -> Self;
    /// The value; exact but for `f64`, which is rounded.
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f32(value: f32) -> Self {
        value
    }
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }
    fn to_f32(self) -> f32 {
        self as f32
    }
}

/// `value` in f32, its last bit set if anything was cut off: another rounding to fewer bits then ends where one alone
/// would have (Boldo & Melquiond 2008, doi 10.1109/TC.2007.70819).
fn rounded_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) == value || value.is_nan() {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | 1)
}

macro_rules! half_element {
    ($type:ident, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            // Not `half`'s own, which forgets the lower half of `value` before it rounds.
            fn from_f64(value: f64) -> Self {
                $type::from_f32(rounded_to_odd(value))
            }
            fn to_f64(self) -> f64 {
                $type::to_f64(self)
            }
            fn from_f32(value: f32) -> Self {
                $type::from_f32(value)
            }
            fn to_f32(self) -> f32 {
                $type::to_f32(self)
            }
        }
    };
}
half_element!(f16, F16);
half_element!(bf16, BF16);

#[cfg(test)]
mod tests {
    use super::*;

    /// Around every half-way point between two neighbours, as near as f64 comes.
    #[test]
    fn halves_are_rounded_once() {
        let next = |value: f64| [value.next_down(), value, value.next_up()];
        for bits in 0..0x7F00_u16 {
            let [low, high] = [bits, bits + 1].map(bf16::from_bits);
            let [below, tie, above] =
                next((low.to_f64() + high.to_f64()) / 2.0).map(<bf16 as Element>::from_f64);
            assert_eq!([below, tie, above], [low, if bits % 2 == 0 { low } else { high }, high]);
        }
        for bits in 0..0x7BFF_u16 {
            let [low, high] = [bits, bits + 1].map(f16::from_bits);
            let [below, tie, above] =
                next((low.to_f64() + high.to_f64()) / 2.0).map(<f16 as Element>::from_f64);
            assert_eq!([below, tie, above], [low, if bits % 2 == 0 { low } else { high }, high]);
        }
        assert_eq!(<bf16 as Element>::from_f64(1e300), bf16::INFINITY);
        assert_eq!(<bf16 as Element>::from_f64(-1e300), bf16::NEG_INFINITY);
        assert!(<bf16 as Element>::from_f64(f64::NAN).is_nan());
    }
}
