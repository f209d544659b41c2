//! The launcher that is a GPU: NVIDIA's driver, opened when it is first needed and not before, so that one program starts
//! with and without it.
//!
//! All work goes to one stream, the launcher's own or the caller's, and never to the default stream.

mod capture;
mod clock;
mod device;
mod failure;
mod graph;
mod image;
mod kernels;
mod memory;
mod slice;
mod stream;

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

pub use device::{Device, devices, driver_version};
pub use graph::Graph;
pub use slice::{SliceTensor, SliceTensorMut};

use super::launch::{Boxes, Launcher, Plan, TensorMap};
use crate::error::{Error, Result};
use crate::tensor::DType;
use capture::Captures;
use clock::Event;
use failure::failure;
use kernels::Kernels;
use memory::{Pool, Staging};
use stream::Stream;

/// The most arguments of a kernel.
const MOST_ARGUMENTS: usize = 32;
/// The CUDA version since which the function that reads events is called what it is called now.
const OLDEST_THAT_TELLS_TIME: (u32, u32) = (12, 8);

/// A GPU and a stream of it.
///
/// Every thread may use it, and what it does follows the order of the calls. What a thread captures, it captures aside: the
/// stream, which others may use as well, sees only replays.
#[derive(Debug)]
pub struct Driver {
    device: Device,
    kernels: Kernels,
    pool: Pool,
    staging: Mutex<Staging>,
    captures: Captures,
    stream: Arc<Stream>,
}

// SAFETY: what the raw handles in it stand for belongs to no thread: the driver may be called from any, with the context
// made current, as every function here does first.
unsafe impl Send for Driver {}
// SAFETY: the driver's functions may be called on one context and stream from several threads at once; what may not be,
// staging memory and the list of a capture, is behind locks.
unsafe impl Sync for Driver {}

/// The architectures that this build has code for, and the CUDA release that compiled it; none without kernels.
pub fn embedded() -> (&'static [&'static str], &'static str) {
    (image::ARCHITECTURES, image::RELEASE)
}

impl Driver {
    /// A device by its number, with a stream of its own.
    ///
    /// # Errors
    /// [`Error::KernelsNotBuilt`], [`Error::NoDriver`], [`Error::DriverTooOld`], [`Error::NoDevice`],
    /// [`Error::UnsupportedArchitecture`], what the driver reports.
    pub fn new(ordinal: usize) -> Result<Self> {
        let device = usable(ordinal)?;
        let stream = open(ordinal)?.new_stream().map_err(|error| failure("cuda", error))?;
        Self::with(device, Stream::of(stream))
    }

    /// A stream that cudarc made.
    ///
    /// # Errors
    /// Those of [`Driver::new`]; [`Error::Value`] for the default stream, which cannot be captured.
    pub fn on(stream: Arc<CudaStream>) -> Result<Self> {
        let device = usable(stream.context().ordinal())?;
        Self::with(device, Stream::of(stream))
    }

    /// A stream of whoever else: a `CUstream`, or the runtime's `cudaStream_t`, which is the same.
    ///
    /// # Errors
    /// Those of [`Driver::on`].
    ///
    /// # Safety
    /// The stream belongs to the primary context of the device, and outlives this and all that is allocated from it.
    pub unsafe fn on_raw(ordinal: usize, stream: *mut c_void) -> Result<Self> {
        let device = usable(ordinal)?;
        Self::with(device, Stream::foreign(open(ordinal)?, stream.cast()))
    }

