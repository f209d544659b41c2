use std::cell::Cell;
use std::ops::ControlFlow;

use clap::Args;
use noisefork::error::Result;
use noisefork::ops::{Backend, Combine};
use noisefork::sampling::{Betas, Branch, KSampler, Model, ModelSampling, Sampler, Scheduler};
use noisefork::tensor::Tensor;

use super::case::Case;
use super::suite::{Benchmark, Common, Suite};
use crate::device::Device;

/// Measure what a step costs beside the model: runs with one whose answer is a copy, noise and start included
#[derive(Args)]
pub struct Arguments {
    /// Samplers, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    samplers: Vec<Sampler>,
    /// The schedule
    #[arg(long, default_value = "karras")]
    scheduler: Scheduler,
    /// Steps of a run
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Latents
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// The side of a latent
    #[arg(long, default_value_t = 64)]
    side: usize,
    /// What computes: cpu, cpu:ISA such as cpu:avx2, or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = Device::CPU)]
    pub device: Device,
    #[command(flatten)]
    pub common: Common,
}

impl Benchmark for Arguments {
    fn measure<B: Backend>(&self, suite: &mut Suite<'_>, backend: impl Fn() -> B) -> Result<()> {
        let samplers = match self.samplers.as_slice() {
            [] => Sampler::names().map(str::parse).collect::<Result<Vec<Sampler>>>()?,
            samplers => samplers.to_vec(),
        };
        samplers.into_iter().try_for_each(|sampler| measure(suite, self, &backend(), sampler))
    }
}

fn measure<B: Backend>(
    suite: &mut Suite<'_>,
    arguments: &Arguments,
    backend: &B,
    sampler: Sampler,
) -> Result<()> {
    let Arguments { scheduler, steps, batch, side, .. } = *arguments;
    let latent = Tensor::try_zeros([batch, 4, side, side])?;
    let what = format!("sampler {sampler}, {scheduler}, {steps} steps, 4x{side}x{side}");
    let run = KSampler::new(0, steps, 1.0, sampler, scheduler);
    let calls = Cell::new(0);
    let denoiser = |x: &B::Latent, _: f64, _: Branch, denoised: &mut B::Latent| {
        calls.set(calls.get() + 1);
        backend.combine(&Combine { terms: &[(1.0, x)] }, denoised)
    };
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION)?;
    let mut model = Model { backend, denoiser, sampling, latent_scale: 1.0 };
    let mut work = || {
        calls.set(0);
        run.sample(&mut model, &latent, &mut |_| ControlFlow::Continue(())).map(drop)
    };
    work()?;
    let case = Case { parts: steps.max(1), model_calls: Some(calls.get()), ..Case::new(what, batch) };
    suite.measure(case, work)
}
