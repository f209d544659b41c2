//! Host tensors: shape, element type, layout. No arithmetic.

mod dtype;
mod host;
mod shape;

pub use dtype::{DType, Element};
pub use host::Tensor;
pub use shape::{Shape, Shaped};
