use rayon::prelude::*;

use super::product::Kernel;
use super::{Compute, Isa};
use crate::error::Result;
use crate::ops::expect_weight;
use crate::simd::CACHE_LINE;
use crate::tensor::{DType, Shape, Shaped, Tensor};

/// A weight in panels, as the instruction set that it was packed for reads them: for every term, the weights of the
/// panel's outputs lie together.
#[derive(Debug)]
pub struct PackedWeight<E: Compute = f32> {
    shape: Shape,
    isa: Isa,
    panels: Tensor<E>,
    /// Where the first panel begins, on a cache line's boundary.
    first: usize,
}

impl<E: Compute> PackedWeight<E> {
    pub(super) fn new(weight: &Tensor, isa: Isa) -> Result<Self> {
        let (shape, kernel) = (weight.shape(), E::kernel(isa));
        expect_weight(shape)?;
        let mut packed = Self { shape, isa, panels: Tensor::zeros([0]), first: 0 };
        let (outputs, stride) = (shape[0], packed.stride());
        let padded = outputs / kernel.panel * kernel.panel
            + match outputs % kernel.panel {
                0 => 0,
                rest => kernel.width(rest),
            };
        packed.panels = Tensor::try_zeros([padded * stride + CACHE_LINE / size_of::<E>() + packed.inputs()])?;
        let misaligned = packed.panels.data().as_ptr().align_offset(CACHE_LINE);
        packed.first = if misaligned < CACHE_LINE { misaligned } else { 0 };
        let panels = &mut packed.panels.data_mut()[packed.first..][..padded * stride];
        if stride > 0 {
            let panels = panels.par_chunks_mut(kernel.panel * stride).enumerate();
            panels.for_each(|(p, panel)| fill(weight, kernel, p * kernel.panel, panel));
        }
        Ok(packed)
    }

    /// What multiplies it.
    pub(super) fn kernel(&self) -> Kernel<E> {
        E::kernel(self.isa)
    }

    /// What it was packed for; the machine has it.
    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// Outputs.
    pub(super) fn outputs(&self) -> usize {
        self.shape[0]
    }

    /// Taps of the kernel: 1 for a linear layer.
    pub(super) fn taps(&self) -> usize {
        self.shape[1..self.shape.len() - 1].iter().product()
    }

    /// Terms of a tap.
    pub(super) fn inputs(&self) -> usize {
        self.shape.channels()
    }

    /// Terms of a tap as they are stored, rounded up to what is multiplied at once.
    pub(super) fn stored_inputs(&self) -> usize {
        self.inputs().next_multiple_of(self.kernel().step)
    }

    /// Weights of an output as they are stored.
    pub(super) fn stride(&self) -> usize {
        self.taps() * self.stored_inputs()
    }

    /// Zeros, one for each input: what a tap sees in the padding.
    pub(super) fn zeros(&self) -> &[E] {
        &self.panels.data()[self.panels.data().len() - self.inputs()..]
    }

    /// The panel that begins with output `first`, a multiple of the kernel's panel, and how wide it is.
    pub(super) fn panel(&self, first: usize) -> (&[E], usize) {
        let width = self.kernel().width(self.outputs() - first);
        (&self.panels.data()[self.first + first * self.stride()..][..width * self.stride()], width)
    }
}

/// Fills the panel of the outputs from `first` on.
fn fill<E: Compute>(weight: &Tensor, kernel: Kernel<E>, first: usize, panel: &mut [E]) {
    let shape = weight.shape();
    let (outputs, inputs, terms) = (shape[0], shape.channels(), shape.elements() / shape[0]);
    let stored_inputs = inputs.next_multiple_of(kernel.step);
    let stored = (terms / inputs) * stored_inputs;
    let width = panel.len() / stored;
    for lane in 0..width.min(outputs - first) {
        for (tap, values) in weight.data()[(first + lane) * terms..][..terms].chunks(inputs).enumerate() {
            for (c, &value) in values.iter().enumerate() {
                let term = tap * stored_inputs + c;
                let (group, within) = (term / kernel.depth, term % kernel.depth);
                panel[(group * width + lane) * kernel.depth + within] = E::narrow(value);
            }
        }
    }
}

impl<E: Compute> Shaped for PackedWeight<E> {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn dtype(&self) -> DType {
        E::DTYPE
    }
}
