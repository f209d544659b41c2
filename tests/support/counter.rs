//! A backend for loading alone.

use std::sync::atomic::{AtomicUsize, Ordering};

use noisefork::error::Result;
use noisefork::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, Inject, LayerNorm, Leave, Linear,
    Rows,
};
use noisefork::pool::Usage;
use noisefork::tensor::{DType, Shape, Shaped, Tensor};

/// Counts parameters, and keeps none of them.
#[derive(Default)]
pub struct Counter(AtomicUsize);

/// A tensor without values.
pub struct Nothing(Shape);

impl Counter {
    /// How many parameters were loaded so far.
    pub fn parameters(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shaped for Nothing {
    fn shape(&self) -> Shape {
        self.0
    }
    fn dtype(&self) -> DType {
        DType::F32
    }
}

/// Where only loading is tried.
fn not_run() -> Result<()> {
    unimplemented!("this backend only loads")
}

impl Backend for Counter {
    type Tensor = Nothing;
    type Latent = Nothing;
    type Weight = Nothing;
    type Tape = ();

    fn empty(&self, shape: Shape) -> Result<Nothing> {
        Ok(Nothing(shape))
    }
    fn latent(&self, shape: Shape) -> Result<Nothing> {
        Ok(Nothing(shape))
    }
    fn upload(&self, host: &Tensor) -> Result<Nothing> {
        self.0.fetch_add(host.data().len(), Ordering::Relaxed);
        Ok(Nothing(host.shape()))
    }
    fn pack(&self, weight: Tensor) -> Result<Nothing> {
        self.upload(&weight)
    }
    fn write_latent(&self, _: &Tensor, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn read_latent(&self, _: &Nothing) -> Result<Tensor> {
        not_run().map(|()| Tensor::zeros([]))
    }
    fn rehearsal(&self) -> Self {
        Counter::default()
    }
    fn stocked(&self) -> Result<Self> {
        Ok(Counter::default())
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }
    fn flops(&self) -> u64 {
        0
    }
    fn linear(&self, _: &Linear<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn conv2d(&self, _: &Conv2d<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn group_norm(&self, _: &GroupNorm<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn layer_norm(&self, _: &LayerNorm<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn attention(&self, _: &Attention<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn concat(&self, _: &Concat<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn rows(&self, _: &Rows<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn enter(&self, _: &Enter<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn leave(&self, _: &Leave<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn combine(&self, _: &Combine<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn inject(&self, _: &Inject<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn blend(&self, _: &Blend<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
}
