use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use super::{Lease, Memory, Pool, too_little_memory};
use crate::error::Result;
use crate::simd::{CACHE_LINE, want_large_pages};
use crate::tensor::{DType, Element, Shape, Shaped, Tensor};

/// The memory of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostMemory;

/// A cache line.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line([u8; CACHE_LINE]);

impl Memory for HostMemory {
    type Block = Box<[Line]>;

    fn allocate(&self, bytes: usize) -> Result<Box<[Line]>> {
        let mut block = bytemuck::try_zeroed_slice_box(bytes.div_ceil(CACHE_LINE))
            .map_err(|()| too_little_memory(bytes))?;
        want_large_pages(&mut block);
        Ok(block)
    }
}

/// A dense tensor in host memory out of a pool, row-major, its first element at the start of a cache line.
pub struct PooledTensor<E: Pod> {
    shape: Shape,
    lease: Lease<HostMemory>,
    elements: PhantomData<E>,
}

impl<E: Pod> PooledTensor<E> {
    /// A tensor whose contents nobody may rely on.
    ///
    /// # Errors
    /// [`Error::Value`](crate::error::Error::Value) where there is too little memory.
    pub fn new(pool: &Pool<HostMemory>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let lease = pool.take(shape.elements().saturating_mul(size_of::<E>()))?;
        Ok(PooledTensor { shape, lease, elements: PhantomData })
    }

    /// The elements, last dimension contiguous; none in a rehearsal.
    pub fn data(&self) -> &[E] {
        let block: &[u8] = bytemuck::cast_slice(self.lease.memory());
        bytemuck::cast_slice(&block[..self.bytes_of(block.len())])
    }

    /// The elements, last dimension contiguous; none in a rehearsal.
    pub fn data_mut(&mut self) -> &mut [E] {
        let bytes = self.bytes_of(size_of_val(&**self.lease.memory()));
        let block: &mut [u8] = bytemuck::cast_slice_mut(self.lease.memory_mut());
        bytemuck::cast_slice_mut(&mut block[..bytes])
    }

    /// How much of a block of `bytes` bytes the elements take: all that they need, or in a rehearsal nothing.
    fn bytes_of(&self, bytes: usize) -> usize {
        bytes.min(self.shape.elements() * size_of::<E>())
    }
}

impl<E: Element> PooledTensor<E> {
    /// A copy in another element type, each value rounded to nearest.
    pub fn cast<F: Element>(&self) -> Tensor<F> {
        let mut copy = Tensor::zeros(self.shape);
        for (copy, value) in copy.data_mut().iter_mut().zip(self.data()) {
            *copy = F::from_f64(value.to_f64());
        }
        copy
    }
}

impl<E: Element> Shaped for PooledTensor<E> {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn dtype(&self) -> DType {
        E::DTYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_all_bytes_that_were_asked_for() {
        for (bytes, lines) in [(0, 0), (1, 1), (64, 1), (65, 2), (100, 2)] {
            assert_eq!(HostMemory.allocate(bytes).unwrap().len(), lines);
        }
    }

    #[test]
    fn elements_lie_at_the_start_of_a_line() {
        let pool = Pool::new(HostMemory);
        for values in [0, 1, 15, 16, 17, 1000] {
            let mut tensor = PooledTensor::<f32>::new(&pool, [values]).unwrap();
            tensor.data_mut().iter_mut().zip(1..).for_each(|(value, number)| *value = number as f32);
            assert_eq!(tensor.data().as_ptr().addr() % CACHE_LINE, 0);
            assert_eq!(tensor.data().len(), values);
            assert_eq!(tensor.cast::<f64>().data().last().copied(), (values > 0).then_some(values as f64));
        }
        assert!(PooledTensor::<f32>::new(&pool.rehearsal(), [5]).unwrap().data().is_empty());
    }
}
