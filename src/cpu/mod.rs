//! The CPU backend, in f32, or in bf16 with sums in f32.
//!
//! Every operation cuts its output into blocks of a fixed size and shares them over the current rayon pool, so a result
//! has the same bits at any number of threads, and the caller chooses that number with `ThreadPool::install`. The order of
//! every sum is fixed too, so an item has the same bits alone and in any batch.

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod blend;
mod border;
mod combine;
mod compute;
mod concat;
mod conv2d;
mod epilogue;
mod group_norm;
mod inject;
mod isa;
mod layer_norm;
mod linear;
mod math;
mod moments;
mod product;
mod rows;
mod threads;
mod weight;
mod winograd;
mod write;

pub use compute::Compute;
pub use isa::Isa;
pub use weight::PackedWeight;

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use half::bf16;

use crate::error::{Error, Result};
use crate::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, Inject, LayerNorm, Leave, Linear,
    Rows, expect_shape,
};
use crate::pool::{HostMemory, Pool, PooledTensor, Usage};
use crate::tensor::{Shape, Shaped, Tensor};

/// The CPU, keeping a network's tensors in `E`: f32 ([`Cpu::new`]) or bf16 ([`Cpu::bf16`]). Clones share their memory.
#[derive(Debug, Clone)]
pub struct Cpu<E: Compute = f32> {
    pool: Pool<HostMemory>,
    isa: Isa,
    /// What was rehearsed.
    flops: Arc<AtomicU64>,
    elements: PhantomData<E>,
}

impl Cpu {
    /// The CPU, in f32.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Cpu<bf16> {
    /// The CPU, in bf16: half the memory, sums still in f32.
    pub fn bf16() -> Self {
        Self::default()
    }
}

impl<E: Compute> Cpu<E> {
    /// The CPU, with another instruction set than the best it has.
    ///
    /// # Errors
    /// [`Error::Value`] if this machine does not have it.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        Ok(Cpu { isa: isa.available()?, ..Cpu::default() })
    }

    /// The instruction set whose inner loops multiply.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    fn with(&self, pool: Pool<HostMemory>) -> Self {
        Cpu { pool, isa: self.isa, ..Cpu::default() }
    }

    /// Computes `y`, which has to have this shape and memory, at the cost of so many `flops`; in a rehearsal only counts
    /// them.
    fn compute<T: Written>(
        &self,
        op: &'static str,
        shape: Shape,
        flops: u64,
        y: &mut T,
        kernel: impl FnOnce(&mut T),
    ) -> Result<()> {
        expect_shape(op, "y", y.shape(), shape)?;
        if self.pool.rehearses() {
            self.flops.update(Ordering::Relaxed, Ordering::Relaxed, |all| all.saturating_add(flops));
        } else {
            expect_memory(op, y)?;
            kernel(y);
        }
        Ok(())
    }
}

/// What an operation writes to.
trait Written: Shaped {
    /// How many values it has memory for.
    fn held(&self) -> usize;
}

impl<E: Compute> Written for PooledTensor<E> {
    fn held(&self) -> usize {
        self.data().len()
    }
}

impl Written for Tensor {
    fn held(&self) -> usize {
        self.data().len()
    }
}

/// Refuses a tensor of some rehearsal's. Kernels rely on it: they write through pointers to as many values as the shape has.
fn expect_memory(op: &'static str, y: &impl Written) -> Result<()> {
    let (values, held) = (y.shape().elements(), y.held());
    if held == values {
        return Ok(());
    }
    let expected = format!("a tensor with memory for its {values} values, not of a rehearsal");
    Err(Error::Value { op, what: "y", expected, got: format!("memory for {held}") })
}

