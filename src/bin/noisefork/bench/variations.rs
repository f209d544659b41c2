use std::ops::ControlFlow;
use std::sync::Arc;

use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::{Error, Result};
use noisefork::ops::Backend;
use noisefork::sampling::{Profile, Sampler, Scheduler, Variations};
use noisefork::tensor::{Shaped, Tensor};

use super::case::{Case, extents};
use super::suite::{Common, Dtype, Suite};
use crate::device::Device;
use crate::inputs::Inputs;

/// Measure a whole run of variations: of the emoji model, unless told otherwise
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
    /// How many variations
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Steps of the whole schedule
    #[arg(long, default_value_t = 25)]
    steps: usize,
    /// The share of the steps in which variations differ, 0 to 1
    #[arg(long, default_value_t = 0.2)]
    variation_strength: f64,
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if let Device::Cuda(_) = arguments.inputs.device {
        let (what, expected) = ("device", "cpu: nothing else is measured yet".into());
        return Err(Error::Value { op: "bench", what, expected, got: arguments.inputs.device.to_string() });
    }
    Suite::run(&arguments.common, |suite| match arguments.common.dtype {
        Dtype::F32 => measure(suite, arguments, Cpu::new()),
        Dtype::Bf16 => measure(suite, arguments, Cpu::bf16()),
    })
}

fn measure<B: Backend>(suite: &mut Suite<'_>, arguments: &Arguments, backend: B) -> Result<()> {
    let Arguments { ref inputs, batch, steps, variation_strength, .. } = *arguments;
    let bundle = inputs.bundle(Arc::new(backend))?;
    let mut model = inputs.model(&bundle)?;
    let latent = match inputs.latent()? {
        Some(latent) => latent,
        None => Tensor::try_zeros(bundle.latent_shape(batch, bundle.default_size())?)?,
    };
    let node = Variations {
        profile: Profile::default(),
        noise_seed: 0,
        steps,
        cfg: 7.0,
        sampler: "euler".parse::<Sampler>()?,
        scheduler: "simple".parse::<Scheduler>()?,
        variation_seed: 0,
        variation_strength,
        cfg_scale: 1.0,
    };
    let stages = [node.composition()?, node.variation()?];
    let plans = stages.iter().map(|stage| stage.plan(&model.sampling)).collect::<Result<Vec<_>>>()?;
    let model_calls = plans.iter().flatten().map(|plan| plan.program().model_calls()).sum();
    let (model_name, item) = (inputs.model_name(), extents(&latent.shape()[1..]));
    let case = Case {
        what: format!("variations {model_name} {item}, {steps} steps, strength {variation_strength}"),
        batch: latent.shape()[0],
        parts: 1,
        flops: None,
        bytes: None,
        model_calls: Some(model_calls),
    };
    suite.measure(case, || node.sample(&mut model, &latent, &mut |_| ControlFlow::Continue(())).map(drop))
}
