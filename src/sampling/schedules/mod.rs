//! Noise schedules: which levels a run visits. One file each, under the names of ComfyUI 0.3.64.

use std::fmt;
use std::str::FromStr;

use super::ModelSampling;
use crate::error::{Error, Result};

mod linspace;

/// Declares the list: a variant, its documentation, and the file that is also its name.
macro_rules! schedules {
    ($($(#[$doc:meta])* $variant:ident = $file:ident,)*) => {
        $(mod $file;)*

        /// A way to choose the levels of a run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Scheduler {
            $($(#[$doc])* $variant,)*
        }

        impl Scheduler {
            /// Every schedule, in ComfyUI's order.
            pub const ALL: &[Scheduler] = &[$(Scheduler::$variant,)*];

            /// The name that users type.
            pub fn name(self) -> &'static str {
                match self {
                    $(Scheduler::$variant => stringify!($file),)*
                }
            }

            fn levels(self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
                match self {
                    $(Scheduler::$variant => $file::levels(model, steps),)*
                }
            }
        }
    };
}

schedules! {
    /// Rows of the model's table at even distances.
    Simple = simple,
    /// Timesteps at even distances, the last one left out for 0.
    SgmUniform = sgm_uniform,
    /// Karras et al. 2022 (arXiv 2206.00364), equation 5 with rho = 7.
    Karras = karras,
    /// Even distances of the logarithm.
    Exponential = exponential,
    /// Every n-th row of the model's table from the bottom; may have more or fewer steps than were asked for.
    DdimUniform = ddim_uniform,
    /// Timesteps at the quantiles of a beta distribution, alpha = beta = 0.6 (Lee et al. 2024, arXiv 2407.12173).
    Beta = beta,
    /// Timesteps at even distances, with a last step from the lowest level to 0.
    Normal = normal,
    /// A linear start and a quadratic rest (Genmo's Mochi).
    LinearQuadratic = linear_quadratic,
    /// Even distances of the arc tangent: the optimum of a KL bound (Sabour et al. 2024, arXiv 2404.14507).
    KlOptimal = kl_optimal,
}

impl Scheduler {
    /// The largest number of steps that is answered.
    pub const MAX_STEPS: usize = 10_000;

    /// The levels of a run of `steps` steps: falling, the last one 0. Usually `steps + 1` of them.
    ///
    /// # Errors
    /// [`Error::Value`] unless `steps` is within 1 to [`Scheduler::MAX_STEPS`], or where the model's table has fewer levels than the schedule has to keep apart.
    pub fn sigmas(self, model: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        if !(1..=Self::MAX_STEPS).contains(&steps) {
            return Err(Error::Value {
                op: self.name(),
                what: "steps",
                expected: format!("within 1 to {}", Self::MAX_STEPS),
                got: steps.to_string(),
            });
        }
        self.levels(model, steps)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheduler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Scheduler::ALL.iter().find(|scheduler| scheduler.name() == name);
        found.copied().ok_or_else(|| {
            Error::unknown_name("scheduler", name, Scheduler::ALL.iter().map(|scheduler| scheduler.name()))
        })
    }
}
