use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::{Error, Result};
use noisefork::ops::Backend;
use noisefork::sampling::lineage::Lineage;
use noisefork::sampling::record::Settings;
use noisefork::sampling::{KSampler, ModelSampling, Profile, Record, Sampler, Scheduler, Variations};
use noisefork::tensor::{Shaped, Tensor};

use crate::bundle::Bundle;
use crate::device::Opened;
#[cfg(feature = "cuda")]
use crate::device::cuda;
use crate::files::Output;
use crate::inputs::{Inputs, start};
use crate::interrupt;
use crate::progress::Bar;
use crate::repaired::Repaired;
use crate::shard::Shard;
use crate::sheet::{Picture, pictures, sheet};

const OP: &str = "variations";

/// Vary one composition: the ComfyUI_essentials node "KSampler Variations Stochastic", or what it is meant to do.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
    /// Height and width of the pictures in pixels
    #[arg(long, value_name = "HxW")]
    size: Option<Size>,
    /// How many variations
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// The seed of the composition
    #[arg(long, default_value_t = 0)]
    noise_seed: u64,
    /// Steps of the whole schedule
    #[arg(long, default_value_t = 25)]
    steps: usize,
    /// The strength of guidance
    #[arg(long, default_value_t = 7.0)]
    cfg: f64,
    /// The sampler of the composition; `noisefork samplers` lists them
    #[arg(long, default_value = "euler")]
    sampler: Sampler,
    /// The schedule; `noisefork sigmas` shows them
    #[arg(long, default_value = "simple")]
    scheduler: Scheduler,
    /// The seed of the variations
    #[arg(long, default_value_t = 0)]
    variation_seed: u64,
    /// The share of the steps in which variations differ, 0 to 1; repaired ones may have one each, separated by commas
    #[arg(long, value_name = "STRENGTH", value_delimiter = ',', default_value = "0.2")]
    variation_strength: Vec<f64>,
    /// Scales the strength of guidance for the variations
    #[arg(long, default_value_t = 1.0)]
    cfg_scale: f64,
    /// Whose noise it is, by system and version [default: comfyui-0.3.64; repaired, comfyui-post-11528]
    #[arg(long, value_name = "NAME")]
    profile: Option<Profile>,
    #[command(flatten)]
    repaired: Repaired,
    /// Make the K-th of N parts of the batch, with the bits it has in the whole; more parts than items leave some empty
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
    /// Where to write the latents and the record of the run, as safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write the pictures, as PNG [default: variations.png, without --out]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// `HxW` in pixels.
#[derive(Debug, Clone, Copy)]
struct Size([usize; 2]);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let sides = text.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
        sides.map(Size).ok_or_else(|| format!("expected HEIGHTxWIDTH in pixels such as 64x64, got {text:?}"))
    }
}

pub fn run(arguments: &mut Arguments) -> Result<()> {
    match arguments.inputs.device.open()? {
        Opened::Cpu(isa) => run_on(Arc::new(Cpu::<f32>::with_isa(isa)?), arguments),
        #[cfg(feature = "cuda")]
        Opened::Cuda(driver) => run_on(cuda(*driver), arguments),
    }
}

fn run_on<B: Backend>(backend: Arc<B>, arguments: &Arguments) -> Result<()> {
    let bundle = arguments.inputs.bundle(backend)?;
    let latent = arguments.latent(&bundle)?;
    let whole = arguments.record(&bundle, &latent)?;
    let items = arguments.shard.map_or(Ok(whole.items.clone()), |shard| shard.items(whole.shape[0]))?;
    let record = Record { items, ..whole };
    let composition = arguments.composition(&bundle, record.shape)?;
    let mut model = arguments.inputs.model(&bundle)?;
    let (out, picture) = arguments.outputs(&bundle, record.items.len())?;

    interrupt::listen();
    let bar = Bar::new();
    bar.stage("variations");
    // The run is the first replay of its record, so that what the file tells is what was done.
    let from = start(&record.settings, &latent)?;
    let samples =
        record.replay(&mut model, &from, record.items.clone(), &mut |progress| bar.observe(progress))?;
    bar.stage("composition");
    let from = latent.items(0..1)?;
    let composition = composition.replay(&mut model, &from, 0..1, &mut |progress| bar.observe(progress))?;
    drop(bar);

    if let Some(out) = out {
        out.write_tensors(&[("samples", &samples), ("composition", &composition)], &record)?;
    }
    if let Some(picture) = picture
        && let Some(composition) = bundle.decode(&composition)?
        && let Some(variations) = bundle.decode(&samples)?
    {
        let caption = format!("noise seed {}", arguments.noise_seed);
        let first = Picture { images: &composition, item: 0, caption };
        let others = pictures(&variations, &record.settings, record.items.start);
        picture.write_png(&sheet(Some(&first), &others))?;
    }
    Ok(())
}

