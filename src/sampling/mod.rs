//! From noise to latents: levels, samplers, guidance, the k-sampler and the variation routine. Knows nothing of any
//! model but what [`Model`] and [`Denoiser`] say.

mod denoiser;
mod ksampler;
mod model_sampling;
mod noise;
mod run;
mod variations;

pub mod names;
pub mod program;
pub mod samplers;
pub mod schedules;

pub use denoiser::{Branch, Denoiser};
pub use ksampler::{KSampler, LatentImage, Model, Plan};
pub use model_sampling::{Betas, Levels, ModelSampling, Prediction};
pub use noise::NoiseSource;
pub use run::{Observer, Progress, Run};
pub use samplers::Sampler;
pub use schedules::Scheduler;
pub use variations::Variations;
