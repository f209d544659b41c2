use serde::Deserialize;

use super::dpm_solver::{DpmStep, ancestral, times};
use super::{
    Algorithm, Builder, NoiseKind, Properties, Stochastic, Value, expect_not_negative, expect_order,
};
use crate::error::{Error, Result};
use crate::sampling::ModelSampling;
use crate::sampling::program::Continuation;

const OP: &str = "dpm_adaptive";

/// The adaptive DPM-Solver-12 and -23 of Lu et al. 2022 (arXiv 2206.00927) with k-diffusion's step size
/// controller. Of the schedule only its ends count; the last level is the lowest above 0. All of a batch takes the same
/// steps, so that each picture depends a little on the others.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmAdaptive {
    /// The order of the steps, 2 or 3; their error is judged by those of one order less.
    pub order: usize,
    /// The relative tolerance.
    pub rtol: f64,
    /// The absolute tolerance.
    pub atol: f64,
    /// The first step that is tried, in log sigma.
    pub h_init: f64,
    /// The controller's proportional coefficient.
    pub pcoeff: f64,
    /// The controller's integral coefficient.
    pub icoeff: f64,
    /// The controller's derivative coefficient.
    pub dcoeff: f64,
    /// A step is kept if the next one may be at least this many times as long.
    pub accept_safety: f64,
    /// The share of an ancestral step's noise.
    pub eta: f64,
    /// The noise's standard deviation.
    pub s_noise: f64,
}

impl Default for DpmAdaptive {
    fn default() -> Self {
        DpmAdaptive {
            order: 3,
            rtol: 0.05,
            atol: 0.0078,
            h_init: 0.05,
            pcoeff: 0.0,
            icoeff: 1.0,
            dcoeff: 0.0,
            accept_safety: 0.81,
            eta: 0.0,
            s_noise: 1.0,
        }
    }
}

impl Algorithm for DpmAdaptive {
    fn properties(&self) -> Properties {
        let noise = if self.eta > 0.0 { NoiseKind::Gaussian } else { NoiseKind::None };
        let order = self.order as u32;
        Properties { fewest_steps: 2, flow: self.eta == 0.0, ..Properties::new(order, order, noise) }
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        self.check()?;
        let (t, end) = times(OP, sigmas)?;
        let controller = Controller { h: self.h_init, past: None };
        let state = State { x: p.start(), previous: p.start(), t, tried: 0, controller };
        state.attempt(self, end, p)
    }
}

impl DpmAdaptive {
    fn check(&self) -> Result<()> {
        self.stochastic().check(OP)?;
        expect_order(OP, "order", self.order, 2..=3)?;
        expect_not_negative(OP, "rtol", self.rtol)?;
        expect_not_negative(OP, "accept_safety", self.accept_safety)?;
        for (what, value) in [("atol", self.atol), ("h_init", self.h_init)] {
            if !(value > 0.0 && value.is_finite()) {
                let expected = "positive and finite".into();
                return Err(Error::Value { op: OP, what, expected, got: value.to_string() });
            }
        }
        let coefficients = [self.pcoeff, self.icoeff, self.dcoeff];
        if !coefficients.iter().all(|coefficient| coefficient.is_finite()) {
            let (what, expected) = ("pcoeff, icoeff and dcoeff", "finite".into());
            return Err(Error::Value { op: OP, what, expected, got: format!("{coefficients:?}") });
        }
        Ok(())
    }

    fn stochastic(&self) -> Stochastic {
        Stochastic { eta: self.eta, s_noise: self.s_noise }
    }

    /// Whether a step of this error is kept, and what to try next.
    fn judge(&self, Controller { h, past }: Controller, error: f64) -> (bool, Controller) {
        const TINY: f64 = 1e-8;
        let order = if self.eta > 0.0 { 1.5 } else { self.order as f64 };
        let now = 1.0 / (error + TINY);
        let [last, before_last] = past.unwrap_or([now, now]);
        let factor = now.powf((self.pcoeff + self.icoeff + self.dcoeff) / order)
            * last.powf(-(self.pcoeff + 2.0 * self.dcoeff) / order)
            * before_last.powf(self.dcoeff / order);
        let factor = 1.0 + (factor - 1.0).atan();
        let kept = factor >= self.accept_safety;
        let past = if kept { [now, last] } else { [last, before_last] };
        (kept, Controller { h: h * factor, past: Some(past) })
    }
}

/// What a PID controller of the step size goes by.
#[derive(Debug, Clone, Copy)]
struct Controller {
    /// The step to try next.
    h: f64,
    /// One over the errors of the last two steps that were kept.
    past: Option<[f64; 2]>,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy)]
struct State {
    x: Value,
    /// The estimate of lower order that the last step gave.
    previous: Value,
    t: f64,
    tried: usize,
    controller: Controller,
}

/// A step that was tried and waits to be judged.
#[derive(Debug)]
struct Attempt {
    options: DpmAdaptive,
    from: State,
    t_next: f64,
    end: f64,
    low: Value,
    high: Value,
    /// The noise that a step under `eta` ends with.
    up: f64,
}

impl State {
    /// Tries a step, unless the end is reached.
    fn attempt(self, options: &DpmAdaptive, end: f64, p: &mut Builder) -> Result<Value> {
        const AT_THE_END: f64 = 1e-5;
        const MOST: usize = 1000;
        let State { x, previous, t, tried, controller } = self;
        if t >= end - AT_THE_END {
            return Ok(x);
        }
        if tried == MOST {
            let (what, expected) = ("steps tried", "enough for the tolerances".into());
            return Err(Error::Value {
                op: OP,
                what,
                expected,
                got: format!("{MOST}, to sigma {}", (-t).exp()),
            });
        }
        let t_next = end.min(t + controller.h);
        let (t_down, up) = ancestral(&options.stochastic(), t, t_next, end);
        p.step((-t).exp());
        let begun = DpmStep::new(p, x, t);
        // Both estimates are made from one, whose rounding is then no part of their distance.
        let euler = begun.first(p, t_down);
        let (low, high) = if options.order == 2 {
            let change = begun.change(p, t_down, 0.5);
            (euler, p.combine(begun.second(euler, t_down, 0.5, change)))
        } else {
            let change_1 = begun.change(p, t_down, 1.0 / 3.0);
            let change_2 = begun.second_change(p, t_down, change_1);
            let low = p.combine(begun.second(euler, t_down, 1.0 / 3.0, change_1));
            (low, p.combine(begun.third(euler, t_down, change_2)))
        };
        p.measure(low, high, previous, options.rtol, options.atol);
        let from = State { tried: tried + 1, ..self };
        let attempt = Attempt { options: options.clone(), from, t_next, end, low, high, up };
        p.go_on(&[x, previous, low, high], attempt);
        Ok(x)
    }
}

impl Continuation for Attempt {
    fn write(&self, error: f64, p: &mut Builder) -> Result<Value> {
        if !error.is_finite() {
            return Err(Error::NotFinite { op: OP, what: "the error", index: 0, got: error.to_string() });
        }
        let Attempt { ref options, from, t_next, end, low, high, up } = *self;
        let (kept, controller) = options.judge(from.controller, error);
        let mut state = State { controller, ..from };
        if kept {
            state = State { x: high, previous: low, t: t_next, ..state };
            if up > 0.0 {
                let (sigma, sigma_next) = ((-from.t).exp(), (-t_next).exp());
                p.step(sigma_next);
                let noise = p.noise(sigma, sigma_next);
                state.x = p.combine(high + noise * up);
            }
        }
        state.attempt(options, end, p)
    }
}
