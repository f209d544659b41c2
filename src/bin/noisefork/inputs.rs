//! What a run is given besides its settings: a model, prompts, latents to start from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use noisefork::error::Result;
use noisefork::ops::Backend;
use noisefork::sampling::Model;
use noisefork::sampling::record::Settings;
use noisefork::tensor::Tensor;
use noisefork::unet::UNetDenoiser;

use crate::bundle::Bundle;
use crate::device::Device;
use crate::files::TensorFile;

#[derive(Args)]
pub struct Inputs {
    /// A diffusers folder (unet/, autoencoder/), or a safetensors file with a UNet, as checkpoints are; without one, the
    /// emoji model in this program
    #[arg(long, value_name = "PATH")]
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
    /// What computes: cpu, cpu:ISA such as cpu:avx2 where machines of other kinds are to make the same bits, or cuda:N;
    /// auto is the CPU until kernels have run on a GPU
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    pub device: Device,
}

impl Inputs {
    pub fn bundle<B: Backend>(&self, backend: Arc<B>) -> Result<Bundle<B>> {
        Bundle::open(backend, self.model.as_deref())
    }

    /// A name for the model.
    pub fn model_name(&self) -> String {
        self.model.as_deref().map_or("emoji".to_owned(), name)
    }

    /// The model under the prompts.
    pub fn model<'b, B: Backend>(&self, bundle: &'b Bundle<B>) -> Result<Model<'b, B, UNetDenoiser<B>>> {
        let positive = bundle.prompt(&self.prompt, self.positive.as_ref())?;
        let negative = bundle.prompt(&self.negative_prompt, self.negative.as_ref())?;
        bundle.model(positive, negative)
    }

    /// The latents that were given, if any were.
    pub fn latent(&self) -> Result<Option<Tensor>> {
        self.latent.as_ref().map(TensorFile::read).transpose()
    }

    /// What a record must say to find all this again.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let file = |file: &Option<TensorFile>| file.as_ref().map(TensorFile::to_string);
        let facts = [
            ("model", self.model.as_ref().map(|model| model.display().to_string())),
            ("prompt", self.positive.is_none().then(|| self.prompt.clone())),
            ("negative_prompt", self.negative.is_none().then(|| self.negative_prompt.clone())),
            ("positive", file(&self.positive)),
            ("negative", file(&self.negative)),
            ("latent", file(&self.latent)),
            ("device", Some(self.device.with_isa().to_string())),
        ];
        facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?))).collect()
    }
}

/// Undoes [`Inputs::facts`].
impl From<&BTreeMap<String, String>> for Inputs {
    fn from(facts: &BTreeMap<String, String>) -> Self {
        let file = |name: &str| facts.get(name).map(|fact| TensorFile::from(fact.as_str()));
        let words = |name: &str| facts.get(name).cloned().unwrap_or_default();
        Inputs {
            model: facts.get("model").map(PathBuf::from),
            prompt: words("prompt"),
            negative_prompt: words("negative_prompt"),
            positive: file("positive"),
            negative: file("negative"),
            latent: file("latent"),
            device: facts.get("device").and_then(|fact| fact.parse().ok()).unwrap_or(Device::CPU),
        }
    }
}

/// What a folder or a file of a model is called.
pub fn name(path: &Path) -> String {
    path.file_stem().map_or(path.display().to_string(), |name| name.display().to_string())
}

/// What a run starts from: lineages have one latent in common, the batch's first.
pub fn start(settings: &Settings, latent: &Tensor) -> Result<Tensor> {
    match settings {
        Settings::Lineages(_) => latent.items(0..1),
        _ => Ok(latent.clone()),
    }
}
