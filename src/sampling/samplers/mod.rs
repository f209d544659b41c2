//! The samplers: one file each, whose body reads like its paper. To add one: its file, and a line in the list below.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::named::Named;
use super::program::{Builder, Program, Source, Value};
use super::{ModelSampling, names};
use crate::error::{Error, Result};

mod ancestral;
mod cfgpp_ud10_ab;
mod churn;
mod ddim;
mod ddpm;
mod deis;
mod dpm_2;
mod dpm_2_ancestral;
mod dpm_adaptive;
mod dpm_fast;
mod dpm_solver;
mod dpmpp_2m;
mod dpmpp_2m_cfg_pp;
mod dpmpp_2m_sde;
mod dpmpp_2s_ancestral;
mod dpmpp_2s_ancestral_cfg_pp;
mod dpmpp_3m_sde;
mod dpmpp_sde;
mod er_sde;
mod euler;
mod euler_ancestral;
mod euler_ancestral_cfg_pp;
mod gradient_estimation;
mod heun;
mod heunpp2;
mod ipndm;
mod ipndm_v;
mod lagrange;
mod lcm;
mod lms;
mod multistep;
mod phi;
mod res_multistep;
mod sa_solver;
mod sde;
mod seeds_2;
mod seeds_3;
mod snr;
mod uni_pc;

pub use ancestral::Stochastic;
pub use cfgpp_ud10_ab::CfgppUd10Ab;
pub use churn::Churn;
pub use ddim::Ddim;
pub use ddpm::Ddpm;
pub use deis::{Deis, DeisMode};
pub use dpm_2::Dpm2;
pub use dpm_2_ancestral::Dpm2Ancestral;
pub use dpm_adaptive::DpmAdaptive;
pub use dpm_fast::DpmFast;
pub use dpmpp_2m::Dpmpp2m;
pub use dpmpp_2m_cfg_pp::Dpmpp2mCfgPp;
pub use dpmpp_2m_sde::{Dpmpp2mSde, Solver};
pub use dpmpp_2s_ancestral::Dpmpp2sAncestral;
pub use dpmpp_2s_ancestral_cfg_pp::Dpmpp2sAncestralCfgPp;
pub use dpmpp_3m_sde::Dpmpp3mSde;
pub use dpmpp_sde::DpmppSde;
pub use er_sde::ErSde;
pub use euler::Euler;
pub use euler_ancestral::EulerAncestral;
pub use euler_ancestral_cfg_pp::EulerAncestralCfgPp;
pub use gradient_estimation::GradientEstimation;
pub use heun::Heun;
pub use heunpp2::Heunpp2;
pub use ipndm::Ipndm;
pub use ipndm_v::IpndmV;
pub use lcm::Lcm;
pub use lms::Lms;
pub use res_multistep::ResMultistep;
pub use sa_solver::SaSolver;
pub use seeds_2::{Seeds2, SeedsSolver};
pub use seeds_3::Seeds3;
pub use uni_pc::{UniPc, Variant};

