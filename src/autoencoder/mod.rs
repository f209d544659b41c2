//! The tiny autoencoder: diffusers' `AutoencoderTiny`, which is TAESD (Ollin Boer Bohan 2023,
//! github.com/madebyollin/taesd), over any [`Backend`].

mod config;
mod from_weights;
mod half;
mod layout;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::nn::{Run, Weights, read_config};
use crate::ops::{Backend, Enter, Leave};
use crate::tensor::{Shaped, Tensor};

pub use config::Config;
use half::{Half, Kind};
use layout::{Layout, PARTS};

/// A tiny autoencoder, loaded.
pub struct AutoencoderTiny<B: Backend> {
    backend: Arc<B>,
    config: Config,
    encoder: Half<B>,
    decoder: Half<B>,
}

impl<B: Backend> AutoencoderTiny<B> {
    /// Loads a diffusers folder: `config.json` and the weights beside it, as [`Weights::open`] finds them; a folder of
    /// TAESD's own two files, `taesd_encoder.safetensors` and `taesd_decoder.safetensors`; or one file of weights alone,
    /// in either layout, whose configuration [`Config::from_weights`] works out.
    ///
    /// # Errors
    /// Those of [`Weights::open`], [`Config::from_json`], [`Config::from_weights`] and [`AutoencoderTiny::from_parts`];
    /// [`Error::File`] for a configuration that cannot be read.
    pub fn load(backend: Arc<B>, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let in_parts = PARTS.iter().all(|part| path.join(format!("{part}.safetensors")).exists());
        if path.is_dir() && (path.join("config.json").exists() || !in_parts) {
            let config = Config::from_json(&read_config(path)?)?;
            return Self::from_parts(backend, config, &Weights::open(path)?);
        }
        let weights = if path.is_dir() { Weights::open_parts(path, &PARTS)? } else { Weights::open(path)? };
        Self::from_parts(backend, Config::from_weights(&weights)?, &weights)
    }

    /// Loads the model that `config` describes from weights in any layout that [`AutoencoderTiny::load`] takes.
    ///
    /// # Errors
    /// Those of [`Weights::tensor`] and [`Weights::expect_all_used`], and whatever the backend reports.
    pub fn from_parts(backend: Arc<B>, config: Config, weights: &Weights) -> Result<Self> {
        let layout = Layout::of(weights);
        let in_file = |name: &str| layout.in_file(name);
        let file = weights.renamed(&in_file);
        let Config { in_channels, out_channels, latent_channels, encoder_channels, decoder_channels, .. } =
            config;
        let encoder = Half::load(
            Kind::Encoder,
            &*backend,
            &file.scope("encoder.layers"),
            [in_channels, encoder_channels, latent_channels],
            &config.num_encoder_blocks,
        )?;
        let decoder = Half::load(
            Kind::Decoder,
            &*backend,
            &file.scope("decoder.layers"),
            [latent_channels, decoder_channels, out_channels],
            &config.num_decoder_blocks,
        )?;
        weights.expect_all_used()?;
        Ok(AutoencoderTiny { backend, config, encoder, decoder })
    }

    /// What the model was loaded as.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many pixels of a decoded image, in each direction, one of a latent becomes.
    pub fn factor(&self) -> usize {
        1 << (self.config.num_decoder_blocks.len() - 1)
    }

    /// Encodes images `[N, in_channels, H, W]`, from -1 to 1, as latents `[N, latent_channels, h, w]`: sizes are halved,
    /// and rounded up, by every stage after the first.
    ///
    /// # Errors
    /// [`Error::Shape`] for anything but such images.
    pub fn encode(&self, image: &Tensor) -> Result<Tensor> {
        expect_channels("image", image, self.config.in_channels)?;
        let (backend, mut image) = (&*self.backend, image.clone());
        for v in image.data_mut() {
            *v = (*v + 1.0) / 2.0;
        }
        let image = enter(backend, &image)?;
        leave(backend, &self.encoder.forward(backend, &image)?)
    }

    /// Decodes latents `[N, latent_channels, h, w]` to images `[N, out_channels, H, W]`, from -1 to 1 but for what the
    /// model overshoots; `H` and `W` are [`AutoencoderTiny::factor`] times `h` and `w`.
    ///
    /// # Errors
    /// [`Error::Shape`] for anything but such latents.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        /// Latents are squeezed into -3 to 3, outside which the model was not trained.
        const REACH: f64 = 3.0;
        expect_channels("latent", latent, self.config.latent_channels)?;
        let (backend, mut latent) = (&*self.backend, latent.clone());
        for v in latent.data_mut() {
            *v = ((f64::from(*v) / REACH).tanh() * REACH) as f32;
        }
        let latent = enter(backend, &latent)?;
        let mut image = leave(backend, &self.decoder.forward(backend, &latent)?)?;
        for v in image.data_mut() {
            *v = *v * 2.0 - 1.0;
        }
        Ok(image)
    }
}

/// Brings a host tensor into the network.
fn enter<B: Backend>(backend: &B, x: &Tensor) -> Result<B::Tensor> {
    let mut latent = backend.latent(x.shape())?;
    backend.write_latent(x, &mut latent)?;
    Enter { parts: &[(1.0, &latent)], copies: 1 }.run(backend)
}

/// Brings a tensor of the network back to the host.
fn leave<B: Backend>(backend: &B, x: &B::Tensor) -> Result<Tensor> {
    let leave = Leave { x, branch: 0, branches: 1 };
    let mut latent = backend.latent(leave.check()?)?;
    backend.leave(&leave, &mut latent)?;
    backend.read_latent(&latent)
}

fn expect_channels(tensor: &'static str, got: &Tensor, channels: usize) -> Result<()> {
    let got = got.shape();
    if got.len() == 4 && got[1] == channels && !got.contains(&0) {
        return Ok(());
    }
    let expected = format!("[N, {channels}, H, W], none of them 0");
    Err(Error::Shape { op: "autoencoder", tensor, expected, got })
}
