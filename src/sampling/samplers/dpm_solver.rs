//! The steps of DPM-Solver (Lu et al. 2022, arXiv 2206.00927), which predict noise, on the clock `t = -log sigma`.

use super::ancestral::ancestral_step;
use super::phi::phi;
use super::{Builder, Stochastic, Value};
use crate::error::{Error, Result};
use crate::sampling::program::Expr;

/// The start of a step and the noise that the model sees in it.
pub(super) struct DpmStep {
    x: Value,
    t: f64,
    eps: Value,
}

impl DpmStep {
    pub(super) fn new(p: &mut Builder, x: Value, t: f64) -> Self {
        DpmStep { x, t, eps: eps(p, x, t) }
    }

    /// DPM-Solver-1, to `t_next`.
    pub(super) fn first(&self, p: &mut Builder, t_next: f64) -> Value {
        p.combine(self.x - self.eps * ((-t_next).exp() * (t_next - self.t).exp_m1()))
    }

    /// What the noise seen a share `r` of the way to `t_next` differs by, after a step of first order.
    pub(super) fn change(&self, p: &mut Builder, t_next: f64, r: f64) -> Value {
        let t = self.t + r * (t_next - self.t);
        let x = self.first(p, t);
        self.change_at(p, x, t)
    }

    /// The same two thirds of the way, given the change after one third.
    pub(super) fn second_change(&self, p: &mut Builder, t_next: f64, first_change: Value) -> Value {
        let t = self.t + 2.0 / 3.0 * (t_next - self.t);
        let euler = self.first(p, t);
        let x = p.combine(self.bend(euler, t, 0.5, first_change));
        self.change_at(p, x, t)
    }

    fn change_at(&self, p: &mut Builder, x: Value, t: f64) -> Value {
        let eps_t = eps(p, x, t);
        p.combine(eps_t - self.eps)
    }

    /// DPM-Solver-2, from what [`DpmStep::first`] gives and the change a share `r` of the way.
    pub(super) fn second(&self, first: Value, t_next: f64, r: f64, change: Value) -> Expr {
        first - change * ((-t_next).exp() * (t_next - self.t).exp_m1() / (2.0 * r))
    }

    /// DPM-Solver-3, from what [`DpmStep::first`] gives and the change two thirds of the way.
    pub(super) fn third(&self, first: Value, t_next: f64, change: Value) -> Expr {
        self.bend(first, t_next, 2.0 / 3.0, change)
    }

    /// The step of first order, as it becomes if the noise changes evenly, given the change a share `r` of the way.
    fn bend(&self, first: Value, t_next: f64, r: f64, change: Value) -> Expr {
        let h = t_next - self.t;
        first - change * ((-t_next).exp() * h * phi(2, h) / r)
    }
}

fn eps(p: &mut Builder, x: Value, t: f64) -> Value {
    let sigma = (-t).exp();
    let denoised = p.denoise(x, sigma);
    p.combine((x - denoised) / sigma)
}

/// When a run along `sigmas` starts and ends: it stops at the last level above 0.
pub(super) fn times(op: &'static str, sigmas: &[f64]) -> Result<(f64, f64)> {
    match sigmas {
        [highest, .., lowest] if *lowest > 0.0 => Ok((-highest.ln(), -lowest.ln())),
        [highest, .., lowest, _] => Ok((-highest.ln(), -lowest.ln())),
        _ => {
            let (what, expected) = ("sigmas", "at least two above 0".into());
            Err(Error::Value { op, what, expected, got: format!("{sigmas:?}") })
        }
    }
}

/// Splits a step into one to a later time, `t_end` at the latest, and the noise that leads back.
pub(super) fn ancestral(options: &Stochastic, t: f64, t_next: f64, t_end: f64) -> (f64, f64) {
    let (sigma, sigma_next) = ((-t).exp(), (-t_next).exp());
    let (down, _) = ancestral_step(sigma, sigma_next, options.eta);
    if down == sigma_next {
        return (t_next, 0.0);
    }
    let t_down = t_end.min(-down.ln());
    let up = (sigma_next.powi(2) - (-2.0 * t_down).exp()).max(0.0).sqrt();
    (t_down, up * options.s_noise)
}
