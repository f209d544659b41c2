//! Where a run's noise comes from. A [`Profile`] names the system whose noise it is, and the version; [`Noise`] is what
//! one offers, and what callers implement to bring noise of their own.

mod a1111;
mod comfyui;
mod counter;
mod k_diffusion;
mod part;
mod per_item;
mod state;

pub use counter::CounterDraws;
pub use part::Part;
pub(super) use part::part_of;
pub(super) use per_item::per_item;
pub use state::NoiseState;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::samplers::NoiseKind;
use crate::error::{Error, Result};
use crate::rng::{BrownianNoise, Draw, Mt19937, Normals, Philox, Topology};

/// A source of unit Gaussian noise for steps between levels.
pub trait NoiseSource {
    /// Fills `out` with the noise of the step from level `sigma` to `sigma_next`.
    ///
    /// # Errors
    /// Whatever the source reports: levels outside its range.
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()>;

    /// Whether every value has an address, so that a device can make it alone: then [`NoiseSource::draws`] may be called
    /// in place of [`NoiseSource::draw`].
    fn has_addresses(&self) -> bool {
        false
    }

    /// The noise of the step as data, for `values` values in equal parts; goes on as [`NoiseSource::draw`] does.
    ///
    /// # Errors
    /// As above.
    fn draws(&mut self, sigma: f64, sigma_next: f64, values: usize) -> Result<Vec<Draw>> {
        let _ = (sigma, sigma_next, values);
        Ok(Vec::new())
    }

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

impl NoiseSource for Philox {
    fn draw(&mut self, _: f64, _: f64, out: &mut [f32]) -> Result<()> {
        self.randn(out)
    }

    fn has_addresses(&self) -> bool {
        true
    }

    fn draws(&mut self, _: f64, _: f64, values: usize) -> Result<Vec<Draw>> {
        Ok(vec![Draw::Normal(self.next_draw(values)?)])
    }

    fn state(&self) -> Option<NoiseState> {
        Some(NoiseState::Philox(self.clone()))
    }
}

impl NoiseSource for BrownianNoise {
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()> {
        self.noise(sigma as f32, sigma_next as f32, out)
    }

    fn has_addresses(&self) -> bool {
        self.paths().normals != Normals::TorchCpu
    }

    fn draws(&mut self, sigma: f64, sigma_next: f64, _: usize) -> Result<Vec<Draw>> {
        let paths = self.as_data(sigma as f32, sigma_next as f32)?.unwrap_or_default();
        Ok(paths.into_iter().map(Draw::Path).collect())
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
    /// [`Error::Value`] for indices that cannot be served, and for more or fewer of them than items.
    fn initial(&mut self, item: usize, batch_index: Option<&[usize]>, out: &mut [f32]) -> Result<()>;

    /// The source for the steps of a sampler of this kind along `sigmas` (falling), for a batch of `items` items of `item`
    /// values each.
    ///
    /// # Errors
    /// Whatever the source's construction reports.
    fn steps(
        &mut self,
        kind: NoiseKind,
        sigmas: &[f32],
        items: usize,
        item: usize,
    ) -> Result<Box<dyn NoiseSource>>;
}

/// A system whose noise is reproduced, by name and version. Written down as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Profile {
    /// `comfyui-0.3.64`: ComfyUI of that version on the CPU. Its ancestral samplers meet the initial noise again as their
    /// first.
    #[default]
    Comfyui0_3_64,
    /// `comfyui-post-11528`: ComfyUI since that pull request; the generator of step noise is seeded one higher.
    ComfyuiPost11528,
    /// `k-diffusion`: its own programs on the CPU, all noise from torch's global generator.
    KDiffusion,
    /// `a1111-cpu`, `a1111-nv`, `a1111-h100` and other GPUs; `a1111-nv+31337` with an ENSD of 31337. A seed and a
    /// generator for each item. Noise of GPUs was compared with what others printed, never with a device.
    A1111 {
        /// What draws it.
        source: A1111Source,
        /// The "eta noise seed delta": how much higher the generator of step noise is seeded; 0 for one that goes on.
        ensd: u64,
    },
    /// `counter`: no other system's. Each item's noise depends on the seed and its place in the batch alone, on no
    /// generator's history and no GPU.
    Counter,
}

/// What draws A1111's noise: its setting "random number generator source".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum A1111Source {
    /// torch on the CPU.
    Cpu,
    /// Its own imitation of torch on a GPU, whose values do not depend on which.
    Nv,
    /// torch on a GPU.
    Gpu(Topology),
}

/// The sources of A1111's noise, by the names that profiles have for them.
const A1111_SOURCES: [(&str, A1111Source); 7] = [
    ("cpu", A1111Source::Cpu),
    ("nv", A1111Source::Nv),
    ("h100", A1111Source::Gpu(Topology::H100)),
    ("a100", A1111Source::Gpu(Topology::A100)),
    ("rtx-4090", A1111Source::Gpu(Topology::RTX_4090)),
    ("rtx-3090", A1111Source::Gpu(Topology::RTX_3090)),
    ("t4", A1111Source::Gpu(Topology::T4)),
];

