//! A sampler is a program: data that can be printed, counted and stepped.
//!
//! Every update of a sampler is a linear combination of tensors whose coefficients depend on the levels alone. So a
//! sampler runs once, on scalars in f64, before the model does; what it leaves behind is a list of [`Instruction`]s over
//! a handful of latents. [`Builder`] lets its body read like the paper: [`Value`]s and [`Expr`]essions are symbols, and
//! only [`Builder::combine`] makes a latent of them.
//!
//! A sampler that chooses its steps by what it finds writes its program in parts: each ends by measuring an error, and a
//! [`Continuation`] writes the next one from it.

use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::model_sampling::ModelSampling;
use super::samplers::Sampler;
use crate::error::{Error, Result};

/// One of the latents that a program works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// What a [`Program`] asks of the machine that runs it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Instruction {
    /// `out = denoised(x, sigma)`: ask the model, under guidance.
    Denoise {
        /// The noisy latent.
        x: Slot,
        /// Its level.
        sigma: f64,
        /// Where the prediction goes.
        out: Slot,
        /// Where the negative branch's own prediction goes, if the sampler wants it; it is then asked for under guidance
        /// of any strength.
        negative: Option<Slot>,
    },
    /// `out` = unit Gaussian noise for the step between two levels.
    Noise {
        /// The level before.
        sigma: f64,
        /// The level after.
        sigma_next: f64,
        /// Where the noise goes.
        out: Slot,
    },
    /// `out = sum coefficient * slot`.
    Combine {
        /// Coefficients and latents, at least one.
        terms: Vec<(f64, Slot)>,
        /// Where the sum goes; none of the terms.
        out: Slot,
    },
    /// Measures the distance of two estimates of a latent, in units of what is tolerated: the root mean square, over the
    /// whole batch, of `(low - high) / max(atol, rtol max(|low|, |previous|))`.
    Measure {
        /// The estimate of lower order.
        low: Slot,
        /// The estimate of higher order.
        high: Slot,
        /// The last estimate of lower order that was good enough.
        previous: Slot,
        /// The relative tolerance.
        rtol: f64,
        /// The absolute tolerance.
        atol: f64,
    },
}

impl Instruction {
    fn outs_mut(&mut self) -> Vec<&mut Slot> {
        match self {
            Instruction::Denoise { out, negative, .. } => std::iter::once(out).chain(negative).collect(),
            Instruction::Noise { out, .. } | Instruction::Combine { out, .. } => vec![out],
            Instruction::Measure { .. } => Vec::new(),
        }
    }

    fn reads(&self, slot: Slot) -> bool {
        match self {
            Instruction::Denoise { x, .. } => *x == slot,
            Instruction::Noise { .. } => false,
            Instruction::Combine { terms, .. } => terms.iter().any(|(_, term)| *term == slot),
            Instruction::Measure { low, high, previous, .. } => [low, high, previous].contains(&&slot),
        }
    }

    fn writes(&self, slot: Slot) -> bool {
        match self {
            Instruction::Denoise { out, negative, .. } => *out == slot || *negative == Some(slot),
            Instruction::Noise { out, .. } | Instruction::Combine { out, .. } => *out == slot,
            Instruction::Measure { .. } => false,
        }
    }

    fn inputs_mut(&mut self) -> Vec<&mut Slot> {
        match self {
            Instruction::Denoise { x, .. } => vec![x],
            Instruction::Noise { .. } => Vec::new(),
            Instruction::Combine { terms, .. } => terms.iter_mut().map(|(_, slot)| slot).collect(),
            Instruction::Measure { low, high, previous, .. } => vec![low, high, previous],
        }
    }
}

/// One step of a run: from one level of the schedule to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The level it starts from.
    pub sigma: f64,
    /// What it does.
    pub instructions: Vec<Instruction>,
}

/// A whole run of a sampler, as data; or a part of one that depends on what it measures.
#[derive(Debug, Clone)]
pub struct Program {
    steps: Vec<Step>,
    slots: usize,
    result: Slot,
    rest: Option<Rest>,
    source: Arc<Source>,
    past: Past,
}

/// What a program is written from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub sampler: Sampler,
    pub model: ModelSampling,
    pub sigmas: Vec<f32>,
}

/// What there was of a program before the part at hand.
#[derive(Debug, Clone, Default)]
struct Past {
    steps: usize,
    slots: usize,
    /// What each part measured in the end.
    errors: Vec<f64>,
}

