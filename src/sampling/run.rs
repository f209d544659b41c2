//! The machine that runs a [`Program`]: latents on a backend, a denoiser under guidance, a source of noise.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::ModelSampling;
use super::denoiser::{Branch, Denoiser};
use super::noise::NoiseSource;
use super::program::{Instruction, Program, Slot, Step};
use crate::error::{Error, Result};
use crate::ops::{Backend, Blend, Combine};
use crate::tensor::{Shaped, Tensor};

/// What an observer is shown in each step, after the step's first call of the model.
pub struct Progress<'a, B: Backend> {
    /// Steps done, this one included.
    pub step: usize,
    /// Steps in all; those written so far, if the sampler chooses its steps as it goes.
    pub of: usize,
    /// The level that the step starts from.
    pub sigma: f64,
    /// The noisy latent that the model was shown.
    pub x: &'a B::Latent,
    /// The clean latent that it expects.
    pub denoised: &'a B::Latent,
}

/// Looks on, step by step; [`ControlFlow::Break`] ends the run with [`Error::Cancelled`].
pub type Observer<'a, B> = dyn FnMut(&Progress<'_, B>) -> ControlFlow<()> + 'a;

/// What classifier-free guidance of this strength asks the model for: `denoised = negative + cfg (positive - negative)`,
/// which at 1 needs no negative unless the sampler does.
fn branches(cfg: f64, wants_negative: bool) -> &'static [Branch] {
    const NO_GUIDANCE: f64 = 1e-9;
    let guided = (cfg - 1.0).abs() > NO_GUIDANCE;
    if guided || wants_negative { &[Branch::Positive, Branch::Negative] } else { &[Branch::Positive] }
}

/// What keeps part of a latent as it was: where `mask` is 0 the model is shown `kept` under the level's noise, and its
/// answer is overruled.
pub(super) struct Inpaint<'a, B: Backend> {
    pub mask: B::Latent,
    pub kept: B::Latent,
    pub noise: B::Latent,
    /// What the model is shown.
    pub mixed: B::Latent,
    pub sampling: &'a ModelSampling,
}

/// A run of a program on a backend.
pub struct Run<'a, B: Backend, D> {
    backend: &'a B,
    denoiser: &'a mut D,
    noise: Box<dyn NoiseSource>,
    cfg: f64,
    inpaint: Option<Inpaint<'a, B>>,
    program: &'a Program,
    slots: Vec<B::Latent>,
    /// The branches' predictions; also where an inpainting run mixes what it shows the model.
    scratch: [B::Latent; 2],
    drawn: Tensor,
    /// What was measured last.
    error: f64,
}

impl<'a, B: Backend, D: Denoiser<B>> Run<'a, B, D> {
    /// A run of `program` from the noisy latent `start`, under guidance of strength `cfg`, with noise from `noise`.
    ///
    /// # Errors
    /// Those of [`Backend::latent`]: too little memory.
    pub fn new(
        backend: &'a B,
        denoiser: &'a mut D,
        program: &'a Program,
        start: B::Latent,
        cfg: f64,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        let shape = start.shape();
        let slots = vec![start];
        let scratch = [backend.latent(shape)?, backend.latent(shape)?];
        let drawn = Tensor::zeros(shape);
        let (inpaint, error) = (None, f64::NAN);
        Ok(Run { backend, denoiser, noise, cfg, inpaint, program, slots, scratch, drawn, error })
    }

    /// The same run with part of the latent kept.
    pub(super) fn inpainting(self, inpaint: Option<Inpaint<'a, B>>) -> Self {
        Run { inpaint, ..self }
    }

    /// Runs every step and returns the result, `observe` called in each.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `observe` breaks, and what backend, model, noise and the program's later parts report.
    pub fn finish(mut self, observe: &mut Observer<'_, B>) -> Result<B::Latent> {
        let mut program = Cow::Borrowed(self.program);
        let mut done = 0;
        loop {
            while self.slots.len() < program.slots() {
                self.slots.push(self.backend.latent(self.drawn.shape())?);
            }
            let of = done + program.steps().len();
            for step in program.steps() {
                self.step(step, done, of, observe)?;
                done += 1;
            }
            match program.next(self.error)? {
                Some(next) => program = Cow::Owned(next),
                None => return Ok(self.slots.swap_remove(program.result().0)),
            }
        }
    }

