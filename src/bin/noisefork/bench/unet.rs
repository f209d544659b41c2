use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use noisefork::error::Result;
use noisefork::ops::Backend;
use noisefork::trace::{Event, Row, Table, Traced};

use super::case::Case;
use super::preset::Subject;
use super::record::Part;
use super::suite::{Benchmark, Common, Suite};
use crate::device::Device;
use crate::inputs::name;

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
    /// What computes: cpu, cpu:ISA such as cpu:avx2, or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = Device::CPU)]
    pub device: Device,
    #[command(flatten)]
    pub common: Common,
}

impl Benchmark for Arguments {
    fn measure<B: Backend>(&self, suite: &mut Suite<'_>, backend: impl Fn() -> B) -> Result<()> {
        let traced = Arc::new(Traced::new(backend()));
        if !suite.is_on_gpu() {
            return self.answers(suite, "", traced.clone(), || traced.take());
        }
        self.answers(suite, "", Arc::new(backend()), Vec::new)?;
        // What is traced is launched kernel by kernel. It takes longer on the device than here: its times mean nothing.
        self.answers(suite, "without a graph", traced.clone(), || {
            traced.take();
            Vec::new()
        })
    }
}

impl Arguments {
    /// Measures answers of a UNet on a backend; `events` tells what it has done since it was last asked.
    fn answers<B: Backend>(
        &self,
        suite: &mut Suite<'_>,
        form: &'static str,
        backend: Arc<B>,
        events: impl Fn() -> Vec<Event>,
    ) -> Result<()> {
        let Arguments { subject, model, .. } = self;
        let mut ready = subject.ready(backend, model.as_ref())?;
        let (side, kernels) = (subject.side()?, ready.plan.kernels());
        let name = model.as_deref().map_or(subject.preset.to_string(), name);
        let known = |number: u64| Some(number).filter(|&number| number > 0);
        let case = Case {
            form,
            flops: known(ready.plan.flops()),
            model_calls: Some(1),
            kernels: known(kernels),
            ..Case::new(format!("unet {name} {side}x{side}"), subject.batch)
        };
        let mut fastest: Option<Vec<Event>> = None;
        let mut launches = 0;
        suite.measure_passes(case, |pass| {
            events();
            let before = ready.plan.launches();
            ready.forward()?;
            launches = ready.plan.launches() - before;
            pass.launches = known(launches);
            let events = events();
            if fastest.as_ref().is_none_or(|fastest| time(&events) < time(fastest)) {
                pass.parts = Table::by_shape(&events).rows().iter().map(Part::from).collect();
                fastest = Some(events);
            }
            Ok(())
        })?;
        if kernels > 0 {
            suite.note(format_args!("{kernels} kernels in {launches} launches"));
            return Ok(());
        }
        let events = fastest.unwrap_or_default();
        suite.note(format_args!("the fastest run:\n{}", Table::by_operation(&events)));
        if self.shapes {
            suite.note(Table::by_shape(&events));
        }
        Ok(())
    }
}

fn time(events: &[Event]) -> Duration {
    events.iter().map(|event| event.time).sum()
}

impl From<&Row> for Part {
    fn from(row: &Row) -> Self {
        let Row { what, calls, time, flops, bytes } = row.clone();
        Part { what, calls, seconds: time.as_secs_f64(), flops, bytes }
    }
}