/// A program as it is written down: what it was written from, and what its parts so far measured. From these it is
/// written again, so that no instruction is ever taken on trust.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    source: Arc<Source>,
    errors: Vec<f64>,
}

/// What is to be written yet of a program, and what the part before it leaves.
#[derive(Debug, Clone)]
struct Rest {
    author: Arc<dyn Continuation>,
    held: Vec<(Value, Slot)>,
    values: usize,
}

/// Writes the next part of a program that depends on what it measures. Depends on nothing else, so that a run can be
/// taken up again.
pub trait Continuation: fmt::Debug + Send + Sync {
    /// Writes the steps up to the next measurement, given the last one, and returns what the run ends with if they do not
    /// ask for a further part. Of the values of earlier parts, those that were kept may be used.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a measurement that is not a number,
    /// [`Error::Value`] where no end is in sight.
    fn write(&self, error: f64, p: &mut Builder) -> Result<Value>;
}

impl Program {
    /// Whether nobody reads a slot any more from this instruction on, before it is written again.
    pub(super) fn is_dead(&self, slot: Slot, step: usize, instruction: usize) -> bool {
        let later = self.steps[step..].iter().flat_map(|step| &step.instructions).skip(instruction);
        for instruction in later {
            if instruction.reads(slot) {
                return false;
            }
            if instruction.writes(slot) {
                return true;
            }
        }
        self.result != slot
            && self.rest.as_ref().is_none_or(|rest| rest.held.iter().all(|(_, held)| *held != slot))
    }

    /// Where the noisy latent is expected before the first step.
    pub const START: Slot = Slot(0);

    /// The steps in order, as far as they are written.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many latents a run holds at once, earlier parts included.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Where the result is after the last step.
    pub fn result(&self) -> Slot {
        self.result
    }

    /// Whether more follows than is written: how much is known only in the run.
    pub fn is_open(&self) -> bool {
        self.rest.is_some()
    }

    /// The part that follows, if the last measurement of this one gave `error`; it works on the slots that this one
    /// leaves. `None` if this is all.
    ///
    /// # Errors
    /// Those of [`Continuation::write`].
    pub fn next(&self, error: f64) -> Result<Option<Program>> {
        let Some(Rest { author, held, values }) = &self.rest else { return Ok(None) };
        let mut builder = Builder { steps: Vec::new(), values: *values, held: held.clone(), rest: None };
        let result = author.write(error, &mut builder)?;
        let errors = self.past.errors.iter().copied().chain([error]).collect();
        let past = Past { steps: self.steps_before() + self.steps.len(), slots: self.slots, errors };
        Ok(Some(builder.finish(result, Arc::clone(&self.source), past)))
    }

    /// How many steps the parts before this one have.
    pub fn steps_before(&self) -> usize {
        self.past.steps
    }

    /// The levels that the run was to visit, and the model whose levels they are.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// What it takes to write this program again.
    pub(super) fn record(&self) -> Record {
        Record { source: Arc::clone(&self.source), errors: self.past.errors.clone() }
    }

    /// Whether a run draws noise after its start; one whose program is open may.
    pub fn draws_noise(&self) -> bool {
        let draws = |i: &Instruction| matches!(i, Instruction::Noise { .. });
        self.is_open() || self.steps.iter().any(|step| step.instructions.iter().any(draws))
    }

    /// Whether noise that a run draws has a weight in what it ends with; one whose program is open may.
    pub(super) fn varies(&self) -> bool {
        let mut noisy = vec![false; self.slots];
        for instruction in self.steps.iter().flat_map(|step| &step.instructions) {
            match instruction {
                Instruction::Denoise { x, out, negative, .. } => {
                    noisy[out.0] = noisy[x.0];
                    if let Some(negative) = negative {
                        noisy[negative.0] = noisy[x.0];
                    }
                }
                Instruction::Noise { out, .. } => noisy[out.0] = true,
                Instruction::Combine { terms, out } => {
                    noisy[out.0] = terms.iter().any(|&(weight, term)| weight != 0.0 && noisy[term.0]);
                }
                Instruction::Measure { .. } => {}
            }
        }
        self.is_open() || noisy[self.result.0]
    }

    /// How often the model will be asked, branches of guidance counted as one, as far as the program is written.
    pub fn model_calls(&self) -> usize {
        self.levels().count()
    }

    /// The levels at which the model will be asked, in order, as far as the program is written.
    pub fn levels(&self) -> impl Iterator<Item = f64> {
        self.steps.iter().flat_map(|step| &step.instructions).filter_map(|instruction| match instruction {
            Instruction::Denoise { sigma, .. } => Some(*sigma),
            _ => None,
        })
    }
}