    fn step(&mut self, step: &Step, done: usize, of: usize, observe: &mut Observer<'_, B>) -> Result<()> {
        let mut unseen = true;
        for instruction in &step.instructions {
            self.execute(instruction)?;
            if let Instruction::Denoise { x, out, .. } = instruction
                && std::mem::take(&mut unseen)
            {
                let (x, denoised) = (&self.slots[x.0], &self.slots[out.0]);
                let progress = Progress { step: done + 1, of, sigma: step.sigma, x, denoised };
                if observe(&progress).is_break() {
                    return Err(Error::Cancelled { done, of });
                }
            }
        }
        Ok(())
    }

    fn execute(&mut self, instruction: &Instruction) -> Result<()> {
        match *instruction {
            Instruction::Denoise { x, sigma, out, negative } => {
                self.denoise(x, sigma, out, negative.is_some())?;
                if let Some(negative) = negative {
                    // As the model gave it: no mask overrules it in ComfyUI either.
                    std::mem::swap(&mut self.slots[negative.0], &mut self.scratch[1]);
                }
                Ok(())
            }
            Instruction::Noise { sigma, sigma_next, out } => {
                self.noise.draw(sigma, sigma_next, self.drawn.data_mut())?;
                self.backend.write_latent(&self.drawn, &mut self.slots[out.0])
            }
            Instruction::Combine { ref terms, out } => {
                let (out, inputs) = out_and_inputs(&mut self.slots, out);
                let terms: Vec<_> =
                    terms.iter().map(|&(coefficient, slot)| (coefficient as f32, inputs(slot))).collect();
                self.backend.combine(&Combine { terms: &terms }, out)
            }
            Instruction::Measure { low, high, previous, rtol, atol } => {
                let read = |slot: Slot| self.backend.read_latent(&self.slots[slot.0]);
                self.error = scaled_distance(&read(low)?, &read(high)?, &read(previous)?, rtol, atol);
                Ok(())
            }
        }
    }

    fn denoise(&mut self, x: Slot, sigma: f64, out: Slot, wants_negative: bool) -> Result<()> {
        let backend = self.backend;
        let (out, inputs) = out_and_inputs(&mut self.slots, out);
        let mut x = inputs(x);
        if let Some(Inpaint { mask, kept, noise, mixed, sampling }) = &mut self.inpaint {
            let (of_noise, of_kept) = sampling.noise_scaling(sigma);
            let terms = [(of_noise as f32, &*noise), (of_kept as f32, &*kept)];
            backend.combine(&Combine { terms: &terms }, &mut self.scratch[0])?;
            backend.blend(&Blend { a: x, b: &self.scratch[0], mask }, mixed)?;
            x = mixed;
        }

        let branches = branches(self.cfg, wants_negative);
        if let [_] = branches {
            self.denoiser.denoise(x, sigma, branches, std::slice::from_mut(out))?;
        } else {
            self.denoiser.denoise(x, sigma, branches, &mut self.scratch)?;
            let [positive, negative] = &mut self.scratch;
            // The difference first: strong guidance would multiply the rounding of two products.
            backend.combine(&Combine { terms: &[(1.0, positive), (-1.0, negative)] }, out)?;
            backend.combine(&Combine { terms: &[(1.0, negative), (self.cfg as f32, out)] }, positive)?;
            std::mem::swap(out, positive);
        }

        if let Some(Inpaint { mask, kept, .. }) = &self.inpaint {
            let answer = &mut self.scratch[0];
            backend.blend(&Blend { a: out, b: kept, mask }, answer)?;
            std::mem::swap(out, answer);
        }
        Ok(())
    }
}

/// The error of [`Instruction::Measure`].
fn scaled_distance(low: &Tensor, high: &Tensor, previous: &Tensor, rtol: f64, atol: f64) -> f64 {
    let squares =
        low.data().iter().zip(high.data()).zip(previous.data()).map(|((&low, &high), &previous)| {
            let tolerated = (rtol * f64::from(low.abs().max(previous.abs()))).max(atol);
            ((f64::from(low) - f64::from(high)) / tolerated).powi(2)
        });
    (squares.sum::<f64>() / low.data().len() as f64).sqrt()
}

/// The latent that an instruction writes, and a way to those that it reads: a program never lets the two be one.
fn out_and_inputs<'a, T>(slots: &'a mut [T], out: Slot) -> (&'a mut T, impl Fn(Slot) -> &'a T) {
    let (below, rest) = slots.split_at_mut(out.0);
    let (written, above) = rest.split_at_mut(1);
    let (below, above): (&'a [T], &'a [T]) = (below, above);
    (&mut written[0], move |slot: Slot| if slot < out { &below[slot.0] } else { &above[slot.0 - out.0 - 1] })
}
