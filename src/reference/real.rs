use std::ops::{Add, AddAssign, Div, Mul, Sub};

use crate::ops::Activation;
use crate::tensor::Element;

/// The arithmetic that the formulas need, in `f32` or `f64`.
pub trait Real:
    Element
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
{
    /// `e` to the power `self`.
    fn exp(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
}

impl Real for f32 {
    fn exp(self) -> Self {
        libm::expf(self)
    }
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    fn erf(self) -> Self {
        libm::erff(self)
    }
}

impl Real for f64 {
    fn exp(self) -> Self {
        libm::exp(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
}

/// Where element `at` of a row-major tensor with extents `dims` lies.
pub(super) fn offset<const RANK: usize>(dims: [usize; RANK], at: [usize; RANK]) -> usize {
    dims.into_iter().zip(at).fold(0, |outer, (extent, index)| outer * extent + index)
}

/// A stored value, for computing with.
pub(super) fn load<F: Real, S: Element>(value: S) -> F {
    F::from_f64(value.to_f64())
}

/// A computed value, for storing.
pub(super) fn store<F: Real, S: Element>(value: F) -> S {
    S::from_f64(value.to_f64())
}

/// `start + sum_k a[k] b[k]`, in one running sum.
pub(super) fn dot<F: Real, S: Element>(start: F, a: &[S], b: &[S]) -> F {
    a.iter().zip(b).fold(start, |sum, (&a, &b)| sum + load::<F, S>(a) * load(b))
}

/// An elementwise activation. GEGLU is not one: [`super::linear`] applies it, no other operation accepts it.
pub(super) fn activate<F: Real>(y: F, activation: Activation) -> F {
    let (zero, one) = (F::default(), F::from_f32(1.0));
    match activation {
        Activation::Identity | Activation::Geglu => y,
        // The comparison lets NaN through.
        Activation::Relu => {
            if y < zero {
                zero
            } else {
                y
            }
        }
        Activation::Silu => y / (one + (zero - y).exp()),
    }
}

/// `g/2 (1 + erf(g / sqrt 2))`.
pub(super) fn gelu<F: Real>(g: F) -> F {
    let (one, two) = (F::from_f32(1.0), F::from_f32(2.0));
    g / two * (one + (g / two.sqrt()).erf())
}
