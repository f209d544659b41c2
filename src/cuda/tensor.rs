use std::marker::PhantomData;

use half::{bf16, f16};

use super::launch::{Buffer, DeviceMemory, Launcher};
use crate::error::Result;
use crate::pool::Pool;
use crate::tensor::{DType, Element, Shape, Shaped, Tensor};

/// A type that kernels compute in: f16 and bf16 with sums in f32, or f32.
pub trait Compute: Element + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! compute {
    ($($type:ty)*) => { $(impl Compute for $type {} impl sealed::Sealed for $type {})* };
}
compute!(f32 f16 bf16);

/// A tensor in device memory, row-major.
pub struct DeviceTensor<L: Launcher, E> {
    buffer: Buffer<L>,
    shape: Shape,
    element: PhantomData<E>,
}

impl<L: Launcher, E: Element> DeviceTensor<L, E> {
    pub(super) fn empty(pool: &Pool<DeviceMemory<L>>, shape: Shape) -> Result<Self> {
        let buffer = Buffer::new::<E>(pool, shape.elements())?;
        Ok(DeviceTensor { buffer, shape, element: PhantomData })
    }

    pub(super) fn over(buffer: Buffer<L>, shape: Shape) -> Self {
        DeviceTensor { buffer, shape, element: PhantomData }
    }

    /// Where it lies; 0 in a rehearsal.
    pub fn pointer(&self) -> u64 {
        self.buffer.pointer()
    }

    pub(super) fn write(&mut self, host: &Tensor<E>) -> Result<()> {
        self.buffer.write(host.data())
    }

    /// Copies so many values `from` a place in another tensor `to` one in this.
    pub(super) fn copy_from(&mut self, to: usize, other: &Self, from: usize, values: usize) -> Result<()> {
        let [to, from, bytes] = [to, from, values].map(|values| values * size_of::<E>());
        self.buffer.copy_from(to, &other.buffer, from, bytes)
    }

    /// Copies it to the host.
    ///
    /// # Errors
    /// What the device reports, earlier launches included; [`Error::Value`](crate::error::Error::Value) for too little
    /// memory.
    pub fn read(&self) -> Result<Tensor<E>> {
        let mut host = Tensor::try_zeros(self.shape)?;
        self.buffer.read(host.data_mut())?;
        Ok(host)
    }
}

impl<L: Launcher, E: Element> Shaped for DeviceTensor<L, E> {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn dtype(&self) -> DType {
        E::DTYPE
    }
}
