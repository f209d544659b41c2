//! Handwritten kernels, samplers and seed-exact noise for diffusion models.

pub mod cpu;
pub mod error;
pub mod ops;
pub mod reference;
pub mod rng;
pub mod tensor;
