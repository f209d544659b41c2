//! What a backend spends its time on: a backend around another that writes down every operation that it passes on, a table
//! of what it wrote, and any of it again, alone. Around a [`Sketch`] it tells what a model would do, and does nothing.

mod operation;
mod replay;
mod sketch;
mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use operation::Operation;
pub use replay::{Inputs, Replay};
pub use sketch::{Sketch, Sketched};
pub use table::{Row, Table};

use crate::error::Result;
use crate::ops::{
    Attention, Backend, Blend, Columns, Combine, Concat, Conv2d, Enter, GroupNorm, Inject, LayerNorm, Leave,
    Linear, Rows, Shift,
};
use crate::pool::Usage;
use crate::tensor::{Shape, Shaped, Tensor};

/// One operation that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was run.
    pub operation: Operation,
    /// How long it took.
    pub time: Duration,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that it reads and writes, each once.
    pub bytes: u64,
}

/// A backend that runs every operation on another, and writes it down. What comes back from an operation must be done by
/// then: on a device that only takes orders, the times mean nothing.
pub struct Traced<B> {
    inner: B,
    rehearses: bool,
    /// Twins write into the same list.
    events: Arc<Mutex<Vec<Event>>>,
}

impl<B> Traced<B> {
    /// A backend around `inner`.
    pub fn new(inner: B) -> Self {
        Traced { inner, rehearses: false, events: Arc::default() }
    }

    /// What was run since this was last asked, by this backend and those that were made from it.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs an operation and writes it down.
    fn trace<T>(
        &self,
        operation: impl Into<Operation>,
        flops: u64,
        bytes: u64,
        y: &mut T,
        run: impl FnOnce(&B, &mut T) -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        run(&self.inner, y)?;
        let time = start.elapsed();
        if !self.rehearses {
            let event = Event { operation: operation.into(), time, flops, bytes };
            self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
        Ok(())
    }
}

impl<B: Backend> Backend for Traced<B> {
    const INJECTS: bool = B::INJECTS;

    type Tensor = B::Tensor;
    type Latent = B::Latent;
    type Weight = B::Weight;
    /// Nothing: what is replayed could not be traced.
    type Tape = ();

    fn empty(&self, shape: Shape) -> Result<B::Tensor> {
        self.inner.empty(shape)
    }
    fn latent(&self, shape: Shape) -> Result<B::Latent> {
        self.inner.latent(shape)
    }
    fn upload(&self, host: &Tensor) -> Result<B::Tensor> {
        self.inner.upload(host)
    }
    fn write_latent(&self, host: &Tensor, latent: &mut B::Latent) -> Result<()> {
        self.inner.write_latent(host, latent)
    }
    fn read_latent(&self, latent: &B::Latent) -> Result<Tensor> {
        self.inner.read_latent(latent)
    }
    fn pack(&self, weight: Tensor) -> Result<B::Weight> {
        self.inner.pack(weight)
    }

    fn rehearsal(&self) -> Self {
        Traced { inner: self.inner.rehearsal(), rehearses: true, events: self.events.clone() }
    }
    fn stocked(&self) -> Result<Self> {
        Ok(Traced { inner: self.inner.stocked()?, rehearses: false, events: self.events.clone() })
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn flops(&self) -> u64 {
        self.inner.flops()
    }
    fn launches(&self) -> u64 {
        self.inner.launches()
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Linear { x, weight, bias, residual, activation } = op;
        self.trace(op, op.flops(), op.bytes(y), y, |inner, y| {
            inner.linear(&Linear { x, weight, bias, residual, activation }, y)
        })
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Conv2d { x, weight, bias, ref shift, residual, activation, stride, upsample } = op;
        self.trace(op, op.flops(), op.bytes(y), y, |inner, y| {
            let shift = shift.as_ref().map(|&Shift { table, first }| Shift { table, first });
            inner.conv2d(&Conv2d { x, weight, bias, shift, residual, activation, stride, upsample }, y)
        })
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &GroupNorm { x, gamma, beta, groups, eps, activation } = op;
        self.trace(op, op.flops(), op.bytes(y), y, |inner, y| {
            inner.group_norm(&GroupNorm { x, gamma, beta, groups, eps, activation }, y)
        })
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &LayerNorm { x, gamma, beta, eps } = op;
        self.trace(op, op.flops(), op.bytes(y), y, |inner, y| {
            inner.layer_norm(&LayerNorm { x, gamma, beta, eps }, y)
        })
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let [q, k, v] = [&op.q, &op.k, &op.v]
            .map(|columns| Columns::<B> { tensor: columns.tensor, first: columns.first });
        let (channels, heads) = (op.channels, op.heads);
        self.trace(op, op.flops(), op.bytes(y), y, |inner, y| {
            inner.attention(&Attention { q, k, v, channels, heads }, y)
        })
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Concat { a, b } = op;
        self.trace(op, 0, op.bytes(y), y, |inner, y| inner.concat(&Concat { a, b }, y))
    }
    fn rows(&self, op: &Rows<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Rows { table, ref rows, items } = op;
        self.trace(op, 0, op.bytes(y), y, |inner, y| {
            inner.rows(&Rows { table, rows: rows.clone(), items }, y)
        })
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Enter { parts, copies } = op;
        self.trace(op, 0, op.bytes(y), y, |inner, y| inner.enter(&Enter { parts, copies }, y))
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Leave { x, branch, branches } = op;
        self.trace(op, 0, op.bytes(y), y, |inner, y| inner.leave(&Leave { x, branch, branches }, y))
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Combine { terms } = op;
        self.trace(op, op.flops(), op.bytes(y), y, |inner, y| inner.combine(&Combine { terms }, y))
    }
    fn inject(&self, op: &Inject<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Inject { terms, noise } = op;
        self.trace((op, y.shape()), op.flops(y.shape()), op.bytes(y), y, |inner, y| {
            inner.inject(&Inject { terms, noise }, y)
        })
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Blend { a, b, mask } = op;
        self.trace(op, op.flops(), op.bytes(y), y, |inner, y| inner.blend(&Blend { a, b, mask }, y))
    }
}
