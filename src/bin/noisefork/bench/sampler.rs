use std::cell::Cell;
use std::ops::ControlFlow;

use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::Result;
use noisefork::sampling::{Betas, Branch, KSampler, Model, ModelSampling, Sampler, Scheduler};
use noisefork::tensor::Tensor;

use super::case::Case;
use super::suite::{Common, Suite};

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
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let samplers = match arguments.samplers.as_slice() {
        [] => Sampler::names().map(str::parse).collect::<Result<Vec<Sampler>>>()?,
        samplers => samplers.to_vec(),
    };
    Suite::run(&arguments.common, |suite| {
        samplers.into_iter().try_for_each(|sampler| measure(suite, arguments, sampler))
    })
}

fn measure(suite: &mut Suite<'_>, arguments: &Arguments, sampler: Sampler) -> Result<()> {
    let Arguments { scheduler, steps, batch, side, .. } = *arguments;
    let latent = Tensor::try_zeros([batch, 4, side, side])?;
    let what = format!("sampler {sampler}, {scheduler}, {steps} steps, 4x{side}x{side}");
    let run = KSampler::new(0, steps, 1.0, sampler, scheduler);
    let calls = Cell::new(0);
    let denoiser = |x: &Tensor, _: f64, _: Branch, denoised: &mut Tensor| {
        calls.set(calls.get() + 1);
        denoised.data_mut().copy_from_slice(x.data());
        Ok(())
    };
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION)?;
    let mut model = Model { backend: &Cpu::new(), denoiser, sampling, latent_scale: 1.0 };
    let mut work = || {
        calls.set(0);
        run.sample(&mut model, &latent, &mut |_| ControlFlow::Continue(())).map(drop)
    };
    work()?;
    let parts = steps.max(1);
    let case = Case { what, batch, parts, flops: None, bytes: None, model_calls: Some(calls.get()) };
    suite.measure(case, work)
}
