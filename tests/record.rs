//! A record makes a run again, whole or one item of it, with the same bits, or says why it cannot.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use noisefork::error::{Error, Result};
use noisefork::reference::Reference;
use noisefork::sampling::lineage::{Fork, Forks, Lineage};
use noisefork::sampling::record::Settings;
use noisefork::sampling::schedules::Karras;
use noisefork::sampling::variations::VariationsWithNoise;
use noisefork::sampling::{
    Betas, Branch, Denoiser, KSampler, LatentImage, Model, ModelSampling, Profile, Record, Sampler, Scheduler,
    Variations,
};
use noisefork::tensor::Tensor;

const SHAPE: [usize; 4] = [3, 4, 3, 5];

fn eps() -> ModelSampling {
    ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap()
}

fn sampler(name: &str) -> Sampler {
    name.parse().unwrap()
}

/// Data in two bumps, around -1 and 1.
fn denoise(x: &Tensor, sigma: f64, branch: Branch, out: &mut Tensor) -> Result<()> {
    let bias = if branch == Branch::Positive { 0.1 } else { -0.1 };
    for (out, &x) in out.data_mut().iter_mut().zip(x.data()) {
        *out = ((f64::from(x) / (sigma * sigma + 0.25) + bias).tanh()) as f32;
    }
    Ok(())
}

fn with_model<T>(
    sampling: ModelSampling,
    run: impl FnOnce(&mut Model<'_, Reference<f32>, &mut dyn Denoiser<Reference<f32>>>) -> T,
) -> T {
    let backend = Reference::new();
    let mut denoise = denoise;
    let denoiser: &mut dyn Denoiser<Reference<f32>> = &mut denoise;
    run(&mut Model { backend: &backend, denoiser, sampling, latent_scale: 0.5 })
}
