use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::Result;
use noisefork::ops::Backend;
use noisefork::trace::{Event, Row, Table, Traced};

use super::case::Case;
use super::preset::Subject;
use super::record::Part;
use super::suite::{Common, Dtype, Suite};
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
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    Suite::run(&arguments.common, |suite| match arguments.common.dtype {
        Dtype::F32 => measure(suite, arguments, Cpu::new()),
        Dtype::Bf16 => measure(suite, arguments, Cpu::bf16()),
    })
}

fn measure<B: Backend>(suite: &mut Suite<'_>, arguments: &Arguments, backend: B) -> Result<()> {
    let Arguments { subject, model, .. } = arguments;
    let backend = Arc::new(Traced::new(backend));
    let mut ready = subject.ready(backend.clone(), model.as_ref())?;
    let (side, flops) = (subject.side()?, ready.plan.flops());
    let name = model.as_deref().map_or(subject.preset.to_string(), name);
    let case = Case {
        what: format!("unet {name} {side}x{side}"),
        batch: subject.batch,
        parts: 1,
        flops: Some(flops).filter(|&flops| flops > 0),
        bytes: None,
        model_calls: Some(1),
    };
    let mut fastest: Option<Vec<Event>> = None;
    suite.measure_parts(case, |parts| {
        backend.take();
        ready.forward()?;
        let events = backend.take();
        if fastest.as_ref().is_none_or(|fastest| time(&events) < time(fastest)) {
            *parts = Table::by_shape(&events).rows().iter().map(Part::from).collect();
            fastest = Some(events);
        }
        Ok(())
    })?;
    let events = fastest.unwrap_or_default();
    suite.note(format_args!("the fastest run:\n{}", Table::by_operation(&events)));
    if arguments.shapes {
        suite.note(Table::by_shape(&events));
    }
    Ok(())
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
