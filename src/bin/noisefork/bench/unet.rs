use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::Result;
use noisefork::ops::Backend;
use noisefork::trace::{Table, Traced};

use super::case::Case;
use super::preset::{Subject, TOKENS, tensor};
use super::suite::{Common, Dtype, Suite};

/// Measure one answer of a UNet, and say where its time goes
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    subject: Subject,
    /// A diffusers folder of a UNet, instead of a preset
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// A line for every shape, not only for every operation
    #[arg(long)]
    shapes: bool,
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    Suite::run("unet", &arguments.common, |suite| match arguments.common.dtype {
        Dtype::F32 => measure(suite, arguments, Cpu::new()),
        Dtype::Bf16 => measure(suite, arguments, Cpu::bf16()),
    })
}

fn measure<B: Backend>(suite: &mut Suite<'_>, arguments: &Arguments, backend: B) -> Result<()> {
    let Arguments { subject, model, .. } = arguments;
    let (side, batch) = (subject.side()?, subject.batch);
    let backend = Arc::new(Traced::new(backend));
    let unet = subject.unet(backend.clone(), model.as_ref())?;
    let prompt = subject.prompt(unet.config())?;
    let conditioning = unet.prepare(&prompt.context, batch, prompt.added.as_ref())?;
    let times = unet.times(&[[500.0]], &conditioning)?;
    let mut plan = unet.plan(batch, [side, side], TOKENS)?;
    let x = tensor(&*backend, plan.shape(), 2)?;
    let mut events = Vec::new();
    let case = Case {
        name: model.as_ref().map_or(subject.preset.to_string(), |folder| folder.display().to_string()),
        shape: plan.shape().to_string(),
        parts: 1,
        flops: Some(plan.flops()).filter(|&flops| flops > 0),
        bytes: None,
        model_calls: Some(1),
    };
    suite.measure(case, || {
        backend.take();
        plan.forward(&x, &times, 0, &conditioning)?;
        events = backend.take();
        Ok(())
    })?;
    suite.note(format_args!("the last run:\n{}", Table::by_operation(&events)));
    if arguments.shapes {
        suite.note(Table::by_shape(&events));
    }
    Ok(())
}
