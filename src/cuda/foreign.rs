use super::launch::{Buffer, Launcher};
use super::{Compute, Cuda, DeviceTensor};
use crate::error::{Error, Result};
use crate::tensor::{DType, Element, Shape};

const OP: &str = "foreign";
/// Kernels move chunks of so many bytes.
const ALIGNMENT: u64 = 16;

/// In which order a tensor of images lies; densely, in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[N, H, W, C]`, as networks want it, and all tensors that are no images.
    ChannelsLast,
    /// `[N, C, H, W]`, as latents are.
    ChannelsFirst,
}

/// Memory of a caller's on the device, and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// The device's address, a multiple of 16.
    pub address: u64,
    /// How many bytes there are, at least as many as the shape takes.
    pub bytes: usize,
    /// The type of its elements.
    pub dtype: DType,
    /// Its extents, in the order of the layout, row-major.
    pub shape: Shape,
    /// The order.
    pub layout: Layout,
}

impl Foreign {
    /// Refuses what no tensor of `E` in this layout on this device can be.
    fn check<E: Element>(&self, launcher: &impl Launcher, layout: Layout) -> Result<()> {
        let refuse = |what, expected: String, got: String| Err(Error::Value { op: OP, what, expected, got });
        if self.dtype != E::DTYPE {
            return refuse("dtype", E::DTYPE.to_string(), self.dtype.to_string());
        }
        if self.layout != layout {
            return refuse("layout", format!("{layout:?}"), format!("{:?}", self.layout));
        }
        let bytes = self.shape.elements().saturating_mul(size_of::<E>());
        if self.bytes < bytes {
            return refuse("bytes", format!("at least {bytes} for {}", self.shape), self.bytes.to_string());
        }
        if !self.address.is_multiple_of(ALIGNMENT) {
            return refuse("address", format!("a multiple of {ALIGNMENT}"), format!("{:#x}", self.address));
        }
        if bytes > 0 && !launcher.has(self.address, bytes)? {
            let expected = format!("{bytes} bytes of the launcher's device");
            return refuse("address", expected, format!("{:#x}", self.address));
        }
        Ok(())
    }
}

impl<L: Launcher, E: Compute> Cuda<L, E> {
    /// A tensor of a network over memory of the caller's.
    ///
    /// # Errors
    /// [`Error::Value`] for another dtype than `E`, another layout than channels last, too few bytes, an address that is no
    /// multiple of 16 or not the device's; what the device reports.
    ///
    /// # Safety
    /// The memory is there as long as the tensor, and as everything that was launched on it, replays of it too. Whoever else
    /// uses it meanwhile orders that with the launcher's stream.
    pub unsafe fn foreign_tensor(&self, memory: &Foreign) -> Result<DeviceTensor<L, E>> {
        memory.check::<E>(&*self.launcher, Layout::ChannelsLast)?;
        Ok(self.over(memory))
    }

    /// A latent over memory of the caller's.
    ///
    /// # Errors
    /// As [`Cuda::foreign_tensor`], but of f32, channels first.
    ///
    /// # Safety
    /// As [`Cuda::foreign_tensor`].
    pub unsafe fn foreign_latent(&self, memory: &Foreign) -> Result<DeviceTensor<L, f32>> {
        memory.check::<f32>(&*self.launcher, Layout::ChannelsFirst)?;
        Ok(self.over(memory))
    }

    fn over<T: Element>(&self, memory: &Foreign) -> DeviceTensor<L, T> {
        let bytes = memory.shape.elements() * size_of::<T>();
        let buffer = Buffer::foreign(self.launcher.clone(), memory.address, bytes);
        DeviceTensor::over(buffer, memory.shape)
    }
}
