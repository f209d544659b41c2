//! What a backend spends its time on: a backend around another that writes down every operation that it passes on, and a
//! table of what it wrote.

mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use table::{Row, Table};

use crate::error::Result;
use crate::ops::{
    Activation, Attention, Backend, Blend, Columns, Combine, Concat, Conv2d, Enter, GroupNorm, Inject,
    LayerNorm, Leave, Linear, Shift,
};
use crate::pool::Usage;
use crate::tensor::{Shape, Shaped, Tensor};

/// One operation that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name, as that of the method of [`Backend`].
    pub op: &'static str,
    /// The shapes of what it reads, and what else tells it from others of its name.
    pub operands: String,
    /// The shape of what it writes.
    pub shape: Shape,
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
    fn trace<T: Shaped>(
        &self,
        op: &'static str,
        operands: impl FnOnce() -> String,
        flops: u64,
        bytes: u64,
        y: &mut T,
        run: impl FnOnce(&B, &mut T) -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        run(&self.inner, y)?;
        let time = start.elapsed();
        if !self.rehearses {
            let event = Event { op, operands: operands(), shape: y.shape(), time, flops, bytes };
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

    fn linear(&self, op: &Linear<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Linear { x, weight, bias, residual, activation } = op;
        let operands = || format!("{} x {}{}", x.shape(), weight.shape(), with(residual, activation));
        self.trace("linear", operands, op.flops(), op.bytes(y), y, |inner, y| {
            inner.linear(&Linear { x, weight, bias, residual, activation }, y)
        })
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Conv2d { x, weight, bias, ref shift, residual, activation, stride, upsample } = op;
        let operands = || {
            let halved = if stride == 2 { ", halved" } else { "" };
            let doubled = if upsample.is_some() { ", doubled" } else { "" };
            let with = with(residual, activation);
            format!("{} x {}{halved}{doubled}{with}", x.shape(), weight.shape())
        };
        self.trace("conv2d", operands, op.flops(), op.bytes(y), y, |inner, y| {
            let shift = shift.as_ref().map(|Shift { table, rows, first }| Shift {
                table: *table,
                rows: rows.clone(),
                first: *first,
            });
            inner.conv2d(&Conv2d { x, weight, bias, shift, residual, activation, stride, upsample }, y)
        })
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &GroupNorm { x, gamma, beta, groups, eps, activation } = op;
        let operands = || format!("{}{}", x.shape(), with(None::<&B::Tensor>, activation));
        self.trace("group_norm", operands, op.flops(), op.bytes(y), y, |inner, y| {
            inner.group_norm(&GroupNorm { x, gamma, beta, groups, eps, activation }, y)
        })
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &LayerNorm { x, gamma, beta, eps } = op;
        self.trace(
            "layer_norm",
            || x.shape().to_string(),
            op.flops(),
            op.bytes(y),
            y,
            |inner, y| inner.layer_norm(&LayerNorm { x, gamma, beta, eps }, y),
        )
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let [q, k, v] = [&op.q, &op.k, &op.v]
            .map(|columns| Columns::<B> { tensor: columns.tensor, first: columns.first });
        let (channels, heads) = (op.channels, op.heads);
        let rows = |columns: &Columns<'_, Self>| columns.tensor.shape().rows() / columns.tensor.shape()[0];
        let operands = || format!("{} to {} tokens, {heads} heads", rows(&op.q), rows(&op.k));
        self.trace("attention", operands, op.flops(), op.bytes(y), y, |inner, y| {
            inner.attention(&Attention { q, k, v, channels, heads }, y)
        })
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Concat { a, b } = op;
        let operands = || format!("{} and {}", a.shape(), b.shape());
        self.trace("concat", operands, 0, op.bytes(y), y, |inner, y| inner.concat(&Concat { a, b }, y))
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut B::Tensor) -> Result<()> {
        let &Enter { parts, copies } = op;
        let operands = || format!("{} parts, {copies} copies", parts.len());
        self.trace("enter", operands, 0, op.bytes(y), y, |inner, y| inner.enter(&Enter { parts, copies }, y))
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Leave { x, branch, branches } = op;
        self.trace(
            "leave",
            || x.shape().to_string(),
            0,
            op.bytes(y),
            y,
            |inner, y| inner.leave(&Leave { x, branch, branches }, y),
        )
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Combine { terms } = op;
        let operands = || format!("{} terms", terms.len());
        self.trace("combine", operands, op.flops(), op.bytes(y), y, |inner, y| {
            inner.combine(&Combine { terms }, y)
        })
    }
    fn inject(&self, op: &Inject<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Inject { terms, noise } = op;
        let operands = || format!("{} terms, {} draws", terms.len(), noise.1.len());
        self.trace("inject", operands, op.flops(y.shape()), op.bytes(y), y, |inner, y| {
            inner.inject(&Inject { terms, noise }, y)
        })
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut B::Latent) -> Result<()> {
        let &Blend { a, b, mask } = op;
        let operands = || format!("mask {}", mask.shape());
        self.trace("blend", operands, op.flops(), op.bytes(y), y, |inner, y| {
            inner.blend(&Blend { a, b, mask }, y)
        })
    }
}

/// What an operation does besides, in words.
fn with<T>(residual: Option<&T>, activation: Activation) -> String {
    let residual = if residual.is_some() { ", residual" } else { "" };
    let activation = match activation {
        Activation::Identity => "",
        Activation::Relu => ", ReLU",
        Activation::Silu => ", SiLU",
        Activation::Geglu => ", GEGLU",
    };
    format!("{residual}{activation}")
}
