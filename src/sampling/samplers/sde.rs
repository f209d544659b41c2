use super::snr::alpha;
use crate::sampling::ModelSampling;
use crate::sampling::program::{Builder, Value};

/// One step of the diffusion SDE with data prediction (Lu et al. 2022, arXiv 2211.01095), whose noise is
/// `eta` times that of the reverse process:
/// `x = decay x + alpha h_eta (phi_1(-h_eta) D + ...) + deviation noise`.
#[derive(Debug, Clone, Copy)]
pub(super) struct SdeStep {
    /// The step in half the logarithm of the signal-to-noise ratio.
    pub h: f64,
    /// The step that the exponential integrator sees, the faster the more noise is replaced.
    pub h_eta: f64,
    /// The latent's share at the goal.
    pub alpha: f64,
    /// What is left of the noisy latent.
    pub decay: f64,
    /// The standard deviation of the noise.
    pub deviation: f64,
}

impl SdeStep {
    pub(super) fn new(model: &ModelSampling, sigma: f64, sigma_next: f64, eta: f64) -> Self {
        let h = model.half_log_snr(sigma_next) - model.half_log_snr(sigma);
        SdeStep {
            h,
            h_eta: h * (1.0 + eta),
            alpha: alpha(model, sigma_next),
            decay: sigma_next / sigma * (-h * eta).exp(),
            deviation: sigma_next * (-(-2.0 * h * eta).exp_m1()).sqrt(),
        }
    }
}

/// The increments of a noise that decays at `rate` per unit of the clock: what a step of several stages has drawn so far.
#[derive(Debug)]
pub(super) struct Path {
    rate: f64,
    drawn: Vec<(f64, Value)>,
}

impl Path {
    pub(super) fn new(rate: f64) -> Self {
        Path { rate, drawn: Vec::new() }
    }

    /// Draws the noise from `sigma` to `sigma_next`, which lies `h` later, and returns all of it with the weights that
    /// it has there, in units of the level.
    pub(super) fn draw(&mut self, p: &mut Builder, sigma: f64, sigma_next: f64, h: f64) -> &[(f64, Value)] {
        let decay = (-h * self.rate).exp();
        self.drawn.iter_mut().for_each(|(weight, _)| *weight *= decay);
        // Drawn even where it weighs nothing, so that the source goes on as the reference's does.
        let noise = p.noise(sigma, sigma_next);
        self.drawn.push(((-(-2.0 * h * self.rate).exp_m1()).sqrt(), noise));
        &self.drawn
    }
}
