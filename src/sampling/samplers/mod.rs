//! The samplers: one file each, whose body reads like its paper. To add one: its file, and a line in the list below.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::program::{Builder, Program, Value};
use super::{ModelSampling, names};
use crate::error::{Error, Result};

mod ancestral;
mod churn;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod euler;
mod euler_ancestral;
mod heun;

pub use churn::Churn;
pub use dpmpp_2m::Dpmpp2m;
pub use dpmpp_2m_sde::{Dpmpp2mSde, Solver};
pub use euler::Euler;
pub use euler_ancestral::EulerAncestral;
pub use heun::Heun;

/// Every sampler, by the names of ComfyUI 0.3.64.
const SAMPLERS: &[(&str, FromOptions)] = &[
    ("euler", from_options::<Euler>),
    ("euler_ancestral", from_options::<EulerAncestral>),
    ("heun", from_options::<Heun>),
    ("dpmpp_2m", from_options::<Dpmpp2m>),
    ("dpmpp_2m_sde", from_options::<Dpmpp2mSde>),
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
    /// The order of convergence where no noise is added.
    pub order: u32,
    /// How often a step asks the model; the last step may ask less often.
    pub calls_per_step: u32,
    /// Where its noise comes from.
    pub noise: NoiseKind,
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

/// A sampler: a name and an algorithm.
#[derive(Debug, Clone)]
pub struct Sampler {
    name: &'static str,
    algorithm: Arc<dyn Algorithm>,
}

impl Sampler {
    /// A sampler of your own.
    pub fn new(name: &'static str, algorithm: impl Algorithm + 'static) -> Self {
        Sampler { name, algorithm: Arc::new(algorithm) }
    }

    /// Every known name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SAMPLERS.iter().map(|&(name, _)| name)
    }

    /// A known sampler under options, named as k-diffusion names them: `{"eta": 0.5, "solver_type": "heun"}`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for the sampler, [`Error::Value`] for an option that it does not take or a value of the
    /// wrong type.
    pub fn with_options(name: &str, options: &serde_json::Map<String, Json>) -> Result<Self> {
        let Some(&(name, from_options)) = SAMPLERS.iter().find(|&&(known, _)| known == name) else {
            return Err(Error::unknown_name("sampler", name, Self::names()));
        };
        Ok(Sampler { name, algorithm: from_options(name, options)? })
    }

    /// The name that users type.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What can be said of it beforehand.
    pub fn properties(&self) -> Properties {
        self.algorithm.properties()
    }

    /// The program of a run along `sigmas`, whose last level may be 0.
    ///
    /// # Errors
    /// [`Error::Value`] for fewer than two levels, levels that are not finite, not falling, or negative, and for options
    /// outside the sampler's range.
    pub fn program(&self, model: &ModelSampling, sigmas: &[f32]) -> Result<Program> {
        expect_levels(self.name, sigmas)?;
        let sigmas: Vec<f64> = sigmas.iter().copied().map(f64::from).collect();
        let mut builder = Builder::new();
        let result = self.algorithm.write(model, &sigmas, &mut builder)?;
        Ok(builder.finish(result))
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

type FromOptions = fn(&'static str, &serde_json::Map<String, Json>) -> Result<Arc<dyn Algorithm>>;

fn from_options<A: Algorithm + DeserializeOwned + 'static>(
    name: &'static str,
    options: &serde_json::Map<String, Json>,
) -> Result<Arc<dyn Algorithm>> {
    let algorithm: A =
        serde_json::from_value(Json::Object(options.clone())).map_err(|error| Error::Value {
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

/// The steps along `sigmas`: each level with the next.
fn steps(sigmas: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    sigmas.windows(2).map(|pair| (pair[0], pair[1]))
}