/// The extents of a tensor that is known to have four dimensions.
fn four(t: &impl Shaped) -> [usize; 4] {
    let shape = t.shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

impl<E: Compute> Default for Cpu<E> {
    fn default() -> Self {
        Cpu { pool: Pool::default(), isa: Isa::best(), flops: Arc::default(), elements: PhantomData }
    }
}

impl<E: Compute> Backend for Cpu<E> {
    type Tensor = PooledTensor<E>;
    type Latent = Tensor;
    type Weight = PackedWeight<E>;
    type Tape = ();

    fn empty(&self, shape: Shape) -> Result<PooledTensor<E>> {
        PooledTensor::new(&self.pool, shape)
    }
    fn latent(&self, shape: Shape) -> Result<Tensor> {
        Tensor::try_zeros(shape)
    }
    fn upload(&self, host: &Tensor) -> Result<PooledTensor<E>> {
        let mut tensor = self.empty(host.shape())?;
        for (value, &host) in tensor.data_mut().iter_mut().zip(host.data()) {
            *value = E::narrow(host);
        }
        Ok(tensor)
    }
    fn write_latent(&self, host: &Tensor, latent: &mut Tensor) -> Result<()> {
        expect_shape("write_latent", "host", host.shape(), latent.shape())?;
        latent.data_mut().copy_from_slice(host.data());
        Ok(())
    }
    fn read_latent(&self, latent: &Tensor) -> Result<Tensor> {
        let mut host = Tensor::try_zeros(latent.shape())?;
        host.data_mut().copy_from_slice(latent.data());
        Ok(host)
    }
    fn pack(&self, weight: Tensor) -> Result<PackedWeight<E>> {
        PackedWeight::new(&weight, self.isa)
    }

    fn rehearsal(&self) -> Self {
        self.with(self.pool.rehearsal())
    }
    fn stocked(&self) -> Result<Self> {
        self.pool.stocked().map(|pool| self.with(pool))
    }
    fn usage(&self) -> Usage {
        self.pool.usage()
    }
    fn flops(&self) -> u64 {
        self.flops.load(Ordering::Relaxed)
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        let shape = op.check()?;
        let mut room = linear::room(op, &self.pool)?;
        self.compute("linear", shape, op.flops(), y, |y| linear::linear(op, room.as_mut(), y))
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        let shape = op.check()?;
        let mut room = conv2d::room(op, shape, &self.pool)?;
        self.compute("conv2d", shape, op.flops(), y, |y| conv2d::conv2d(op, room.as_mut(), y))
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        let shape = op.check()?;
        let mut scratch = group_norm::Scratch::new(&self.pool, op)?;
        self.compute("group_norm", shape, op.flops(), y, |y| group_norm::group_norm(op, &mut scratch, y))
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        self.compute("layer_norm", op.check()?, op.flops(), y, |y| layer_norm::layer_norm(op, y))
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        let shape = op.check()?;
        let mut packed = attention::scratch(op, self.isa, &self.pool)?;
        self.compute("attention", shape, op.flops(), y, |y| {
            attention::attention(op, self.isa, &mut packed, y);
        })
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        self.compute("concat", op.check()?, 0, y, |y| concat::concat(op, y))
    }
    fn rows(&self, op: &Rows<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        self.compute("rows", op.check()?, 0, y, |y| rows::rows(op, y))
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut PooledTensor<E>) -> Result<()> {
        self.compute("enter", op.check()?, 0, y, |y| border::enter(op, y))
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut Tensor) -> Result<()> {
        self.compute("leave", op.check()?, 0, y, |y| border::leave(op, y))
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut Tensor) -> Result<()> {
        self.compute("combine", op.check()?, op.flops(), y, |y| combine::combine(op, y))
    }
    fn inject(&self, op: &Inject<'_, Self>, y: &mut Tensor) -> Result<()> {
        op.check(y.shape())?;
        self.compute("inject", y.shape(), op.flops(y.shape()), y, |y| inject::inject(op, y))
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut Tensor) -> Result<()> {
        self.compute("blend", op.check()?, op.flops(), y, |y| blend::blend(op, y))
    }
}