impl A1111Source {
    /// The GPU that draws, if it is one: NV draws as one would that runs all threads at once.
    fn topology(self) -> Option<Topology> {
        match self {
            A1111Source::Cpu => None,
            A1111Source::Nv => Some(Topology::UNBOUNDED),
            A1111Source::Gpu(topology) => Some(topology),
        }
    }

    fn normals(self) -> Normals {
        self.topology().map_or(Normals::TorchCpu, Normals::TorchCuda)
    }
}

impl Profile {
    /// The names that users type, but for an ENSD.
    pub fn names() -> impl Iterator<Item = String> {
        let systems =
            [Profile::Comfyui0_3_64, Profile::ComfyuiPost11528, Profile::KDiffusion, Profile::Counter];
        let a1111 = A1111_SOURCES.map(|(_, source)| Profile::A1111 { source, ensd: 0 });
        systems.into_iter().chain(a1111).map(|profile| profile.to_string())
    }

    /// The noise of one run.
    pub fn noise(self, seed: u64) -> Box<dyn Noise> {
        match self {
            Profile::Comfyui0_3_64 => Box::new(comfyui::Comfyui::new(seed, seed)),
            Profile::ComfyuiPost11528 => Box::new(comfyui::Comfyui::new(seed, seed.wrapping_add(1))),
            Profile::KDiffusion => Box::new(k_diffusion::KDiffusion::new(seed)),
            Profile::A1111 { source, ensd } => Box::new(a1111::A1111::new(source, seed, ensd)),
            Profile::Counter => Box::new(counter::Counter::new(seed)),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Profile::Comfyui0_3_64 => f.pad("comfyui-0.3.64"),
            Profile::ComfyuiPost11528 => f.pad("comfyui-post-11528"),
            Profile::KDiffusion => f.pad("k-diffusion"),
            Profile::Counter => f.pad("counter"),
            Profile::A1111 { source, ensd } => {
                let known = A1111_SOURCES.iter().find(|(_, known)| *known == source);
                match (known, source) {
                    (Some((name, _)), _) => write!(f, "a1111-{name}")?,
                    (None, A1111Source::Gpu(topology)) => write!(f, "a1111-{}-blocks", u64::from(topology))?,
                    (None, _) => write!(f, "a1111")?,
                }
                if ensd == 0 { Ok(()) } else { write!(f, "+{ensd}") }
            }
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (system, ensd) = match name.split_once('+') {
            Some((system, ensd)) => (system, ensd.parse().ok()),
            None => (name, Some(0)),
        };
        let a1111 = |source: &str| {
            let known = A1111_SOURCES.iter().find(|(known, _)| *known == source).map(|(_, source)| *source);
            let blocks = || source.strip_suffix("-blocks")?.parse::<u64>().ok()?.try_into().ok();
            known.or_else(|| blocks().map(A1111Source::Gpu))
        };
        let found = match (system, ensd) {
            ("comfyui-0.3.64", Some(0)) => Some(Profile::Comfyui0_3_64),
            ("comfyui-post-11528", Some(0)) => Some(Profile::ComfyuiPost11528),
            ("k-diffusion", Some(0)) => Some(Profile::KDiffusion),
            ("counter", Some(0)) => Some(Profile::Counter),
            (_, Some(ensd)) => {
                system.strip_prefix("a1111-").and_then(a1111).map(|source| Profile::A1111 { source, ensd })
            }
            (_, None) => None,
        };
        found.ok_or_else(|| {
            let known: Vec<String> = Profile::names().collect();
            Error::unknown_name("profile", name, known.iter().map(String::as_str))
        })
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.to_string()
    }
}

impl TryFrom<String> for Profile {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

/// Refuses a batch index, for systems that have no such thing.
fn refuse_batch_index(op: &'static str, batch_index: Option<&[usize]>) -> Result<()> {
    if batch_index.is_none() {
        return Ok(());
    }
    let expected = "absent: this system has none".into();
    Err(Error::Value { op, what: "batch_index", expected, got: "one".into() })
}

/// Refuses a batch index that does not have one index for each of `items`.
fn expect_index_each(op: &'static str, batch_index: Option<&[usize]>, items: usize) -> Result<()> {
    match batch_index {
        Some(index) if index.len() != items => {
            let (what, expected) = ("batch_index", format!("{items} indices"));
            Err(Error::Value { op, what, expected, got: index.len().to_string() })
        }
        _ => Ok(()),
    }
}

/// The Brownian path that samplers walk along `sigmas`: from the highest to the lowest above 0.
fn brownian_range(sigmas: &[f32]) -> (f32, f32) {
    let highest = sigmas.first().copied().unwrap_or(0.0);
    let lowest = sigmas.iter().copied().filter(|&sigma| sigma > 0.0).fold(highest, f32::min);
    (lowest, highest)
}