/// A latent that a sampler's body speaks of before it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(usize);

/// A linear combination of [`Value`]s: `x + (denoised - x) * 0.5` and the like. Costs nothing until it is
/// [`Builder::combine`]d.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expr {
    terms: Vec<(f64, Value)>,
}

impl From<Value> for Expr {
    fn from(value: Value) -> Self {
        Expr { terms: vec![(1.0, value)] }
    }
}

/// The sum of weighted values.
impl FromIterator<(f64, Value)> for Expr {
    fn from_iter<I: IntoIterator<Item = (f64, Value)>>(terms: I) -> Self {
        terms.into_iter().fold(Expr::default(), |sum, (weight, value)| sum + value * weight)
    }
}

impl<R: Into<Expr>> Add<R> for Expr {
    type Output = Expr;
    fn add(mut self, other: R) -> Expr {
        for (coefficient, value) in other.into().terms {
            match self.terms.iter_mut().find(|(_, known)| *known == value) {
                Some((sum, _)) => *sum += coefficient,
                None => self.terms.push((coefficient, value)),
            }
        }
        self
    }
}

impl<R: Into<Expr>> Sub<R> for Expr {
    type Output = Expr;
    fn sub(self, other: R) -> Expr {
        self + -other.into()
    }
}

impl Mul<f64> for Expr {
    type Output = Expr;
    fn mul(mut self, factor: f64) -> Expr {
        self.terms.iter_mut().for_each(|(coefficient, _)| *coefficient *= factor);
        self
    }
}

impl Div<f64> for Expr {
    type Output = Expr;
    fn div(mut self, divisor: f64) -> Expr {
        self.terms.iter_mut().for_each(|(coefficient, _)| *coefficient /= divisor);
        self
    }
}

impl Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self * -1.0
    }
}

impl<R: Into<Expr>> Add<R> for Value {
    type Output = Expr;
    fn add(self, other: R) -> Expr {
        Expr::from(self) + other
    }
}

impl<R: Into<Expr>> Sub<R> for Value {
    type Output = Expr;
    fn sub(self, other: R) -> Expr {
        Expr::from(self) - other
    }
}

impl Mul<f64> for Value {
    type Output = Expr;
    fn mul(self, factor: f64) -> Expr {
        Expr::from(self) * factor
    }
}

impl Div<f64> for Value {
    type Output = Expr;
    fn div(self, divisor: f64) -> Expr {
        Expr::from(self) / divisor
    }
}

/// What a sampler writes its program with.
#[derive(Debug)]
pub struct Builder {
    steps: Vec<Step>,
    values: usize,
    /// What there is before the first step, and where.
    held: Vec<(Value, Slot)>,
    rest: Option<(Arc<dyn Continuation>, Vec<Value>)>,
}

impl Builder {
    /// An empty program.
    pub(super) fn new() -> Self {
        Builder { steps: Vec::new(), values: 1, held: vec![(Value(0), Program::START)], rest: None }
    }

    /// The noisy latent that the run starts from.
    pub fn start(&self) -> Value {
        Value(0)
    }

    /// Begins the step from level `sigma`. Its first [`Builder::denoise`] is what observers are shown.
    pub fn step(&mut self, sigma: f64) {
        self.steps.push(Step { sigma, instructions: Vec::new() });
    }

    /// Asks the model for the denoised latent of `x` at level `sigma`.
    pub fn denoise(&mut self, x: Value, sigma: f64) -> Value {
        let out = self.value();
        self.push(Instruction::Denoise { x: Slot(x.0), sigma, out: Slot(out.0), negative: None });
        out
    }

    /// As [`Builder::denoise`]; also returns the prediction under the negative prompt alone, which CFG++ (Chung et al.
    /// 2024, arXiv 2406.08070) renoises with.
    pub fn denoise_cfgpp(&mut self, x: Value, sigma: f64) -> (Value, Value) {
        let (out, negative) = (self.value(), self.value());
        self.push(Instruction::Denoise {
            x: Slot(x.0),
            sigma,
            out: Slot(out.0),
            negative: Some(Slot(negative.0)),
        });
        (out, negative)
    }

    /// Draws the noise of the step between two levels: unit Gaussian, the next of its source.
    pub fn noise(&mut self, sigma: f64, sigma_next: f64) -> Value {
        let out = self.value();
        self.push(Instruction::Noise { sigma, sigma_next, out: Slot(out.0) });
        out
    }

