//! A sampler is a program: data that can be printed, counted and stepped.
//!
//! Every update of a sampler is a linear combination of tensors whose coefficients depend on the levels alone. So a
//! sampler runs once, on scalars in f64, before the model does; what it leaves behind is a list of [`Instruction`]s over
//! a handful of latents. [`Builder`] lets its body read like the paper: [`Value`]s and [`Expr`]essions are symbols, and
//! only [`Builder::combine`] makes a latent of them.

use std::ops::{Add, Div, Mul, Neg, Sub};

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
}

impl Instruction {
    fn out(&self) -> Slot {
        match *self {
            Instruction::Denoise { out, .. }
            | Instruction::Noise { out, .. }
            | Instruction::Combine { out, .. } => out,
        }
    }

    fn out_mut(&mut self) -> &mut Slot {
        match self {
            Instruction::Denoise { out, .. }
            | Instruction::Noise { out, .. }
            | Instruction::Combine { out, .. } => out,
        }
    }

    fn inputs_mut(&mut self) -> Vec<&mut Slot> {
        match self {
            Instruction::Denoise { x, .. } => vec![x],
            Instruction::Noise { .. } => Vec::new(),
            Instruction::Combine { terms, .. } => terms.iter_mut().map(|(_, slot)| slot).collect(),
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

/// A whole run of a sampler, as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    steps: Vec<Step>,
    slots: usize,
    result: Slot,
}

impl Program {
    /// Where the noisy latent is expected before the first step.
    pub const START: Slot = Slot(0);

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many latents a run holds at once.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Where the result is after the last step.
    pub fn result(&self) -> Slot {
        self.result
    }

    /// Whether a run draws noise after its start.
    pub fn draws_noise(&self) -> bool {
        let draws = |i: &Instruction| matches!(i, Instruction::Noise { .. });
        self.steps.iter().any(|step| step.instructions.iter().any(draws))
    }

    /// How often the model will be asked, branches of guidance counted as one.
    pub fn model_calls(&self) -> usize {
        let asks = |i: &&Instruction| matches!(i, Instruction::Denoise { .. });
        self.steps.iter().map(|step| step.instructions.iter().filter(asks).count()).sum()
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
}

impl Builder {
    /// An empty program.
    pub(super) fn new() -> Self {
        Builder { steps: Vec::new(), values: 1 }
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
        self.emit(|out| Instruction::Denoise { x: Slot(x.0), sigma, out })
    }

    /// Draws the noise of the step between two levels: unit Gaussian, the next of its source.
    pub fn noise(&mut self, sigma: f64, sigma_next: f64) -> Value {
        self.emit(|out| Instruction::Noise { sigma, sigma_next, out })
    }

    /// Makes a latent of an expression. One that is just a value costs nothing.
    pub fn combine(&mut self, expr: impl Into<Expr>) -> Value {
        let mut terms = expr.into().terms;
        // A term of weight 0 must not be read: a step to level 0 owes nothing to the noisy latent.
        terms.retain(|&(coefficient, _)| coefficient != 0.0);
        match *terms {
            [(1.0, value)] => value,
            [] => self.emit(|out| Instruction::Combine { terms: vec![(0.0, Slot(0))], out }),
            _ => {
                let terms = terms.iter().map(|&(coefficient, value)| (coefficient, Slot(value.0))).collect();
                self.emit(|out| Instruction::Combine { terms, out })
            }
        }
    }

    fn emit(&mut self, instruction: impl FnOnce(Slot) -> Instruction) -> Value {
        let value = Value(self.values);
        self.values += 1;
        if self.steps.is_empty() {
            self.step(f64::NAN);
        }
        if let Some(step) = self.steps.last_mut() {
            step.instructions.push(instruction(Slot(value.0)));
        }
        value
    }

    /// The program that leaves `result`, its values laid out over as few slots as are alive at once.
    pub(super) fn finish(self, result: Value) -> Program {
        let Builder { mut steps, values } = self;
        let instructions = || 0..;
        let mut last_use = vec![0; values];
        for (time, instruction) in
            instructions().zip(steps.iter_mut().flat_map(|step| &mut step.instructions))
        {
            last_use[instruction.out().0] = time;
            instruction.inputs_mut().into_iter().for_each(|slot| last_use[slot.0] = time);
        }
        last_use[result.0] = usize::MAX;

        let mut slot_of = vec![Slot(usize::MAX); values];
        slot_of[0] = Program::START;
        let mut alive = vec![Some(0)];
        for (time, instruction) in
            instructions().zip(steps.iter_mut().flat_map(|step| &mut step.instructions))
        {
            let out = instruction.out().0;
            let slot = alive.iter().position(Option::is_none).unwrap_or_else(|| {
                alive.push(None);
                alive.len() - 1
            });
            alive[slot] = Some(out);
            slot_of[out] = Slot(slot);
            *instruction.out_mut() = Slot(slot);
            instruction.inputs_mut().into_iter().for_each(|input| *input = slot_of[input.0]);
            for holder in &mut alive {
                holder.take_if(|value| last_use[*value] <= time);
            }
        }
        Program { steps, slots: alive.len(), result: slot_of[result.0] }
    }
}
