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

macro_rules! half_element {
    ($type:ident, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            fn from_f64(value: f64) -> Self {
                $type::from_f64(value)
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
