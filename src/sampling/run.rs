//! The machine that runs a [`Program`]: latents on a backend, a denoiser under guidance, a source of noise.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::Prediction;
use super::denoiser::{Branch, Denoiser};
use super::noise::NoiseSource;
use super::program::{Instruction, Program, Slot};
use crate::error::{Error, Result};
use crate::ops::{Backend, Blend, Combine, Inject};
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

/// Looks on, step by step; [`ControlFlow::Break`] stops the run with [`Error::Cancelled`].
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
pub(super) struct Inpaint<B: Backend> {
    pub mask: B::Latent,
    pub kept: B::Latent,
    pub noise: B::Latent,
    /// What the model is shown.
    pub mixed: B::Latent,
    pub prediction: Prediction,
}

/// Asks runs to stop, from any thread: to be looked at by an observer, `&mut |_| cancel.flow()`. Clones ask the same runs.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// What an observer returns: [`ControlFlow::Break`] once it was asked.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.0.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A run of a program on a backend, which stands between two instructions at any time: it can be stepped, looked at, left
/// alone, and written down. One that was cancelled or that failed goes on where it stopped.
pub struct Run<'a, B: Backend, D> {
    pub(super) machine: Machine<'a, B, D>,
    pub(super) program: Program,
    pub(super) position: Position,
    /// What the result is multiplied by.
    pub(super) share: f64,
}

/// The instruction that comes next, within the part of the program that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    pub step: usize,
    /// Among those of the step.
    pub instruction: usize,
}

/// What executes instructions.
pub(super) struct Machine<'a, B: Backend, D> {
    pub backend: &'a B,
    pub denoiser: &'a mut D,
    pub noise: Box<dyn NoiseSource>,
    pub cfg: f64,
    pub inpaint: Option<Inpaint<B>>,
    pub slots: Vec<B::Latent>,
    /// The branches' predictions; also where an inpainting run mixes what it shows the model. Nothing that lasts.
    scratch: [B::Latent; 2],
    drawn: Tensor,
    /// What was measured last.
    pub error: f64,
}

impl<'a, B: Backend, D: Denoiser<B>> Run<'a, B, D> {
    /// A run of `program` from the noisy latent `start`, under guidance of strength `cfg`, with noise from `noise`.
    ///
    /// # Errors
    /// Those of [`Backend::latent`]: too little memory.
    pub fn new(
        backend: &'a B,
        denoiser: &'a mut D,
        program: Program,
        start: B::Latent,
        cfg: f64,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        let mut machine = Machine::new(backend, denoiser, start, cfg, noise)?;
        machine.make_ready(&program)?;
        Ok(Run { machine, program, position: Position::default(), share: 1.0 })
    }

    /// The same run with part of the latent kept.
    pub(super) fn inpainting(mut self, inpaint: Option<Inpaint<B>>) -> Self {
        self.machine.inpaint = inpaint;
        self
    }

    /// The same run, its result multiplied by `share`.
    pub(super) fn scaled(self, share: f64) -> Self {
        Run { share, ..self }
    }

    /// The program that runs: all of it, or the part that it has come to.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.program.steps_before() + self.position.step
    }

    /// Steps in all; those written so far, if the sampler chooses its steps as it goes.
    pub fn of(&self) -> usize {
        self.program.steps_before() + self.program.steps().len()
    }

    /// The level that the next step starts from, or the one that it stopped in; `None` after the last.
    pub fn sigma(&self) -> Option<f64> {
        self.program.steps().get(self.position.step).map(|step| step.sigma)
    }

    /// The latent in a slot of the program, if it has so many.
    pub fn slot(&self, slot: Slot) -> Option<&B::Latent> {
        self.machine.slots.get(slot.0)
    }

    /// Runs the next step, or what is left of one that was cancelled, and tells whether more follow.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `observe` breaks, and what backend, model, noise and the program's later parts report.
    /// The next call goes on with the instruction after the observed one, or again with the one that failed.
    pub fn step(&mut self, observe: &mut Observer<'_, B>) -> Result<bool> {
        let (done, of) = (self.done(), self.of());
        let Run { machine, program, position, .. } = self;
        if let Some(step) = program.steps().get(position.step) {
            let observed = step.instructions.iter().position(|i| matches!(i, Instruction::Denoise { .. }));
            while let Some(instruction) = step.instructions.get(position.instruction) {
                position.instruction += match machine.inject(program, *position)? {
                    true => 2,
                    false => {
                        machine.execute(instruction)?;
                        1
                    }
                };
                if let Instruction::Denoise { x, out, .. } = instruction
                    && observed.is_some_and(|observed| observed + 1 == position.instruction)
                {
                    let (x, denoised) = (&machine.slots[x.0], &machine.slots[out.0]);
                    let progress = Progress { step: done + 1, of, sigma: step.sigma, x, denoised };
                    if observe(&progress).is_break() {
                        return Err(Error::Cancelled { done, of });
                    }
                }
            }
            *position = Position { step: position.step + 1, instruction: 0 };
        }
        while position.step == program.steps().len() {
            let Some(next) = program.next(machine.error)? else { return Ok(false) };
            machine.make_ready(&next)?;
            (*program, *position) = (next, Position::default());
        }
        Ok(true)
    }

    /// Runs every step that is left and returns the result, `observe` called in each.
    ///
    /// # Errors
    /// Those of [`Run::step`], and [`Error::NotFinite`] if the result is not numbers.
    pub fn finish(mut self, observe: &mut Observer<'_, B>) -> Result<Tensor> {
        while self.step(observe)? {}
        let Run { mut machine, program, share, .. } = self;
        let [scaled, _] = &mut machine.scratch;
        let result = &machine.slots[program.result().0];
        machine.backend.combine(&Combine { terms: &[(share as f32, result)] }, scaled)?;
        let samples = machine.backend.read_latent(scaled)?;
        expect_finite("run", "samples", &samples)?;
        Ok(samples)
    }
}

