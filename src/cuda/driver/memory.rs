//! Memory of the device, and memory through which the host's bytes go there.

use std::ptr;
use std::sync::Arc;

use cudarc::driver::{DriverError, result, sys};

use super::failure::failure;
use super::stream::Stream;
use crate::error::Result;

/// Memory that is given out and taken back in a stream's order, and kept for the next time.
#[derive(Debug)]
pub struct Pool {
    raw: sys::CUmemoryPool,
    stream: Arc<Stream>,
}

impl Pool {
    /// Memory of a device, whose context is current.
    pub fn new(stream: &Arc<Stream>, ordinal: usize) -> Result<Self> {
        Self::create(stream, ordinal).map_err(|error| failure("alloc", error))
    }

    fn create(stream: &Arc<Stream>, ordinal: usize) -> Result<Self, DriverError> {
        let mut pool = Pool { raw: ptr::null_mut(), stream: stream.clone() };
        // SAFETY: the structure is one of numbers and pointers, for which zero stands for what is not asked for.
        let mut properties: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
        properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
        properties.location.id = ordinal as i32;
        // SAFETY: the structure is filled in as the driver wants it.
        pool.raw = unsafe { result::mem_pool::create(&properties) }?;
        // What is freed stays ours: the next step will want it.
        let mut threshold = u64::MAX;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a u64.
        unsafe { result::mem_pool::set_attribute(pool.raw, attribute, (&raw mut threshold).cast()) }?;
        Ok(pool)
    }

    /// Memory for what is launched on the stream from here on.
    pub fn alloc(&self, bytes: usize) -> Result<sys::CUdeviceptr, DriverError> {
        // SAFETY: pool and stream live as long as `self`.
        unsafe { result::mem_pool::alloc_async(self.raw, bytes, self.stream.raw()) }
    }

    /// Bytes of what is allocated.
    pub fn in_use(&self) -> Result<u64, DriverError> {
        let mut bytes = 0u64;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        // SAFETY: the attribute is a u64.
        unsafe { result::mem_pool::get_attribute(self.raw, attribute, (&raw mut bytes).cast()) }?;
        Ok(bytes)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: it is ours; the driver keeps what was allocated until it is freed.
            self.stream.quietly(|| unsafe { result::mem_pool::destroy(self.raw) });
        }
    }
}

/// Whether these bytes are one allocation's, or part of one, on the device of this number.
pub fn is_on_device(address: sys::CUdeviceptr, bytes: usize, ordinal: usize) -> Result<bool, DriverError> {
    use sys::CUpointer_attribute as Attribute;
    /// What the driver says of an address; nothing of one that is none of its own.
    fn attribute<T: Default>(which: Attribute, address: sys::CUdeviceptr) -> Result<Option<T>, DriverError> {
        let mut value = T::default();
        // SAFETY: the attributes below are of the types that they are asked for.
        match unsafe { sys::cuPointerGetAttribute((&raw mut value).cast(), which, address) } {
            sys::CUresult::CUDA_SUCCESS => Ok(Some(value)),
            sys::CUresult::CUDA_ERROR_INVALID_VALUE => Ok(None),
            error => Err(DriverError(error)),
        }
    }
    let device: Option<i32> = attribute(Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address)?;
    let start: Option<u64> = attribute(Attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address)?;
    let size: Option<usize> = attribute(Attribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE, address)?;
    let (Some(device), Some(start), Some(size)) = (device, start, size) else { return Ok(false) };
    let before = address.saturating_sub(start) as usize;
    Ok(device == ordinal as i32 && bytes <= size.saturating_sub(before))
}

/// Memory of the host that a device reads by itself: a copy out of it needs no waiting.
#[derive(Debug)]
pub struct Staging {
    host: *mut u8,
    /// Recorded after each copy out of it.
    copied: sys::CUevent,
    stream: Arc<Stream>,
}

/// As large as the latents of 16 pictures of SDXL.
const STAGED: usize = 4 << 20;

impl Staging {
    pub fn new(stream: &Arc<Stream>) -> Result<Self> {
        let create = || {
            let copied = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
            let mut staging = Staging { host: ptr::null_mut(), copied, stream: stream.clone() };
            // SAFETY: it is freed once, when `staging` is dropped.
            staging.host = unsafe { result::malloc_host(STAGED, 0) }?.cast();
            Ok(staging)
        };
        create().map_err(|error| failure("alloc", error))
    }

    /// Copies to the device; the host's bytes may change once this has returned. What does not fit is waited for.
    ///
    /// # Safety
    /// There are so many bytes at `to`.
    pub unsafe fn copy(
        &mut self,
        to: sys::CUdeviceptr,
        from: &[u8],
        stream: sys::CUstream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller's, of `to`. The staged bytes stay as they are until the event has been waited for, which the
        // next copy does first; a larger copy has ended before this returns.
        unsafe {
            if from.len() > STAGED {
                let queued = result::memcpy_htod_async(to, from, stream);
                return result::stream::synchronize(stream).and(queued);
            }
            result::event::synchronize(self.copied)?;
            ptr::copy_nonoverlapping(from.as_ptr(), self.host, from.len());
            sys::cuMemcpyHtoDAsync_v2(to, self.host.cast(), from.len(), stream).result()?;
            result::event::record(self.copied, stream)
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: both are ours, and no copy out of the memory is under way once the event has been waited for.
        self.stream.quietly(|| unsafe {
            let ended = result::event::synchronize(self.copied);
            let freed = if self.host.is_null() { Ok(()) } else { result::free_host(self.host.cast()) };
            result::event::destroy(self.copied).and(freed).and(ended)
        });
    }
}
