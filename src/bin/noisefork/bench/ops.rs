use std::collections::HashSet;

use clap::Args;
use noisefork::error::{Error, Result};
use noisefork::ops::Backend;
use noisefork::tensor::DType;
use noisefork::trace::{Event, Inputs, Operation, Replay, Sketch, Traced};

use super::case::Case;
use super::preset::{Subject, TOKENS};
use super::suite::{Benchmark, Common, Suite};
use crate::device::Device;

/// Measure each operation of a step of a UNet by itself; caches can lead past the ceiling that memory sets
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    subject: Subject,
    /// Only those whose name has this in it, as `attention`, or `to 77`
    #[arg(long, default_value = "")]
    only: String,
    /// What computes: cpu, cpu:ISA such as cpu:avx2, or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = Device::CPU)]
    pub device: Device,
    #[command(flatten)]
    pub common: Common,
}

impl Benchmark for Arguments {
    fn measure<B: Backend>(&self, suite: &mut Suite<'_>, backend: impl Fn() -> B) -> Result<()> {
        let mut events = step(&self.subject, suite.dtype())?;
        events.retain(|event| event.operation.to_string().contains(&self.only));
        if events.is_empty() {
            let (what, expected) = ("only", "part of the name of an operation".into());
            return Err(Error::Value { op: "bench", what, expected, got: self.only.clone() });
        }
        for Event { operation, flops, bytes, .. } in events {
            let what = operation.to_string();
            let case = Case { flops: Some(flops), bytes: Some(bytes), ..Case::new(what, operation.batch()) };
            let inputs = Inputs::normal(&operation, 1)?;
            // Its own, whose memory goes with it.
            let backend = &backend();
            let mut replay = Replay::new(backend, operation, &inputs)?;
            drop(inputs);
            suite.measure_passes(case, |pass| {
                let before = backend.launches();
                replay.run()?;
                pass.launches = Some(backend.launches() - before).filter(|&launches| launches > 0);
                Ok(())
            })?;
        }
        Ok(())
    }
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