/// Every sampler, by the names of ComfyUI 0.3.64 and the three that came later: the algorithm, and which of its options
/// the name sets. What a caller sets comes before that. The `_gpu` names differ from the others in where the reference
/// draws its noise: on the CPU, not at all.
const SAMPLERS: &[(&str, FromOptions, &str)] = &[
    ("euler", from_options::<Euler>, "{}"),
    ("euler_cfg_pp", from_options::<EulerAncestralCfgPp>, r#"{"eta": 0}"#),
    ("euler_ancestral", from_options::<EulerAncestral>, "{}"),
    ("euler_ancestral_cfg_pp", from_options::<EulerAncestralCfgPp>, "{}"),
    ("heun", from_options::<Heun>, "{}"),
    ("heunpp2", from_options::<Heunpp2>, "{}"),
    ("exp_heun_2_x0", from_options::<Seeds2>, r#"{"eta": 0, "r": 1, "solver_type": "phi_2"}"#),
    ("exp_heun_2_x0_sde", from_options::<Seeds2>, r#"{"r": 1, "solver_type": "phi_2"}"#),
    ("dpm_2", from_options::<Dpm2>, "{}"),
    ("dpm_2_ancestral", from_options::<Dpm2Ancestral>, "{}"),
    ("lms", from_options::<Lms>, "{}"),
    ("dpm_fast", from_options::<DpmFast>, "{}"),
    ("dpm_adaptive", from_options::<DpmAdaptive>, "{}"),
    ("dpmpp_2s_ancestral", from_options::<Dpmpp2sAncestral>, "{}"),
    ("dpmpp_2s_ancestral_cfg_pp", from_options::<Dpmpp2sAncestralCfgPp>, "{}"),
    ("dpmpp_sde", from_options::<DpmppSde>, "{}"),
    ("dpmpp_sde_gpu", from_options::<DpmppSde>, "{}"),
    ("dpmpp_2m", from_options::<Dpmpp2m>, "{}"),
    ("dpmpp_2m_cfg_pp", from_options::<Dpmpp2mCfgPp>, "{}"),
    ("dpmpp_2m_sde", from_options::<Dpmpp2mSde>, "{}"),
    ("dpmpp_2m_sde_gpu", from_options::<Dpmpp2mSde>, "{}"),
    ("dpmpp_2m_sde_heun", from_options::<Dpmpp2mSde>, r#"{"solver_type": "heun"}"#),
    ("dpmpp_2m_sde_heun_gpu", from_options::<Dpmpp2mSde>, r#"{"solver_type": "heun"}"#),
    ("dpmpp_3m_sde", from_options::<Dpmpp3mSde>, "{}"),
    ("dpmpp_3m_sde_gpu", from_options::<Dpmpp3mSde>, "{}"),
    ("ddpm", from_options::<Ddpm>, "{}"),
    ("lcm", from_options::<Lcm>, "{}"),
    ("ipndm", from_options::<Ipndm>, "{}"),
    ("ipndm_v", from_options::<IpndmV>, "{}"),
    ("deis", from_options::<Deis>, "{}"),
    ("cfgpp_ud10_ab", from_options::<CfgppUd10Ab>, "{}"),
    ("res_multistep", from_options::<ResMultistep>, "{}"),
    ("res_multistep_cfg_pp", from_options::<ResMultistep>, r#"{"cfg_pp": true}"#),
    ("res_multistep_ancestral", from_options::<ResMultistep>, r#"{"eta": 1}"#),
    ("res_multistep_ancestral_cfg_pp", from_options::<ResMultistep>, r#"{"eta": 1, "cfg_pp": true}"#),
    ("gradient_estimation", from_options::<GradientEstimation>, "{}"),
    ("gradient_estimation_cfg_pp", from_options::<GradientEstimation>, r#"{"cfg_pp": true}"#),
    ("er_sde", from_options::<ErSde>, "{}"),
    ("seeds_2", from_options::<Seeds2>, "{}"),
    ("seeds_3", from_options::<Seeds3>, "{}"),
    ("sa_solver", from_options::<SaSolver>, "{}"),
    ("sa_solver_pece", from_options::<SaSolver>, r#"{"use_pece": true}"#),
    ("ddim", from_options::<Ddim>, "{}"),
    ("uni_pc", from_options::<UniPc>, "{}"),
    ("uni_pc_bh2", from_options::<UniPc>, r#"{"variant": "bh2"}"#),
];

/// Where a sampler's noise comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoiseKind {
    /// It draws none.
    None,
    /// Independent Gaussians from a generator of its own, seeded with the run's seed.
    Gaussian,
    /// Independent Gaussians that go on where the run's initial noise ended.
    Continued,
    /// Increments of one Brownian path over the levels: the same path however the levels are cut.
    Brownian,
}

/// What can be said of a sampler without running it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties {
    /// The order of convergence where no noise is added, as measured; that of the spread, where it always is. 0 if more
    /// steps do not lead to the exact solution.
    pub order: u32,
    /// How often a step asks the model; the last steps may ask less often, and an adaptive one may take several tries.
    pub calls_per_step: u32,
    /// Where its noise comes from.
    pub noise: NoiseKind,
    /// Whether it is right for a rectified flow. What is not takes the flow's levels for a diffusion's, as ComfyUI does.
    pub flow: bool,
    /// The fewest steps that it makes a picture in.
    pub fewest_steps: usize,
    /// Whether it is given a schedule of one step more with the last level above 0 left out.
    pub drops_penultimate: bool,
    /// Whether a run under a mask shows the model the part that is kept under noise of its own, of the next seed, rather
    /// than under the noise that the run starts from.
    pub fresh_mask_noise: bool,
}

impl Properties {
    /// Those of a sampler with nothing unusual about it.
    pub const fn new(order: u32, calls_per_step: u32, noise: NoiseKind) -> Self {
        Properties {
            order,
            calls_per_step,
            noise,
            flow: true,
            fewest_steps: 1,
            drops_penultimate: false,
            fresh_mask_noise: false,
        }
    }
}

/// The algorithm of a sampler with its options. Implement it to bring a sampler of your own.
pub trait Algorithm: fmt::Debug + Send + Sync {
    /// What can be said of it beforehand.
    fn properties(&self) -> Properties;

    /// Writes the steps along `sigmas` (falling, at least two) and returns what the run ends with.
    ///
    /// # Errors
    /// [`Error::Value`] for options or levels outside the algorithm's range.
    fn write(&self, model: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value>;
}

/// A sampler: a name and an algorithm. Written down as `{"name": .., "options": {..}}`, which tells nothing of an
/// algorithm of your own.
#[derive(Debug, Clone, Serialize)]
#[serde(into = "Named")]
pub struct Sampler {
    name: &'static str,
    options: Options,
    algorithm: Arc<dyn Algorithm>,
    known: bool,
}

impl Sampler {
    /// A sampler of your own.
    pub fn new(name: &'static str, algorithm: impl Algorithm + 'static) -> Self {
        Sampler { name, options: Options::new(), algorithm: Arc::new(algorithm), known: false }
    }

    /// Every known name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SAMPLERS.iter().map(|&(name, ..)| name)
    }

    /// A known sampler under options, named as k-diffusion names them: `{"eta": 0.5, "solver_type": "heun"}`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for the sampler, [`Error::Value`] for an option that it does not take or a value of the
    /// wrong type.
    pub fn with_options(name: &str, options: &Options) -> Result<Self> {
        let Some(&(name, from_options, preset)) = SAMPLERS.iter().find(|&&(known, ..)| known == name) else {
            return Err(Error::unknown_name("sampler", name, Self::names()));
        };
        let algorithm = from_options(name, preset, options)?;
        Ok(Sampler { name, options: options.clone(), algorithm, known: true })
    }

    /// The name that users type.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Refuses an algorithm of the caller's own: its name and options are not all there is to know.
    pub(super) fn expect_known(&self, op: &'static str) -> Result<()> {
        if self.known {
            return Ok(());
        }
        let (what, expected) = ("sampler", "one that the crate knows by name".into());
        Err(Error::Value { op, what, expected, got: self.to_string() })
    }

    /// What can be said of it beforehand.
    pub fn properties(&self) -> Properties {
        self.algorithm.properties()
    }

    /// Refuses a run of fewer steps than it makes a picture in.
    pub(super) fn expect_steps(&self, steps: usize) -> Result<()> {
        let fewest = self.properties().fewest_steps;
        if steps >= fewest {
            return Ok(());
        }
        let (op, what, expected) = (self.name, "steps", format!("at least {fewest}"));
        Err(Error::Value { op, what, expected, got: steps.to_string() })
    }

    /// Leaves out the last level but one, if the sampler does without it and there is one between the ends.
    pub(super) fn drop_penultimate(&self, sigmas: &mut Vec<f32>) {
        if self.properties().drops_penultimate && sigmas.len() > 2 {
            sigmas.remove(sigmas.len() - 2);
        }
    }

    /// The program of a run along `sigmas`, whose last level may be 0.
    ///
    /// # Errors
    /// [`Error::Value`] for fewer than two levels, levels that are not finite, not falling, or negative, and for options
    /// outside the sampler's range.
    pub fn program(&self, model: &ModelSampling, sigmas: &[f32]) -> Result<Program> {
        expect_levels(self.name, sigmas)?;
        let levels: Vec<f64> = sigmas.iter().copied().map(f64::from).collect();
        let mut builder = Builder::new();
        let result = self.algorithm.write(model, &levels, &mut builder)?;
        let source = Source { sampler: self.clone(), model: model.clone(), sigmas: sigmas.to_vec() };
        Ok(builder.program(result, source))
    }
}

/// By name and options; with an algorithm of your own, equal to its clones alone.
impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        let is_known = self.known && other.known;
        let same = is_known || Arc::ptr_eq(&self.algorithm, &other.algorithm);
        same && self.name == other.name && self.options == other.options
    }
}

impl<'de> Deserialize<'de> for Sampler {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let Named { name, options } = Named::deserialize(deserializer)?;
        Sampler::with_options(&name, &options).map_err(serde::de::Error::custom)
    }
}

impl From<Sampler> for Named {
    fn from(sampler: Sampler) -> Self {
        Named { name: sampler.name.to_owned(), options: sampler.options }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Any spelling that [`names::sampler`] knows, but for those that say a schedule too.
impl FromStr for Sampler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match names::sampler(name)? {
            (name, None) => Sampler::with_options(name, &serde_json::Map::new()),
            (sampler, Some(scheduler)) => {
                let expected = format!("a sampler alone: {sampler}, and {scheduler} for the schedule");
                Err(Error::Value { op: "sampler", what: "name", expected, got: name.to_owned() })
            }
        }
    }
}

type Options = serde_json::Map<String, Json>;
type FromOptions = fn(&'static str, &str, &Options) -> Result<Arc<dyn Algorithm>>;

fn from_options<A: Algorithm + DeserializeOwned + 'static>(
    name: &'static str,
    preset: &str,
    options: &Options,
) -> Result<Arc<dyn Algorithm>> {
    let parse = || {
        let mut all: Options = serde_json::from_str(preset)?;
        all.extend(options.clone());
        serde_json::from_value::<A>(Json::Object(all))
    };
    let algorithm = parse().map_err(|error| Error::Value {
        op: name,
        what: "options",
        expected: "those its documentation lists".into(),
        got: error.to_string(),
    })?;
    Ok(Arc::new(algorithm))
}

/// Refuses levels that no run can visit: fewer than two, not finite, negative, or not falling.
pub(super) fn expect_levels(op: &'static str, sigmas: &[f32]) -> Result<()> {
    let refuse = |expected: &str, got: String| {
        Err(Error::Value { op, what: "sigmas", expected: expected.to_owned(), got })
    };
    if sigmas.len() < 2 {
        return refuse("at least 2", sigmas.len().to_string());
    }
    if let Some(sigma) = sigmas.iter().find(|sigma| !(sigma.is_finite() && **sigma >= 0.0)) {
        return refuse("finite and not negative", sigma.to_string());
    }
    match sigmas.windows(2).find(|pair| pair[0] <= pair[1]) {
        Some(pair) => refuse("falling", format!("{} after {}", pair[1], pair[0])),
        None => Ok(()),
    }
}

/// Refuses an option that is not a finite number of at least 0.
fn expect_not_negative(op: &'static str, what: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::Value { op, what, expected: "finite and not negative".into(), got: value.to_string() })
}

/// Refuses a share that is not within (0, 1].
fn expect_share(op: &'static str, what: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(Error::Value { op, what, expected: "within (0, 1]".into(), got: value.to_string() })
}

/// Refuses an order outside of `range`.
fn expect_order(
    op: &'static str,
    what: &'static str,
    value: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(Error::Value { op, what, expected, got: value.to_string() })
}

/// The steps along `sigmas`: each level with the next.
fn steps(sigmas: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    sigmas.windows(2).map(|pair| (pair[0], pair[1]))
}
