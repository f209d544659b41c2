//! Handwritten kernels, samplers and seed-exact noise for diffusion models.

pub mod autoencoder;
pub mod cpu;
pub mod error;
pub mod nn;
pub mod ops;
pub mod reference;
pub mod rng;
pub mod sampling;
pub mod tensor;
pub mod unet;
pub mod words;