impl Arguments {
    /// The node, after a word on what it will do that its user would not expect.
    fn node(&self, sampling: &ModelSampling, latent: &Tensor) -> Result<Variations> {
        let &[variation_strength] = self.variation_strength.as_slice() else {
            let (what, expected) =
                ("variation_strength", "one number; --repaired takes one for each item".into());
            let got = format!("{} of them", self.variation_strength.len());
            return Err(Error::Value { op: OP, what, expected, got });
        };
        let node = Variations {
            profile: self.profile.unwrap_or_default(),
            noise_seed: self.noise_seed,
            steps: self.steps,
            cfg: self.cfg,
            sampler: self.sampler.clone(),
            scheduler: self.scheduler,
            variation_seed: self.variation_seed,
            variation_strength,
            cfg_scale: self.cfg_scale,
        };
        node.diagnose(sampling, latent)?.iter().for_each(|note| eprintln!("note: {note}"));
        Ok(node)
    }

    /// The lineage that repaired variations fork from.
    fn lineage(&self) -> Lineage {
        let (sampler, scheduler) = (self.sampler.clone(), self.scheduler);
        let lineage = Lineage::new(self.noise_seed, self.steps, self.cfg, sampler, scheduler);
        Lineage { profile: self.profile.unwrap_or(lineage.profile), ..lineage }
    }

    /// The record of the whole batch.
    fn record<B: Backend>(&self, bundle: &Bundle<B>, latent: &Tensor) -> Result<Record> {
        let (sampling, shape) = (bundle.sampling(), latent.shape());
        let &[batch, channels, height, width] = &*shape else {
            let expected = "[N, C, H, W]".into();
            return Err(Error::Shape { op: OP, tensor: "latent", expected, got: shape });
        };
        let settings = if self.repaired.repaired {
            let seed_and_cfg = (self.variation_seed, self.cfg * self.cfg_scale);
            let strengths = &self.variation_strength;
            Settings::Lineages(self.repaired.lineages(
                &self.lineage(),
                sampling,
                strengths,
                seed_and_cfg,
                batch,
            )?)
        } else {
            Settings::Variations(self.node(sampling, latent)?)
        };
        Record::new(settings, sampling, [batch, channels, height, width], self.inputs.facts())
    }

    /// The composition taken to its end, for comparison.
    fn composition<B: Backend>(
        &self,
        bundle: &Bundle<B>,
        [_, channels, height, width]: [usize; 4],
    ) -> Result<Record> {
        let settings = if self.repaired.repaired {
            Settings::Lineages(vec![self.lineage()])
        } else {
            let (sampler, scheduler) = (self.sampler.clone(), self.scheduler);
            let whole = KSampler::new(self.noise_seed, self.steps, self.cfg, sampler, scheduler);
            Settings::KSampler(KSampler { profile: self.profile.unwrap_or_default(), ..whole })
        };
        Record::new(settings, bundle.sampling(), [1, channels, height, width], self.inputs.facts())
    }

    fn latent<B: Backend>(&self, bundle: &Bundle<B>) -> Result<Tensor> {
        if let Some(latent) = self.inputs.latent()? {
            return Ok(latent);
        }
        if self.batch == 0 {
            let (what, expected) = ("batch", "at least 1".into());
            return Err(Error::Value { op: OP, what, expected, got: "0".into() });
        }
        let size = self.size.map_or(bundle.default_size(), |Size(size)| size);
        Tensor::try_zeros(bundle.latent_shape(self.batch, size)?)
    }

    /// The files to write, made ready before any work is done.
    fn outputs<B: Backend>(
        &self,
        bundle: &Bundle<B>,
        items: usize,
    ) -> Result<(Option<Output>, Option<Output>)> {
        let image = match (&self.image, &self.out) {
            (None, None) if bundle.has_autoencoder() => Some("variations.png".into()),
            (None, None) => {
                let expected = "a file, since the model has no autoencoder/".into();
                return Err(Error::Value { op: OP, what: "out", expected, got: "none".into() });
            }
            (image, _) => image.clone(),
        };
        Ok((Output::create_if(&self.out)?, bundle.picture(&image, items)?))
    }
}