    fn with(device: Device, stream: Stream) -> Result<Self> {
        if stream.is_default() {
            let (op, what) = ("cuda", "stream");
            let expected = "another than the default stream, which cannot be captured".into();
            return Err(Error::Value { op, what, expected, got: format!("{:?}", stream.raw()) });
        }
        let stream = Arc::new(stream);
        stream.bind().map_err(|error| failure("cuda", error))?;
        Ok(Driver {
            kernels: Kernels::load(&stream, device.capability)?,
            pool: Pool::new(&stream, device.ordinal)?,
            staging: Mutex::new(Staging::new(&stream)?),
            captures: Captures::default(),
            device,
            stream,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The stream, a `CUstream`.
    pub fn stream(&self) -> *mut c_void {
        self.stream.raw().cast()
    }

    /// Waits for everything that was launched.
    ///
    /// # Errors
    /// Those of what was launched, or what the driver reports.
    pub fn synchronize(&self) -> Result<()> {
        self.call_now("synchronize", |stream| {
            // SAFETY: the stream lives as long as `self`.
            unsafe { result::stream::synchronize(stream) }
        })
    }

    /// How long the device takes for what `work` launches, by its own clock, and waits for that. The clock starts when what
    /// was launched before is done: if that is enough to keep the device busy until `work` returns, launching costs nothing.
    ///
    /// # Errors
    /// Those of `work`; [`Error::DriverTooOld`] before CUDA 12.8; what the driver reports.
    pub fn time(&self, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        device::expect_driver(OLDEST_THAT_TELLS_TIME)?;
        let event = || self.call_now("time", |_| Event::record(&self.stream));
        let start = event()?;
        work()?;
        let end = event()?;
        self.call_now("time", |_| end.since(&start))
    }

    /// Bytes of the device that are allocated here, by [`Launcher::alloc`].
    ///
    /// # Errors
    /// What the driver reports.
    pub fn memory_in_use(&self) -> Result<u64> {
        self.call("memory_in_use", |_| self.pool.in_use())
    }

    /// Calls the driver, with the context made current. What is called may be captured.
    fn call<T>(
        &self,
        op: &'static str,
        f: impl FnOnce(sys::CUstream) -> Result<T, DriverError>,
    ) -> Result<T> {
        let stream = self.captures.stream().unwrap_or(self.stream.raw());
        self.stream.bind().and_then(|()| f(stream)).map_err(|error| failure(op, error))
    }

    /// As [`Driver::call`], for what may not be captured.
    fn call_now<T>(
        &self,
        op: &'static str,
        f: impl FnOnce(sys::CUstream) -> Result<T, DriverError>,
    ) -> Result<T> {
        match self.captures.stream() {
            Some(_) => Err(Error::NotCapturable { op }),
            None => self.call(op, f),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Kernels may still run, and are unloaded next.
        // SAFETY: the stream lives as long as `self`.
        self.stream.quietly(|| unsafe { result::stream::synchronize(self.stream.raw()) });
    }
}

/// A device that this build can use.
fn usable(ordinal: usize) -> Result<Device> {
    if image::IMAGES.is_empty() {
        return Err(Error::KernelsNotBuilt);
    }
    let mut devices = devices()?;
    if ordinal >= devices.len() {
        return Err(Error::NoDevice { found: devices.len(), got: ordinal });
    }
    let device = devices.swap_remove(ordinal);
    device.check()?;
    Ok(device)
}

/// A device's primary context, which all libraries of a process have in common.
fn open(ordinal: usize) -> Result<Arc<CudaContext>> {
    CudaContext::new(ordinal).map_err(|error| failure("cuda", error))
}

/// The lock, also after a panic of its holder: what it guards is whole at every step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: the pool hands memory out once until it is freed, and frees in the stream's order.
unsafe impl Launcher for Driver {
    type Graph = Graph;

    fn multiprocessors(&self) -> u32 {
        self.device.multiprocessors
    }

    fn has(&self, address: u64, bytes: usize) -> Result<bool> {
        self.call("has", |_| memory::is_on_device(address, bytes, self.device.ordinal))
    }

    fn runs_hopper(&self) -> bool {
        self.kernels.have_hopper()
    }

    fn tensor_map(&self, boxes: &Boxes) -> Result<TensorMap> {
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let element = match boxes.element {
            DType::F64 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
            DType::F32 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            DType::F16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            DType::BF16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        };
        // SAFETY: the lists have as many entries as the rank says, and are read before this returns. Nothing is read at the
        // tensor's address.
        self.call("tensor_map", |_| unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                element,
                boxes.extents.len() as u32,
                boxes.pointer as *mut c_void,
                boxes.extents.as_ptr(),
                boxes.strides.as_ptr(),
                boxes.lengths.as_ptr(),
                boxes.steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
            .result()
        })?;
        Ok(TensorMap(map.opaque))
    }

    fn alloc(&self, bytes: usize) -> Result<u64> {
        self.call_now("alloc", |_| match self.pool.alloc(bytes) {
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            other => other.map(Some),
        })?
        .ok_or_else(|| Error::OutOfMemory { device: self.device.name.clone(), bytes })
    }

    unsafe fn free(&self, pointer: u64) {
        if !self.captures.hold(pointer) {
            // SAFETY: it came from `alloc` and is used no more, says the caller.
            unsafe { self.stream.free(pointer) }
        }
    }

    unsafe fn copy_to(&self, to: u64, from: &[u8]) -> Result<()> {
        self.call_now("copy_to", |stream| {
            // SAFETY: the caller's, of `to`.
            unsafe { locked(&self.staging).copy(to, from, stream) }
        })
    }

    unsafe fn copy_from(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.call_now("copy_from", |stream| {
            // SAFETY: the caller's, of `from`; `to` is borrowed until the copy has ended.
            unsafe {
                let queued = result::memcpy_dtoh_async(to, from, stream);
                result::stream::synchronize(stream).and(queued)
            }
        })
    }

    unsafe fn copy_within(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.call("copy_within", |stream| {
            // SAFETY: the caller's.
            unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }
        })
    }

    unsafe fn launch(&self, plan: &Plan, args: &[&[u8]]) -> Result<()> {
        let function = self.kernels.get(plan)?;
        let mut pointers = [ptr::null_mut::<c_void>(); MOST_ARGUMENTS];
        let Some(pointers) = pointers.get_mut(..args.len()) else {
            let (op, what) = (plan.kernel, "arguments");
            let (expected, got) = (format!("at most {MOST_ARGUMENTS}"), args.len().to_string());
            return Err(Error::Value { op, what, expected, got });
        };
        for (pointer, bytes) in pointers.iter_mut().zip(args) {
            *pointer = bytes.as_ptr().cast_mut().cast();
        }
        self.call(plan.kernel, |stream| {
            let [grid, block] = [plan.grid, plan.block].map(|[x, y, z]| (x, y, z));
            // SAFETY: the function's module is loaded as long as `self` lives. The driver copies the arguments before it
            // returns; that they are what the kernel takes is the caller's word.
            unsafe { result::launch_kernel(function, grid, block, plan.shared_memory, stream, pointers) }
        })
    }

    fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.call_now("capture", |_| Ok(()))?;
        self.captures.capture(&self.stream, work)
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        if !graph.is_of(&self.stream) {
            let got = "a graph that was captured on another stream".to_owned();
            return Err(Error::Driver { op: "replay", got });
        }
        self.call_now("replay", |_| graph.launch())
    }
}
