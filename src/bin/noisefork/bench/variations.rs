use std::ops::ControlFlow;
use std::sync::Arc;

use clap::Args;
use noisefork::error::Result;
use noisefork::ops::Backend;
use noisefork::sampling::{Profile, Sampler, Scheduler, Variations};
use noisefork::tensor::{Shaped, Tensor};

use super::case::{Case, extents};
use super::suite::{Benchmark, Common, Suite};
use crate::inputs::Inputs;

/// Measure a whole run of variations: of the emoji model, unless told otherwise
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub inputs: Inputs,
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
    pub common: Common,
}

impl Benchmark for Arguments {
    fn measure<B: Backend>(&self, suite: &mut Suite<'_>, backend: impl Fn() -> B) -> Result<()> {
        let Arguments { ref inputs, batch, steps, variation_strength, .. } = *self;
        let bundle = inputs.bundle(Arc::new(backend()))?;
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
        let what = format!("variations {model_name} {item}, {steps} steps, strength {variation_strength}");
        let case = Case { model_calls: Some(model_calls), ..Case::new(what, latent.shape()[0]) };
        suite.measure(case, || node.sample(&mut model, &latent, &mut |_| ControlFlow::Continue(())).map(drop))
    }
}
