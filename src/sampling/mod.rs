//! From noise to latents: levels, samplers, guidance, the k-sampler and the variation routine. Knows nothing of any
//! model but what [`Model`] and [`Denoiser`] say.

mod denoiser;
mod ksampler;
mod model_sampling;
mod named;
mod noise;
mod run;
mod snapshot;

pub mod lineage;
pub mod names;
pub mod program;
pub mod record;
pub mod samplers;
pub mod schedules;
pub mod variations;

pub use denoiser::{Branch, Denoiser};
pub use ksampler::{KSampler, LatentImage, Model, Plan};
pub use model_sampling::{Betas, Levels, ModelSampling, Prediction};
pub use noise::{A1111Source, CounterDraws, Noise, NoiseSource, NoiseState, Part, Profile};
pub use record::Record;
pub use run::{Cancel, Observer, Progress, Run};
pub use samplers::Sampler;
pub use schedules::Scheduler;
pub use variations::Variations;