impl<'a, B: Backend, D: Denoiser<B>> Machine<'a, B, D> {
    /// A machine whose first slot is `start`.
    pub fn new(
        backend: &'a B,
        denoiser: &'a mut D,
        start: B::Latent,
        cfg: f64,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        let shape = start.shape();
        let scratch = [backend.latent(shape)?, backend.latent(shape)?];
        let drawn = Tensor::zeros(shape);
        Ok(Machine {
            backend,
            denoiser,
            noise,
            cfg,
            inpaint: None,
            slots: vec![start],
            scratch,
            drawn,
            error: f64::NAN,
        })
    }

    /// Tells the model what `program` will ask of it, and makes the slots that it needs.
    pub fn make_ready(&mut self, program: &Program) -> Result<()> {
        self.denoiser.announce(&program.levels().collect::<Vec<_>>());
        while self.slots.len() < program.slots() {
            let mut slot = self.backend.latent(self.drawn.shape())?;
            // A snapshot reads all slots, and that of noise which is injected is never written to.
            self.backend.write_latent(&Tensor::zeros(slot.shape()), &mut slot)?;
            self.slots.push(slot);
        }
        Ok(())
    }

    /// Draws noise that the instruction after it alone wants within that instruction, where the backend can, and tells
    /// whether it did.
    fn inject(&mut self, program: &Program, at: Position) -> Result<bool> {
        let next = &program.steps()[at.step].instructions[at.instruction..];
        let &[
            Instruction::Noise { sigma, sigma_next, out: noise },
            Instruction::Combine { ref terms, out },
            ..,
        ] = next
        else {
            return Ok(false);
        };
        let strengths: Vec<f64> = terms.iter().filter(|(_, slot)| *slot == noise).map(|(s, _)| *s).collect();
        let (true, true, &[strength]) = (B::INJECTS, self.noise.has_addresses(), &*strengths) else {
            return Ok(false);
        };
        if !program.is_dead(noise, at.step, at.instruction + 2) {
            return Ok(false);
        }
        let draws = self.noise.draws(sigma, sigma_next, self.drawn.shape().elements())?;
        let (out, inputs) = out_and_inputs(&mut self.slots, out);
        let others = terms.iter().filter(|(_, slot)| *slot != noise);
        let terms: Vec<_> = others.map(|&(coefficient, slot)| (coefficient as f32, inputs(slot))).collect();
        self.backend.inject(&Inject { terms: &terms, noise: (strength as f32, &draws) }, out)?;
        Ok(true)
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
            Instruction::Noise { sigma, sigma_next, out } if B::INJECTS && self.noise.has_addresses() => {
                let draws = self.noise.draws(sigma, sigma_next, self.drawn.shape().elements())?;
                let noise = Inject { terms: &[], noise: (1.0, &draws) };
                self.backend.inject(&noise, &mut self.slots[out.0])
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
        if let Some(Inpaint { mask, kept, noise, mixed, prediction }) = &mut self.inpaint {
            let (of_noise, of_kept) = prediction.noise_scaling(sigma);
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

/// Refuses NaN and infinity.
pub(super) fn expect_finite(op: &'static str, what: &'static str, tensor: &Tensor) -> Result<()> {
    match tensor.data().iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NotFinite { op, what, index, got: tensor.data()[index].to_string() }),
    }
}
