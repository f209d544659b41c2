//! Where a run's noise comes from. A [`Profile`] names the system whose noise it is, and the version; [`Noise`] is what
//! one offers, and what callers implement to bring noise of their own.

mod comfyui;
mod part;
mod per_item;
mod state;

pub use part::Part;
pub(super) use part::part_of;
pub(super) use per_item::per_item;
pub use state::NoiseState;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::samplers::NoiseKind;
use crate::error::{Error, Result};
use crate::rng::{BrownianNoise, Mt19937};

/// A source of unit Gaussian noise for steps between levels.
pub trait NoiseSource {
    /// Fills `out` with the noise of the step from level `sigma` to `sigma_next`.
    ///
    /// # Errors
    /// Whatever the source reports: levels outside its range.
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()>;

    /// Where it stands, so that another can go on from there; `None` for one that cannot tell. A run whose source cannot
    /// has no snapshot.
    fn state(&self) -> Option<NoiseState> {
        None
    }
}

impl NoiseSource for Mt19937 {
    fn draw(&mut self, _: f64, _: f64, out: &mut [f32]) -> Result<()> {
        self.randn(out);
        Ok(())
    }

    fn state(&self) -> Option<NoiseState> {
        Some(NoiseState::Mt19937(Box::new(self.clone())))
    }
}

impl NoiseSource for BrownianNoise {
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()> {
        self.noise(sigma as f32, sigma_next as f32, out)
    }

    fn state(&self) -> Option<NoiseState> {
        Some(NoiseState::Brownian(self.paths().clone()))
    }
}

/// All the noise of one run: first what it starts from, then what its steps add.
pub trait Noise {
    /// Fills `out` with unit Gaussian noise for a batch of items of `item` values each. `batch_index` chooses, for each
    /// item, which draw it gets; without one, item k gets draw k. Called once, before [`Noise::steps`], or not at all.
    ///
    /// # Errors
    /// [`Error::Value`] for indices that cannot be served.
    fn initial(&mut self, item: usize, batch_index: Option<&[usize]>, out: &mut [f32]) -> Result<()>;

    /// The source for the steps of a sampler of this kind along `sigmas` (falling), for `elements` values a draw.
    ///
    /// # Errors
    /// Whatever the source's construction reports.
    fn steps(&mut self, kind: NoiseKind, sigmas: &[f32], elements: usize) -> Result<Box<dyn NoiseSource>>;
}

/// A system whose noise is reproduced, by name and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Profile {
    /// ComfyUI 0.3.64 on the CPU. Its ancestral samplers meet the initial noise again as their first.
    #[default]
    #[serde(rename = "comfyui-0.3.64")]
    Comfyui0_3_64,
    /// ComfyUI since its pull request 11528: the generator of step noise is seeded one higher.
    #[serde(rename = "comfyui-post-11528")]
    ComfyuiPost11528,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 2] = [Profile::Comfyui0_3_64, Profile::ComfyuiPost11528];

    /// The name that users type and records hold.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Comfyui0_3_64 => "comfyui-0.3.64",
            Profile::ComfyuiPost11528 => "comfyui-post-11528",
        }
    }

    /// The noise of one run.
    pub fn noise(self, seed: u64) -> Box<dyn Noise> {
        match self {
            Profile::Comfyui0_3_64 => Box::new(comfyui::Comfyui::new(seed, seed)),
            Profile::ComfyuiPost11528 => Box::new(comfyui::Comfyui::new(seed, seed.wrapping_add(1))),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Profile::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| Error::unknown_name("profile", name, Profile::ALL.map(Profile::name)))
    }
}

/// The Brownian path that samplers walk along `sigmas`: from the highest to the lowest above 0.
fn brownian_range(sigmas: &[f32]) -> (f32, f32) {
    let highest = sigmas.first().copied().unwrap_or(0.0);
    let lowest = sigmas.iter().copied().filter(|&sigma| sigma > 0.0).fold(highest, f32::min);
    (lowest, highest)
}
