use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use noisefork::error::{Error, Result};
use noisefork::sampling::{KSampler, Sampler, Scheduler, Variations};
use noisefork::tensor::{Shaped, Tensor};

use crate::bundle::Bundle;
use crate::files::{Output, TensorFile};
use crate::interrupt;
use crate::progress::Bar;
use crate::sheet::{Picture, sheet};

/// Vary one composition: the ComfyUI_essentials node "KSampler Variations Stochastic".
#[derive(Args)]
pub struct Arguments {
    /// A diffusers folder (unet/, autoencoder/); without one, the emoji model in this program
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What to draw, in words that the model's table knows
    #[arg(long, value_name = "WORDS", default_value = "face smiling grinning big eyes")]
    prompt: String,
    /// What not to draw
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    negative_prompt: String,
    /// An encoded prompt [1, tokens, width], in place of words
    #[arg(long, value_name = "FILE[:TENSOR]", conflicts_with = "prompt")]
    positive: Option<TensorFile>,
    /// An encoded negative prompt
    #[arg(long, value_name = "FILE[:TENSOR]", conflicts_with = "negative_prompt")]
    negative: Option<TensorFile>,
    /// Latents [N, C, H, W] to start from; the first is varied N times
    #[arg(long, value_name = "FILE[:TENSOR]", conflicts_with_all = ["size", "batch"])]
    latent: Option<TensorFile>,
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
    /// The share of the steps in which variations differ, 0 to 1
    #[arg(long, default_value_t = 0.2)]
    variation_strength: f64,
    /// Scales the strength of guidance for the variations
    #[arg(long, default_value_t = 1.0)]
    cfg_scale: f64,
    /// Where to write the latents and the settings, as safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write the pictures, as PNG [default: variations.png, if the model has an autoencoder]
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

pub fn run(arguments: &Arguments) -> Result<()> {
    let node = arguments.node();
    let whole = arguments.whole();
    let bundle = Bundle::open(arguments.model.as_deref())?;
    let steps: usize = [node.composition()?, node.variation()?, whole.clone()]
        .iter()
        .map(|run| Ok(run.plan(bundle.sampling())?.map_or(0, |plan| plan.program.steps().len())))
        .sum::<Result<_>>()?;
    let latent = arguments.latent(&bundle)?;
    let positive = bundle.prompt(&arguments.prompt, arguments.positive.as_ref())?;
    let negative = bundle.prompt(&arguments.negative_prompt, arguments.negative.as_ref())?;
    let (out, picture) = arguments.outputs(&bundle)?;

    interrupt::listen();
    let mut model = bundle.model(positive, negative)?;
    let bar = Bar::new(steps);
    bar.stage("variations");
    let samples = node.sample(&mut model, &latent, &mut |progress| bar.observe(progress))?;
    bar.stage("composition");
    let first = latent.items(0..1)?;
    let composition = whole.sample(&mut model, &first, &mut |progress| bar.observe(progress))?;
    drop(bar);

    if let Some(out) = out {
        let tensors = [("samples", &samples), ("composition", &composition)];
        out.write_tensors(&tensors, arguments.settings())?;
    }
    if let Some(output) = picture
        && let Some(composition) = bundle.decode(&composition)?
        && let Some(variations) = bundle.decode(&samples)?
    {
        output.write_png(&arguments.sheet(&composition, &variations))?;
    }
    Ok(())
}

impl Arguments {
    fn node(&self) -> Variations {
        Variations {
            noise_seed: self.noise_seed,
            steps: self.steps,
            cfg: self.cfg,
            sampler: self.sampler.clone(),
            scheduler: self.scheduler,
            variation_seed: self.variation_seed,
            variation_strength: self.variation_strength,
            cfg_scale: self.cfg_scale,
        }
    }

    /// The composition taken to its end, for comparison.
    fn whole(&self) -> KSampler {
        KSampler::new(self.noise_seed, self.steps, self.cfg, self.sampler.clone(), self.scheduler)
    }

    fn latent(&self, bundle: &Bundle) -> Result<Tensor> {
        if let Some(file) = &self.latent {
            return file.read();
        }
        if self.batch == 0 {
            let (what, expected) = ("batch", "at least 1".into());
            return Err(Error::Value { op: "variations", what, expected, got: "0".into() });
        }
        let size = self.size.map_or(bundle.default_size(), |Size(size)| size);
        Ok(Tensor::zeros(bundle.latent_shape(self.batch, size)?))
    }

    /// The files to write, made ready before any work is done.
    fn outputs(&self, bundle: &Bundle) -> Result<(Option<Output>, Option<Output>)> {
        let refuse = |what, expected: &str, got: &str| {
            Err(Error::Value { op: "variations", what, expected: expected.into(), got: got.into() })
        };
        let image = match (&self.image, bundle.has_autoencoder()) {
            (Some(_), false) => return refuse("image", "a model with an autoencoder/", "one without"),
            (None, false) if self.out.is_none() => {
                return refuse("out", "a file, since the model has no autoencoder/", "none");
            }
            (None, false) => None,
            (image, true) => Some(image.clone().unwrap_or("variations.png".into())),
        };
        let create = |path: &Option<PathBuf>| path.as_deref().map(Output::create).transpose();
        Ok((create(&self.out)?, create(&image)?))
    }

    /// What a header says of the run.
    fn settings(&self) -> HashMap<String, String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let file = |file: &Option<TensorFile>| file.as_ref().map(|file| file.path.display().to_string());
        let settings = [
            ("noisefork", Some(env!("CARGO_PKG_VERSION").to_owned())),
            ("profile", Some("comfyui-0.3.64".to_owned())),
            ("model", path(&self.model).or(Some("emoji".to_owned()))),
            ("prompt", self.positive.is_none().then(|| self.prompt.clone())),
            ("negative_prompt", self.negative.is_none().then(|| self.negative_prompt.clone())),
            ("positive", file(&self.positive)),
            ("negative", file(&self.negative)),
            ("latent", file(&self.latent)),
            ("noise_seed", Some(self.noise_seed.to_string())),
            ("steps", Some(self.steps.to_string())),
            ("cfg", Some(self.cfg.to_string())),
            ("sampler", Some(self.sampler.to_string())),
            ("scheduler", Some(self.scheduler.to_string())),
            ("variation_seed", Some(self.variation_seed.to_string())),
            ("variation_strength", Some(self.variation_strength.to_string())),
            ("cfg_scale", Some(self.cfg_scale.to_string())),
        ];
        settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    fn sheet(&self, composition: &Tensor, variations: &Tensor) -> image::RgbImage {
        let first =
            Picture { images: composition, item: 0, caption: format!("noise seed {}", self.noise_seed) };
        let caption = |item| format!("seed {} #{item}", self.variation_seed);
        let picture = |item| Picture { images: variations, item, caption: caption(item) };
        let others: Vec<Picture> = (0..variations.shape()[0]).map(picture).collect();
        sheet(&first, &others)
    }
}
