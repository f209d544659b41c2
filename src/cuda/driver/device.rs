//! What there is: a driver, devices.

use cudarc::driver::{DriverError, result, sys};

use super::failure::{describe, failure};
use super::image::{self, Code};
use crate::error::{Error, Result};

/// The oldest driver whose functions are all there.
const OLDEST: (u32, u32) = (11, 4);

/// A GPU that the driver shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Its number, in the order of `CUDA_VISIBLE_DEVICES`.
    pub ordinal: usize,
    /// Its product name.
    pub name: String,
    /// Its compute capability, major and minor.
    pub capability: (u32, u32),
    /// Its memory in bytes.
    pub memory: usize,
    /// Its multiprocessors, which the noise of torch's GPUs depends on.
    pub multiprocessors: u32,
    /// The threads that each of them holds at once.
    pub threads_per_multiprocessor: u32,
    /// Bytes of the cache that they share.
    pub cache: usize,
}

impl Device {
    /// Whether this build has code for it, and a driver that takes the code.
    ///
    /// # Errors
    /// [`Error::KernelsNotBuilt`], [`Error::UnsupportedArchitecture`], [`Error::DriverTooOld`].
    pub fn check(&self) -> Result<()> {
        if image::IMAGES.is_empty() {
            return Err(Error::KernelsNotBuilt);
        }
        let Some(code) = image::code_for(image::ARCHITECTURES.iter().copied(), self.capability) else {
            return Err(Error::UnsupportedArchitecture {
                device: self.name.clone(),
                got: format!("sm_{}{}", self.capability.0, self.capability.1),
                embedded: image::ARCHITECTURES.iter().map(|&name| name.to_owned()).collect(),
            });
        };
        expect_driver(image::driver_for(image::RELEASE, code))
    }

    /// Whether the driver has to compile the code for it, since it is of no family that there is machine code for.
    pub fn compiles(&self) -> bool {
        image::code_for(image::ARCHITECTURES.iter().copied(), self.capability) == Some(Code::Ptx)
    }
}

/// The newest CUDA version that the driver supports, major and minor.
///
/// # Errors
/// [`Error::NoDriver`].
pub fn driver_version() -> Result<(u32, u32)> {
    let missing = |got: &str| Error::NoDriver { got: got.to_owned() };
    // SAFETY: opening the driver's library runs what it does when it is loaded, as everyone does who uses a GPU.
    if !unsafe { sys::is_culib_present() } {
        return Err(missing("no library libcuda.so (nvcuda.dll on Windows)"));
    }
    let mut version = 0;
    // SAFETY: the library is there; the function has been in every one, may be called before `cuInit`, and writes one int.
    let result = unsafe { sys::cuDriverGetVersion(&mut version) };
    match (result, u32::try_from(version)) {
        (sys::CUresult::CUDA_SUCCESS, Ok(version)) => Ok((version / 1000, version % 1000 / 10)),
        _ => Err(missing(&format!("a library that has no version: {result:?}"))),
    }
}

/// The devices that the driver shows.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::DriverTooOld`], what the driver reports.
pub fn devices() -> Result<Vec<Device>> {
    // Before anything else is called: an older one lacks functions.
    expect_driver(OLDEST)?;
    let count = match result::init().and_then(|()| result::device::get_count()) {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        Err(error) => return Err(Error::NoDriver { got: describe(error) }),
    };
    (0..count).map(|ordinal| device(ordinal).map_err(|error| failure("cuda", error))).collect()
}

fn device(ordinal: usize) -> Result<Device, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let handle = result::device::get(ordinal as i32)?;
    let attribute = |which| {
        // SAFETY: the handle is the driver's own.
        unsafe { result::device::get_attribute(handle, which) }.map(|value| u32::try_from(value).unwrap_or(0))
    };
    Ok(Device {
        ordinal,
        name: result::device::get_name(handle)?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(handle) }?,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        threads_per_multiprocessor: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?,
        cache: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
    })
}

/// A driver for this CUDA version or a newer one.
pub fn expect_driver(expected: (u32, u32)) -> Result<()> {
    let got = driver_version()?;
    if got >= expected {
        return Ok(());
    }
    let text = |(major, minor)| format!("{major}.{minor}");
    Err(Error::DriverTooOld { expected: text(expected), got: text(got) })
}
