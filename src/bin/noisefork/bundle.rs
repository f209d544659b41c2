//! A model with what goes with it: prompts in, pictures out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use noisefork::autoencoder::{self, AutoencoderTiny};
use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::sampling::{Betas, Levels, Model, ModelSampling, Prediction};
use noisefork::tensor::Tensor;
use noisefork::unet::{self, Added, Prompt, UNet, UNetDenoiser};
use noisefork::words::Words;
use serde_json::Value as Json;

use crate::files::{Output, TensorFile};

/// Everything that a folder of a model holds.
pub struct Bundle<B: Backend> {
    unet: Arc<UNet<B>>,
    autoencoder: Option<AutoencoderTiny<B>>,
    words: Option<Words>,
    sampling: ModelSampling,
}

/// Where the files of a model are.
enum Source {
    /// In the program itself: the emoji model.
    Embedded,
    Folder(PathBuf),
}

impl Source {
    /// A file as text; `None` if there is none.
    fn text(&self, name: &str) -> Result<Option<String>> {
        let bytes = match self {
            Source::Embedded => embedded(name).map(<[u8]>::to_vec),
            Source::Folder(folder) => match std::fs::read(folder.join(name)) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(self.refuse(name, "a readable file", error)),
            },
        };
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|error| self.refuse(name, "text in UTF-8", error))
    }

    fn expect_text(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| self.refuse(name, "a configuration", "no such file"))
    }

    /// The weights in `folder`, under the name `file` where they are embedded.
    fn weights(&self, folder: &str, file: &str) -> Result<Weights> {
        match self {
            Source::Embedded => {
                let name = format!("{folder}/{file}");
                Weights::from_bytes(&name, embedded(&name).unwrap_or_default())
            }
            Source::Folder(root) if file == WEIGHTS => Weights::open(root.join(folder)),
            Source::Folder(root) => Weights::open(root.join(folder).join(file)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        match self {
            Source::Embedded => PathBuf::from(name),
            Source::Folder(folder) => folder.join(name),
        }
    }

    fn refuse(&self, name: &str, expected: &str, got: impl std::fmt::Display) -> Error {
        Error::File { path: self.path(name), expected: expected.to_owned(), got: got.to_string() }
    }
}

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// The files of the emoji model.
fn embedded(name: &str) -> Option<&'static [u8]> {
    macro_rules! files {
        ($($file:literal)*) => {
            match name {
                $($file => Some(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/emoji/", $file))),)*
                _ => None,
            }
        };
    }
    files! {
        "unet/config.json"
        "unet/diffusion_pytorch_model.safetensors"
        "unet/words.json"
        "unet/words.safetensors"
        "autoencoder/config.json"
        "autoencoder/diffusion_pytorch_model.safetensors"
    }
}

impl<B: Backend> Bundle<B> {
    /// The model at `path`. A folder holds `unet/` as diffusers has it; with `words.json` and `words.safetensors` in it
    /// prompts are words of that table; with an `autoencoder/` beside it latents become pictures. A file holds a UNet,
    /// maybe as a part of a checkpoint. Without a path, the emoji model.
    pub fn open(backend: Arc<B>, path: Option<&Path>) -> Result<Self> {
        let source = match path {
            Some(file) if file.is_file() => return Self::checkpoint(backend, file),
            Some(folder) => Source::Folder(folder.to_owned()),
            None => Source::Embedded,
        };
        let config = unet::Config::from_json(&source.expect_text("unet/config.json")?)?;
        let unet = UNet::from_parts(backend.clone(), config, &source.weights("unet", WEIGHTS)?)?;
        let words = match source.text("unet/words.json")? {
            None => None,
            Some(json) => {
                let table = source.weights("unet", "words.safetensors")?;
                let width = unet.config().cross_attention_dim();
                Some(Words::from_parts(&source.path("unet/words.json"), &json, &table, width)?)
            }
        };
        let autoencoder = match source.text("autoencoder/config.json")? {
            None => None,
            Some(json) => {
                let config = autoencoder::Config::from_json(&json)?;
                let weights = source.weights("autoencoder", WEIGHTS)?;
                Some(AutoencoderTiny::from_parts(backend, config, &weights)?)
            }
        };
        let sampling = trained_levels(&source)?;
        Ok(Bundle { unet: Arc::new(unet), autoencoder, words, sampling })
    }

    /// The UNet in a file of weights.
    fn checkpoint(backend: Arc<B>, file: &Path) -> Result<Self> {
        let weights = Weights::open(file)?;
        let config = unet::Config::from_weights(&weights)?;
        let sampling = unet::model_sampling(&weights)?;
        let unet = UNet::from_parts(backend, config, &weights)?;
        Ok(Bundle { unet: Arc::new(unet), autoencoder: None, words: None, sampling })
    }

    /// The noise levels that the model was trained on.
    pub fn sampling(&self) -> &ModelSampling {
        &self.sampling
    }

    /// The file for pictures of so many items, if one is wanted; refused if there is nothing to make them of.
    pub fn picture(&self, path: &Option<PathBuf>, items: usize) -> Result<Option<Output>> {
        let refuse = |expected: &str, got: &str| {
            let (op, what) = ("variations", "image");
            Err(Error::Value { op, what, expected: expected.into(), got: got.into() })
        };
        match path {
            Some(_) if !self.has_autoencoder() => {
                refuse("given for a model with an autoencoder/", "one without")
            }
            Some(_) if items == 0 => refuse("of at least one item", "0"),
            _ => Output::create_if(path),
        }
    }

    /// Whether latents can become pictures.
    pub fn has_autoencoder(&self) -> bool {
        self.autoencoder.is_some()
    }

    /// The shape of latents for pictures of a size in pixels.
    pub fn latent_shape(&self, batch: usize, [height, width]: [usize; 2]) -> Result<[usize; 4]> {
        const STABLE_DIFFUSION: usize = 8;
        let factor = self.autoencoder.as_ref().map_or(STABLE_DIFFUSION, AutoencoderTiny::factor);
        if height == 0 || width == 0 || height % factor != 0 || width % factor != 0 {
            return Err(Error::Value {
                op: "variations",
                what: "size",
                expected: format!("a multiple of {factor} pixels"),
                got: format!("{height}x{width}"),
            });
        }
        Ok([batch, self.unet.config().out_channels(), height / factor, width / factor])
    }

    /// The size in pixels that pictures have unless another is asked for.
    pub fn default_size(&self) -> [usize; 2] {
        let side = if self.words.is_some() { 64 } else { 512 };
        [side, side]
    }

    /// A prompt from words, or from a file of tensors.
    pub fn prompt(&self, text: &str, file: Option<&TensorFile>) -> Result<Prompt> {
        if let Some(file) = file {
            let added = self.unet.config().wants_added().then(|| {
                Ok(Added {
                    text_embeds: file.beside("text_embeds").read()?,
                    time_ids: file.beside("time_ids").read()?,
                })
            });
            return Ok(Prompt { context: file.read()?, added: added.transpose()? });
        }
        match &self.words {
            Some(words) => Ok(Prompt { context: words.context(text)?, added: None }),
            None => Err(Error::Value {
                op: "variations",
                what: "prompt",
                expected: "--positive and --negative tensor files, since this model has no table of words"
                    .into(),
                got: format!("{text:?}"),
            }),
        }
    }

    /// The model under two prompts, ready to be sampled.
    pub fn model(&self, positive: Prompt, negative: Prompt) -> Result<Model<'_, B, UNetDenoiser<B>>> {
        let (unet, sampling) = (self.unet.clone(), self.sampling.clone());
        let denoiser = UNetDenoiser::new(unet, sampling.clone(), positive, negative)?;
        let (backend, latent_scale) = (&**self.unet.backend(), self.latent_scale());
        Ok(Model { backend, denoiser, sampling, latent_scale })
    }

    /// What latents are multiplied by: a model with a table of words was trained on them as they are.
    fn latent_scale(&self) -> f64 {
        const STABLE_DIFFUSION: f64 = 0.18215;
        const SDXL: f64 = 0.13025;
        match (&self.words, self.unet.config().wants_added()) {
            (Some(_), _) => 1.0,
            (None, true) => SDXL,
            (None, false) => STABLE_DIFFUSION,
        }
    }

    /// Pictures `[N, 3, H, W]` in [-1, 1] from latents, if there is an autoencoder.
    pub fn decode(&self, samples: &Tensor) -> Result<Option<Tensor>> {
        let Some(autoencoder) = &self.autoencoder else { return Ok(None) };
        let factor = self.words.as_ref().map_or(1.0, Words::latent_scaling_factor);
        let mut latents = samples.clone();
        latents.data_mut().iter_mut().for_each(|value| *value /= factor);
        autoencoder.decode(&latents).map(Some)
    }
}

/// The levels that `scheduler/scheduler_config.json` of a diffusers folder tells of; those of Stable Diffusion where
/// there is none.
fn trained_levels(source: &Source) -> Result<ModelSampling> {
    const FILE: &str = "scheduler/scheduler_config.json";
    let Some(json) = source.text(FILE)? else { return ModelSampling::eps(Betas::STABLE_DIFFUSION) };
    let config: Json = serde_json::from_str(&json).map_err(|error| source.refuse(FILE, "JSON", error))?;
    let (prediction, levels) =
        discrete_levels(&config).map_err(|expected| source.refuse(FILE, expected, &config))?;
    ModelSampling::new(prediction, levels)
}

/// The levels of a discrete diffusion by diffusers' keys, of which absent ones are as in Stable Diffusion; or what was
/// expected in place of something that would make other levels.
fn discrete_levels(config: &Json) -> std::result::Result<(Prediction, Levels), &'static str> {
    let is_or_absent = |key: &str, value: Json| config[key].is_null() || config[key] == value;
    let class = config["_class_name"].as_str().unwrap_or_default();
    let is_continuous = class.starts_with("EDM") || class.starts_with("FlowMatch");
    if !config.is_object() || is_continuous || !config["sigma_data"].is_null() {
        return Err("the configuration of a discrete diffusion");
    }
    if !is_or_absent("beta_schedule", "scaled_linear".into()) {
        return Err("beta_schedule scaled_linear");
    }
    if !is_or_absent("num_train_timesteps", 1000.into()) {
        return Err("num_train_timesteps 1000");
    }
    if !config["trained_betas"].is_null() {
        return Err("beta_start and beta_end, no trained_betas");
    }
    let beta = |key: &str, default: f64| match &config[key] {
        Json::Null => Ok(default),
        beta => beta.as_f64().ok_or("beta_start and beta_end that are numbers"),
    };
    let betas = Betas::ScaledLinear { start: beta("beta_start", 0.00085)?, end: beta("beta_end", 0.012)? };
    let zero_terminal_snr = match config["rescale_betas_zero_snr"] {
        Json::Null => false,
        Json::Bool(rescaled) => rescaled,
        _ => return Err("rescale_betas_zero_snr true or false"),
    };
    let prediction = if is_or_absent("prediction_type", "epsilon".into()) {
        Prediction::Eps
    } else if config["prediction_type"] == "v_prediction" {
        Prediction::V
    } else {
        return Err("prediction_type epsilon or v_prediction");
    };
    Ok((prediction, Levels::Discrete { betas, zero_terminal_snr }))
}
