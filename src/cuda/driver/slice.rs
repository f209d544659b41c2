//! cudarc's slices as tensors.

use std::ops::{Deref, DerefMut};

use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop};

use super::Driver;
use crate::cuda::{Compute, Cuda, DeviceTensor, Foreign, Layout};
use crate::error::{Error, Result};
use crate::tensor::{Element, Shape};

/// A tensor over a slice of cudarc's, for as long as that is borrowed.
pub struct SliceTensor<'a, E> {
    tensor: DeviceTensor<Driver, E>,
    /// Tells cudarc's other streams what has been launched by then.
    _launched: SyncOnDrop<'a>,
}

/// As [`SliceTensor`], to be written to.
pub struct SliceTensorMut<'a, E>(SliceTensor<'a, E>);

impl<E> Deref for SliceTensor<'_, E> {
    type Target = DeviceTensor<Driver, E>;

    fn deref(&self) -> &Self::Target {
        &self.tensor
    }
}

impl<E> Deref for SliceTensorMut<'_, E> {
    type Target = DeviceTensor<Driver, E>;

    fn deref(&self) -> &Self::Target {
        &self.0.tensor
    }
}

impl<E> DerefMut for SliceTensorMut<'_, E> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0.tensor
    }
}

/// Slices are `CudaSlice` and `CudaView`, on the launcher's own stream: so their memory is freed after all that was launched
/// on it here.
impl<E: Compute> Cuda<Driver, E> {
    /// A tensor of a network over a slice.
    ///
    /// # Errors
    /// [`Error::Value`] for a slice of another stream or length, and those of [`Cuda::foreign_tensor`].
    pub fn slice_tensor<'a>(
        &'a self,
        slice: &'a impl DevicePtr<E>,
        shape: impl Into<Shape>,
    ) -> Result<SliceTensor<'a, E>> {
        let shape = shape.into();
        let (address, _launched) = slice.device_ptr(self.stream_of(slice, shape)?);
        // SAFETY: the slice is borrowed, and freed on the launcher's stream.
        let tensor = unsafe { self.foreign_tensor(&foreign::<E>(address, shape, Layout::ChannelsLast)) }?;
        Ok(SliceTensor { tensor, _launched })
    }

    /// A latent over a slice.
    ///
    /// # Errors
    /// As [`Cuda::slice_tensor`].
    pub fn slice_latent<'a>(
        &'a self,
        slice: &'a impl DevicePtr<f32>,
        shape: impl Into<Shape>,
    ) -> Result<SliceTensor<'a, f32>> {
        let shape = shape.into();
        let (address, _launched) = slice.device_ptr(self.stream_of(slice, shape)?);
        // SAFETY: as above.
        let tensor = unsafe { self.foreign_latent(&foreign::<f32>(address, shape, Layout::ChannelsFirst)) }?;
        Ok(SliceTensor { tensor, _launched })
    }

    /// A latent to be written to, over a slice.
    ///
    /// # Errors
    /// As [`Cuda::slice_tensor`].
    pub fn slice_latent_mut<'a>(
        &'a self,
        slice: &'a mut impl DevicePtrMut<f32>,
        shape: impl Into<Shape>,
    ) -> Result<SliceTensorMut<'a, f32>> {
        let shape = shape.into();
        let (address, _launched) = slice.device_ptr_mut(self.stream_of(slice, shape)?);
        // SAFETY: as above.
        let tensor = unsafe { self.foreign_latent(&foreign::<f32>(address, shape, Layout::ChannelsFirst)) }?;
        Ok(SliceTensorMut(SliceTensor { tensor, _launched }))
    }

    /// The stream of a slice, if it is the launcher's.
    fn stream_of<T>(&self, slice: &impl DeviceSlice<T>, shape: Shape) -> Result<&CudaStream> {
        let refuse = |what, expected, got| Err(Error::Value { op: "slice", what, expected, got });
        if slice.len() != shape.elements() {
            let expected = format!("{} for {shape}", shape.elements());
            return refuse("length", expected, slice.len().to_string());
        }
        let (own, of_slice) = (self.launcher.stream(), slice.stream().cu_stream().cast());
        match self.launcher.stream.of_cudarc() {
            Some(stream) if own == of_slice => Ok(stream),
            _ => {
                refuse("stream", format!("the launcher's, {own:?}, made by cudarc"), format!("{of_slice:?}"))
            }
        }
    }
}

fn foreign<T: Element>(address: u64, shape: Shape, layout: Layout) -> Foreign {
    let bytes = shape.elements() * size_of::<T>();
    Foreign { address, bytes, dtype: T::DTYPE, shape, layout }
}
