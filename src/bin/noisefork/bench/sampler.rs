use std::cell::Cell;
use std::ops::ControlFlow;

use clap::Args;
use noisefork::error::Result;
use noisefork::ops::{Backend, Combine};
use noisefork::sampling::{Betas, Branch, KSampler, Model, ModelSampling, Progress, Sampler, Scheduler};
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
        let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION)?;
        let (mut measured, mut refused) = (false, None);
        for sampler in samplers {
            let run = KSampler::new(0, self.steps, 1.0, sampler, self.scheduler);
            // Of all samplers, some make no picture in so few steps.
            match run.plan(&sampling) {
                Err(error) if self.samplers.is_empty() => {
                    eprintln!("note: no {}: {error}", run.sampler);
                    refused = Some(error);
                }
                Err(error) => return Err(error),
                Ok(_) => {
                    measure(suite, self, &backend(), &run, sampling.clone())?;
                    measured = true;
                }
            }
        }
        refused.filter(|_| !measured).map_or(Ok(()), Err)
    }
}

fn measure<B: Backend>(
    suite: &mut Suite<'_>,
    arguments: &Arguments,
    backend: &B,
    run: &KSampler,
    sampling: ModelSampling,
) -> Result<()> {
    let Arguments { scheduler, steps, batch, side, .. } = *arguments;
    let latent = Tensor::try_zeros([batch, 4, side, side])?;
    let what = format!("sampler {}, {scheduler}, {steps} steps, 4x{side}x{side}", run.sampler);
    // Those that were run: not all samplers and schedules keep to what they were asked for.
    let (steps_run, calls) = (Cell::new(0), Cell::new(0));
    let denoiser = |x: &B::Latent, _: f64, _: Branch, denoised: &mut B::Latent| {
        calls.set(calls.get() + 1);
        backend.combine(&Combine { terms: &[(1.0, x)] }, denoised)
    };
    let mut model = Model { backend, denoiser, sampling, latent_scale: 1.0 };
    let mut work = || {
        calls.set(0);
        let mut count = |progress: &Progress<'_, B>| {
            steps_run.set(progress.step);
            ControlFlow::Continue(())
        };
        run.sample(&mut model, &latent, &mut count).map(drop)
    };
    work()?;
    let case =
        Case { parts: steps_run.get().max(1), model_calls: Some(calls.get()), ..Case::new(what, batch) };
    suite.measure(case, work)
}
