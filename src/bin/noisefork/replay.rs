use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::{Error, Result};
use noisefork::ops::Backend;
use noisefork::sampling::Record;
use noisefork::tensor::{Shaped, Tensor};

#[cfg(feature = "cuda")]
use crate::device::cuda;
use crate::device::{Device, Opened};
use crate::files::{Output, TensorFile, read_record};
use crate::inputs::{Inputs, start};
use crate::interrupt;
use crate::progress::Bar;
use crate::say::say;
use crate::sheet::{pictures, sheet};

/// Make again what a file of latents holds, from its record alone, and tell whether the bits are the same.
#[derive(Args)]
pub struct Arguments {
    /// What `variations --out` wrote
    file: PathBuf,
    /// Only this item of the batch, which the file must hold
    #[arg(long, value_name = "K")]
    item: Option<usize>,
    /// What computes [default: what did]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Where to write the latents and their record, as safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write the pictures, as PNG
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// Succeeds if the bits are the same.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let held = read_record(&arguments.file)?;
    let items = match arguments.item {
        None => held.items.clone(),
        Some(item) if held.items.contains(&item) => item..item + 1,
        Some(item) => {
            let expected = format!("within {:?}, the items of the file", held.items);
            return Err(Error::Value { op: "replay", what: "item", expected, got: item.to_string() });
        }
    };
    let first = items.start - held.items.start;
    let before = TensorFile::from(&arguments.file).beside("samples").read()?;
    let before = before.items(first..first + items.len())?;
    let mut inputs = Inputs::from(&held.facts);
    inputs.device = arguments.device.unwrap_or(inputs.device);
    let device = inputs.device.open()?;
    let made_by = held.facts.get("device").cloned();
    let record = Record { items, facts: inputs.facts(), ..held };
    let again = match device {
        Opened::Cpu(isa) => run_on(Arc::new(Cpu::<f32>::with_isa(isa)?), arguments, &inputs, &record)?,
        #[cfg(feature = "cuda")]
        Opened::Cuda(driver) => run_on(cuda(*driver), arguments, &inputs, &record)?,
    };
    if are_the_same(&before, &again) {
        return Ok(ExitCode::SUCCESS);
    }
    let made_again_by = record.facts.get("device");
    if let (Some(made_by), Some(made_again_by)) = (made_by, made_again_by)
        && made_by != *made_again_by
    {
        eprintln!("note: they were made by {made_by}, and again by {made_again_by}");
    }
    Ok(ExitCode::FAILURE)
}

/// Makes the items of a record again, and writes them where it was asked for.
fn run_on<B: Backend>(
    backend: Arc<B>,
    arguments: &Arguments,
    inputs: &Inputs,
    record: &Record,
) -> Result<Tensor> {
    let bundle = inputs.bundle(backend)?;
    let latent = inputs.latent()?.map_or_else(|| Tensor::try_zeros(record.shape), Ok)?;
    let mut model = inputs.model(&bundle)?;
    let (out, picture) =
        (Output::create_if(&arguments.out)?, bundle.picture(&arguments.image, record.items.len())?);

    interrupt::listen();
    let bar = Bar::new();
    bar.stage("replay");
    let from = start(&record.settings, &latent)?;
    let samples =
        record.replay(&mut model, &from, record.items.clone(), &mut |progress| bar.observe(progress))?;
    drop(bar);

    if let Some(out) = out {
        out.write_tensors(&[("samples", &samples)], record)?;
    }
    if let Some(picture) = picture
        && let Some(images) = bundle.decode(&samples)?
    {
        picture.write_png(&sheet(None, &pictures(&images, &record.settings, record.items.start)))?;
    }
    Ok(samples)
}

/// Compares the bits, and says what it found.
fn are_the_same(before: &Tensor, again: &Tensor) -> bool {
    let differing =
        before.data().iter().zip(again.data()).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    if before.shape() == again.shape() && differing == 0 {
        say(format_args!("the same bits: {} values in {} item(s)", again.data().len(), again.shape()[0]));
        return true;
    }
    say(format_args!("other bits: {differing} of {} values differ", again.data().len()));
    false
}