    /// Makes a latent of an expression. One that is just a value costs nothing.
    pub fn combine(&mut self, expr: impl Into<Expr>) -> Value {
        let mut terms = expr.into().terms;
        // A term of weight 0 must not be read: a step to level 0 owes nothing to the noisy latent.
        terms.retain(|&(coefficient, _)| coefficient != 0.0);
        if let [(1.0, value)] = *terms {
            return value;
        }
        if terms.is_empty() {
            terms.extend(self.held.first().map(|&(value, _)| (0.0, value)));
        }
        let terms = terms.iter().map(|&(coefficient, value)| (coefficient, Slot(value.0))).collect();
        let out = self.value();
        self.push(Instruction::Combine { terms, out: Slot(out.0) });
        out
    }

    /// Measures how far `low` and `high` lie apart, as [`Instruction::Measure`] has it.
    pub fn measure(&mut self, low: Value, high: Value, previous: Value, rtol: f64, atol: f64) {
        let [low, high, previous] = [low, high, previous].map(|value| Slot(value.0));
        self.push(Instruction::Measure { low, high, previous, rtol, atol });
    }

    /// Leaves the rest of the program to `author`, who will be told what was measured last and may use the values `kept`.
    pub fn go_on(&mut self, kept: &[Value], author: impl Continuation + 'static) {
        self.rest = Some((Arc::new(author), kept.to_vec()));
    }

    fn value(&mut self) -> Value {
        self.values += 1;
        Value(self.values - 1)
    }

    fn push(&mut self, instruction: Instruction) {
        if self.steps.is_empty() {
            self.step(f64::NAN);
        }
        if let Some(step) = self.steps.last_mut() {
            step.instructions.push(instruction);
        }
    }

    /// The program that leaves `result`.
    pub(super) fn program(self, result: Value, source: Source) -> Program {
        self.finish(result, Arc::new(source), Past::default())
    }

    /// The part that leaves `result`, its values laid out over as few slots as are alive at once.
    fn finish(self, result: Value, source: Arc<Source>, past: Past) -> Program {
        let Builder { mut steps, values, held, rest } = self;
        let (author, kept) = rest.map_or((None, Vec::new()), |(author, kept)| (Some(author), kept));
        let mut last_use = vec![0; values];
        for (time, instruction) in in_order(&mut steps) {
            for slot in instruction.outs_mut() {
                last_use[slot.0] = time;
            }
            for slot in instruction.inputs_mut() {
                last_use[slot.0] = time;
            }
        }
        for value in kept.iter().chain([&result]) {
            last_use[value.0] = usize::MAX;
        }

        let mut slot_of = vec![Slot(usize::MAX); values];
        let mut alive = Vec::new();
        for (value, slot) in held {
            slot_of[value.0] = slot;
            alive.resize(alive.len().max(slot.0 + 1), None);
            alive[slot.0] = Some(value.0);
        }
        for (time, instruction) in in_order(&mut steps) {
            instruction.inputs_mut().into_iter().for_each(|input| *input = slot_of[input.0]);
            for out in instruction.outs_mut() {
                let slot = alive.iter().position(Option::is_none).unwrap_or_else(|| {
                    alive.push(None);
                    alive.len() - 1
                });
                alive[slot] = Some(out.0);
                slot_of[out.0] = Slot(slot);
                *out = Slot(slot);
            }
            for holder in &mut alive {
                holder.take_if(|value| last_use[*value] <= time);
            }
        }
        let held = kept.into_iter().map(|value| (value, slot_of[value.0])).collect();
        let rest = author.map(|author| Rest { author, held, values });
        let slots = alive.len().max(past.slots);
        Program { steps, slots, result: slot_of[result.0], rest, source, past }
    }
}

impl Record {
    /// The program, written again.
    ///
    /// # Errors
    /// Those of [`Sampler::program`] and of [`Program::next`]; [`Error::Value`] for more measurements than the program
    /// asks for.
    pub(super) fn program(&self) -> Result<Program> {
        let Source { sampler, model, sigmas } = &*self.source;
        let mut program = sampler.program(model, sigmas)?;
        for &error in &self.errors {
            program = program.next(error)?.ok_or_else(|| Error::Value {
                op: sampler.name(),
                what: "measured errors",
                expected: "as many as the program has open parts".into(),
                got: self.errors.len().to_string(),
            })?;
        }
        Ok(program)
    }
}

fn in_order(steps: &mut [Step]) -> impl Iterator<Item = (usize, &mut Instruction)> {
    steps.iter_mut().flat_map(|step| &mut step.instructions).enumerate()
}
