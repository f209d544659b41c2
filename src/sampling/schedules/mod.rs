//! Noise schedules: which levels a run visits. One file each; to add one: its file, and a line in the list below.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::samplers::expect_levels;
use super::{ModelSampling, Prediction, names};
use crate::error::{Error, Result};

mod interpolation;

pub mod tools;

pub use align_your_steps::ModelType;
pub(super) use interpolation::linspace;

/// Declares the list: for a schedule without options a variant, its documentation, and the file that is also its name;
/// for one with options, that file's type.
macro_rules! schedules {
    (
        plain { $($(#[$doc:meta])* $plain:ident = $plain_file:ident,)* }
        with_options { $($with_options:ident = $file:ident,)* }
    ) => {
        $(mod $plain_file;)*
        $(mod $file; pub use $file::$with_options;)*

        /// A way to choose the levels of a run, under the name that users type, with its options if it has any.
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub enum Scheduler {
            $($(#[$doc])* $plain,)*
            $(#[doc = concat!("`", stringify!($file), "`: see [`", stringify!($with_options), "`].")]
            $with_options($with_options),)*
        }

        const SCHEDULERS: &[(&str, FromOptions)] = &[
            $((stringify!($plain_file), |name, options| {
                from_options(name, options).map(|NoOptions {}| Scheduler::$plain)
            }),)*
            $((stringify!($file), |name, options| {
                from_options(name, options).map(Scheduler::$with_options)
            }),)*
        ];

        impl Scheduler {
            /// The name that users type.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Scheduler::$plain => stringify!($plain_file),)*
                    $(Scheduler::$with_options(_) => stringify!($file),)*
                }
            }

            fn levels(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
                match self {
                    $(Scheduler::$plain => $plain_file::levels(model, steps),)*
                    $(Scheduler::$with_options(options) => options.levels(model, steps),)*
                }
            }
        }

        $(impl From<$with_options> for Scheduler {
            fn from(options: $with_options) -> Self {
                Scheduler::$with_options(options)
            }
        })*
    };
}

schedules! {
    plain {
        /// Rows of the model's table at even distances.
        Simple = simple,
        /// Timesteps at even distances, the last one left out for 0.
        SgmUniform = sgm_uniform,
        /// Every n-th row of the model's table from the bottom; may have more or fewer steps than were asked for.
        DdimUniform = ddim_uniform,
        /// Timesteps at even distances, with a last step from the lowest level to 0.
        Normal = normal,
        /// A linear start and a quadratic rest (Genmo's Mochi).
        LinearQuadratic = linear_quadratic,
        /// Even distances of the arc tangent: the optimum of a KL bound (Sabour et al. 2024, arXiv 2404.14507).
        KlOptimal = kl_optimal,
        /// [`Beta`] with alpha 0.5 and beta 0.7, as RES4LYF names it.
        Beta57 = beta57,
        /// Two arc tangents from level 1 by way of 0.5 to 0, whatever the model's highest level: made for flows
        /// (RES4LYF).
        BongTangent = bong_tangent,
    }
    with_options {
        Karras = karras,
        Exponential = exponential,
        Beta = beta,
        Polyexponential = polyexponential,
        Laplace = laplace,
        Vp = vp,
        SdTurbo = sd_turbo,
        AlignYourSteps = align_your_steps,
        Gits = gits,
    }
}

impl Scheduler {
    /// The largest number of steps that is answered.
    pub const MAX_STEPS: usize = 10_000;

    /// Every known name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SCHEDULERS.iter().map(|&(name, _)| name)
    }

    /// A known schedule under options, named as ComfyUI's nodes name them: `{"rho": 5.0}`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for the schedule, [`Error::Value`] for an option that it does not take or a value of the
    /// wrong type.
    pub fn with_options(name: &str, options: &Map<String, Json>) -> Result<Self> {
        let Some((name, from_options)) = SCHEDULERS.iter().find(|(known, _)| *known == name) else {
            return Err(Error::unknown_name("scheduler", name, Self::names()));
        };
        from_options(name, options)
    }

    /// The levels of a run of `steps` steps, falling. Usually `steps + 1` of them, the last one 0; where a schedule has
    /// another number or end, its documentation says so.
    ///
    /// # Errors
    /// [`Error::Value`] unless `steps` is within 1 to [`Scheduler::MAX_STEPS`], for options outside their range, where
    /// the model has fewer levels than the schedule has to keep apart, and for levels that it cannot visit, which for a
    /// flow are those above 1.
    pub fn sigmas(&self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        let op = self.name();
        expect_within(op, "steps", steps, 1..=Self::MAX_STEPS)?;
        let sigmas = self.levels(model, steps)?;
        expect_levels(op, &sigmas)?;
        if model.prediction() == Prediction::Flow && sigmas[0] > 1.0 {
            let (what, expected) = ("sigmas", "at most 1 for a flow".into());
            return Err(Error::Value { op, what, expected, got: sigmas[0].to_string() });
        }
        Ok(sigmas)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Any spelling that [`names::scheduler`] knows.
impl FromStr for Scheduler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        names::scheduler(name)
    }
}

type FromOptions = fn(&'static str, &Map<String, Json>) -> Result<Scheduler>;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

fn from_options<O: DeserializeOwned>(op: &'static str, options: &Map<String, Json>) -> Result<O> {
    serde_json::from_value(Json::Object(options.clone())).map_err(|error| Error::Value {
        op,
        what: "options",
        expected: "those its documentation lists".into(),
        got: error.to_string(),
    })
}

/// Refuses a number outside `range`, NaN too.
fn expect_within<T: PartialOrd + fmt::Display>(
    op: &'static str,
    what: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = format!("within {} to {}", range.start(), range.end());
    Err(Error::Value { op, what, expected, got: value.to_string() })
}

/// The lowest and the highest level that is visited: the model's where the options do not say.
fn bounds(
    op: &'static str,
    model: &ModelSampling,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
) -> Result<(f64, f64)> {
    let low = sigma_min.unwrap_or(model.sigma_min().into());
    let high = sigma_max.unwrap_or(model.sigma_max().into());
    if low > 0.0 && low <= high && high <= f32::MAX.into() {
        return Ok((low, high));
    }
    let expected = "positive and finite, the first at most the second".into();
    Err(Error::Value { op, what: "sigma_min and sigma_max", expected, got: format!("{low} and {high}") })
}
