//! Measurements of what the program is made of, on weights that are made up.

use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Subcommand};
use noisefork::cpu::{Compute, Cpu};
use noisefork::error::Result;
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::tensor::{DType, Shape, Tensor};
use noisefork::trace::{Table, Traced};
use noisefork::unet::{Added, Preset, UNet};

use crate::say::say;

/// Measure a part, and say where its time goes.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    Unet(Unet),
}

/// A UNet of a published size with made-up weights, on the CPU.
#[derive(Args)]
struct Unet {
    /// The model: sd15, sd15-inpaint, sd21, sdxl, sdxl-refiner
    #[arg(long, default_value = "sd15")]
    preset: Preset,
    /// Latents at once; guidance makes two of each
    #[arg(long, default_value_t = 2)]
    batch: usize,
    /// Height and width of a latent, an eighth of the picture's
    #[arg(long, value_name = "HxW", default_value = "64x64", value_parser = size)]
    size: [usize; 2],
    /// Tokens of the prompt
    #[arg(long, default_value_t = 77)]
    tokens: usize,
    /// What tensors are kept in: f32 or bf16
    #[arg(long, default_value = "f32", value_parser = dtype)]
    dtype: DType,
    /// Runs that are timed, after one that is not
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A line for every shape, not only for every operation
    #[arg(long)]
    shapes: bool,
}

pub fn run(Arguments { part: Part::Unet(unet) }: &Arguments) -> Result<()> {
    match unet.dtype {
        DType::BF16 => unet.measure(Cpu::bf16()),
        _ => unet.measure(Cpu::new()),
    }
}

impl Unet {
    fn measure<E: Compute>(&self, cpu: Cpu<E>) -> Result<()> {
        let start = Instant::now();
        let backend = Arc::new(Traced::new(cpu));
        let unet = Arc::new(UNet::from_parts(backend.clone(), self.preset.config(), &Weights::synthetic(1))?);
        say(format_args!("made up in {:.1} s, {}", start.elapsed().as_secs_f64(), peak_memory()));

        let mut plan = unet.plan(self.batch, self.size, self.tokens)?;
        let (workspace, flops) = (plan.workspace(), plan.flops());
        let context = made_up([1, self.tokens, unet.config().cross_attention_dim()])?;
        let added = unet.config().wants_added().then(|| self.added()).transpose()?;
        let conditioning = unet.prepare(&context, self.batch, added.as_ref())?;
        let times = unet.times(&[[500.0]], &conditioning)?;
        let x = backend.upload(&made_up(plan.shape())?)?;
        plan.forward(&x, &times, 0, &conditioning)?;
        backend.take();

        let mut seconds = Vec::new();
        for _ in 0..self.runs.max(1) {
            let start = Instant::now();
            plan.forward(&x, &times, 0, &conditioning)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        let events = backend.take();
        seconds.sort_by(f64::total_cmp);
        let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
        say(format_args!(
            "{} {}, {}, {} threads: median {:.0} ms, {:.0} GFLOP/s; best {:.0} ms, {:.0} GFLOP/s",
            self.preset,
            plan.shape(),
            self.dtype,
            rayon::current_num_threads(),
            1e3 * median,
            flops as f64 / median / 1e9,
            1e3 * best,
            flops as f64 / best / 1e9,
        ));
        say(format_args!(
            "workspace {:.0} MB, of which {:.0} MB at a time; {}",
            workspace.held as f64 / 1e6,
            workspace.peak as f64 / 1e6,
            peak_memory(),
        ));
        say(format_args!("all {} runs:\n{}", self.runs.max(1), Table::by_operation(&events)));
        if self.shapes {
            say(Table::by_shape(&events));
        }
        Ok(())
    }

    /// SDXL's second conditioning: the widths that are left when the numbers' are taken off.
    fn added(&self) -> Result<Added> {
        let (text, numbers) = match self.preset {
            Preset::SdxlRefiner => (1280, 5),
            _ => (1280, 6),
        };
        Ok(Added { text_embeds: made_up([1, text])?, time_ids: Tensor::zeros([1, numbers]) })
    }
}

/// Numbers of order 1.
fn made_up(shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let mut tensor = Tensor::try_zeros(shape)?;
    noisefork::rng::Mt19937::new(1).randn(tensor.data_mut());
    Ok(tensor)
}

/// The most memory that this process has had so far, mapped files included, where the system tells.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = kilobytes.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.map_or("peak memory unknown".into(), |kb| format!("peak memory {:.2} GB", kb * 1024.0 / 1e9))
}

fn size(text: &str) -> std::result::Result<[usize; 2], String> {
    let sides = text.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
    sides.ok_or_else(|| format!("expected HxW such as 64x64, got {text:?}"))
}

fn dtype(text: &str) -> std::result::Result<DType, String> {
    match text {
        "f32" => Ok(DType::F32),
        "bf16" => Ok(DType::BF16),
        _ => Err(format!("expected f32 or bf16, got {text:?}")),
    }
}
