//! Single operations by NVIDIA's libraries: `gpu_ops LIBRARY DTYPE BATCH PASSES CASE ...`
//!
//! `cuBLASLt` does linear layers, bias and residual in the product; `cuDNN` convolutions alone, channels last, of images
//! that are doubled already. SiLU and GEGLU are left out. What is fastest of all that a library offers is looked for
//! before it is timed. Other cases are left out.

mod clock;
mod cublaslt;
mod cudnn;
mod element;

use std::error::Error;

use half::{bf16, f16};
use rivals::Arguments;

use clock::Clock;
use element::Element;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "gpu_ops cuBLASLt|cuDNN f32|f16|bf16 BATCH PASSES CASE ...";

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let (library, dtype) = (words.next().ok_or(USAGE)?, words.next().ok_or(USAGE)?);
    let arguments = Arguments::parse(words).ok_or(USAGE)?;
    match dtype.as_str() {
        "f32" => operations::<f32>(&library, &arguments),
        "f16" => operations::<f16>(&library, &arguments),
        "bf16" => operations::<bf16>(&library, &arguments),
        _ => Err(USAGE.into()),
    }
}

fn operations<T: Element>(library: &str, arguments: &Arguments) -> Result<()> {
    need("libcuda.so, NVIDIA's driver,", cudarc::driver::sys::is_culib_present)?;
    match library {
        "cuBLASLt" => need("libcublasLt.so", cudarc::cublaslt::sys::is_culib_present)?,
        "cuDNN" => need("libcudnn.so", cudarc::cudnn::sys::is_culib_present)?,
        _ => return Err(USAGE.into()),
    }
    let mut clock = Clock::open()?;
    match library {
        "cuBLASLt" => cublaslt::linear_layers::<T>(&mut clock, arguments),
        _ => cudnn::convolutions::<T>(&mut clock, arguments),
    }
}

/// Refuses where the system has no such library, which cudarc would panic about.
fn need(file: &str, present: unsafe fn() -> bool) -> Result<()> {
    // SAFETY: it only tries to open what the system has under the library's names.
    if unsafe { present() } {
        return Ok(());
    }
    Err(format!("{file} is neither in LD_LIBRARY_PATH nor where the system looks").into())
}
