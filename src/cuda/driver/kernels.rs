use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use cudarc::driver::{DriverError, result, sys};

use super::failure::failure;
use super::image::{self, Aligned};
use super::stream::Stream;
use crate::cuda::launch::Plan;
use crate::cuda::manifest::{FILES, File, Kernel};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// What kernels are instantiated for.
const ELEMENTS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The kernels that a device can run, loaded.
#[derive(Debug)]
pub struct Kernels {
    /// By name and element type.
    functions: HashMap<(&'static str, DType), sys::CUfunction>,
    modules: Vec<sys::CUmodule>,
    stream: Arc<Stream>,
}

impl Kernels {
    /// Loads what the manifest lists for a device, whose context is current.
    pub fn load(stream: &Arc<Stream>, capability: (u32, u32)) -> Result<Self> {
        let mut kernels = Kernels { functions: HashMap::new(), modules: Vec::new(), stream: stream.clone() };
        for file in FILES.iter().filter(|file| is_for(file, capability)) {
            // A file is left out where code was built for other architectures than its own.
            if let Some((_, image)) = image::IMAGES.iter().find(|(name, _)| *name == file.name) {
                kernels.load_file(file, image).map_err(|error| failure(file.name, error))?;
            }
        }
        Ok(kernels)
    }

    fn load_file(&mut self, file: &File, image: &'static Aligned<[u8]>) -> Result<(), DriverError> {
        // SAFETY: nvcc wrote the image, which says itself how long it is.
        let module = unsafe { result::module::load_data(image.0.as_ptr().cast()) }?;
        self.modules.push(module);
        for Kernel { name, elements, .. } in file.kernels {
            for element in ELEMENTS.iter().filter(|element| elements.contains(&element.to_string().as_str()))
            {
                let entry = CString::new(format!("{name}_{element}")).unwrap_or_default();
                // SAFETY: the module was loaded above.
                let function = unsafe { result::module::get_function(module, entry) }?;
                allow_all_shared_memory(function)?;
                self.functions.insert((*name, *element), function);
            }
        }
        Ok(())
    }

    /// Whether the kernels for Hopper are among them.
    pub fn have_hopper(&self) -> bool {
        self.functions.keys().any(|(name, _)| name.starts_with("product_hopper"))
    }

    /// The instance of a kernel that a plan asks for.
    pub fn get(&self, plan: &Plan) -> Result<sys::CUfunction> {
        let known = self.functions.get(&(plan.kernel, plan.element)).copied();
        known.ok_or_else(|| Error::Driver {
            op: plan.kernel,
            got: format!("this build has none for {} on this device", plan.element),
        })
    }
}

/// Whether a device can run a file's code.
fn is_for(file: &File, capability: (u32, u32)) -> bool {
    let its_own = file.architectures.iter().copied();
    file.architectures.is_empty() || image::code_for(its_own, capability).is_some()
}

/// Lifts the limit of 48 KiB of dynamic shared memory, beyond which a kernel must ask.
fn allow_all_shared_memory(function: sys::CUfunction) -> Result<(), DriverError> {
    use CUfunction_attribute::{
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES as OWN,
    };
    let block = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    // SAFETY: the function was just loaded, into the current context.
    unsafe {
        let mut device = 0;
        sys::cuCtxGetDevice(&mut device).result()?;
        let block = result::device::get_attribute(device, block)?;
        let own = result::function::get_function_attribute(function, OWN)?;
        result::function::set_function_attribute(function, MOST, block - own)
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        for &module in &self.modules {
            // SAFETY: it was loaded once, and whoever launches from it holds `self`.
            self.stream.quietly(|| unsafe { result::module::unload(module) });
        }
    }
}
