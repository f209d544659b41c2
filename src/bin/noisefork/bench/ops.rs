use std::collections::HashSet;

use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::Result;
use noisefork::ops::Backend;
use noisefork::tensor::DType;
use noisefork::trace::{Event, Inputs, Operation, Replay, Sketch, Traced};

use super::case::Case;
use super::preset::{Subject, TOKENS};
use super::suite::{Common, Dtype, Suite};

/// Measure each operation of a step of a UNet by itself; caches can lead past the ceiling that memory sets
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    subject: Subject,
    /// Only those whose name has this in it, as `attention`, or `to 77`
    #[arg(long, default_value = "")]
    only: String,
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    Suite::run(&arguments.common, |suite| match arguments.common.dtype {
        Dtype::F32 => all(suite, arguments, &Cpu::new(), DType::F32),
        Dtype::Bf16 => all(suite, arguments, &Cpu::bf16(), DType::BF16),
    })
}

fn all<B: Backend>(suite: &mut Suite<'_>, arguments: &Arguments, backend: &B, dtype: DType) -> Result<()> {
    for event in step(&arguments.subject, dtype)? {
        let Event { operation, flops, bytes, .. } = event;
        let what = operation.to_string();
        if !what.contains(&arguments.only) {
            continue;
        }
        let inputs = Inputs::normal(&operation, 1)?;
        let batch = operation.batch();
        let mut replay = Replay::new(backend, operation, &inputs)?;
        drop(inputs);
        let case = Case { what, batch, parts: 1, flops: Some(flops), bytes: Some(bytes), model_calls: None };
        suite.measure(case, || replay.run())?;
    }
    Ok(())
}

/// Each operation of a denoising step once, and what a sampler does to the latent before and after.
fn step(subject: &Subject, dtype: DType) -> Result<Vec<Event>> {
    let (config, side) = (subject.preset.config(), subject.side()?);
    let mut events = config.operations(dtype, subject.batch, [side, side], TOKENS)?;
    let latent = [subject.batch, config.in_channels(), side, side].into();
    let around = [
        Operation::Enter { parts: vec![latent], copies: 1 },
        Operation::Leave { x: [subject.batch, side, side, config.out_channels()].into(), branches: 1 },
        // As many terms as a step of `dpmpp_2m_sde` has.
        Operation::Combine { y: latent, terms: 4 },
        Operation::Blend { y: latent, mask: [1, 1, side, side].into() },
    ];
    let sketch = Traced::new(Sketch(dtype));
    for operation in around {
        let inputs = Inputs::normal(&operation, 1)?;
        Replay::new(&sketch, operation, &inputs)?.run()?;
    }
    events.append(&mut sketch.take());
    let mut seen = HashSet::new();
    events.retain(|event| seen.insert(event.operation.clone()));
    Ok(events)
}
