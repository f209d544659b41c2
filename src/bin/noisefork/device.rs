//! What computes, by its name on the command line.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "cuda")]
use std::sync::Arc;

#[cfg(feature = "cuda")]
use half::f16;
#[cfg(feature = "cuda")]
use noisefork::cuda::{Cuda, Driver, driver};
#[cfg(not(feature = "cuda"))]
use noisefork::error::Error;
use noisefork::error::Result;

/// `auto`, `cpu` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Auto,
    Cpu,
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Device::Auto),
            ("cpu", _) => Ok(Device::Cpu),
            (_, Some(Ok(ordinal))) => Ok(Device::Cuda(ordinal)),
            _ => Err(format!("expected auto, cpu or cuda:N such as cuda:0, got {text:?}")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// A device that is ready.
pub enum Opened {
    Cpu,
    #[cfg(feature = "cuda")]
    Cuda(Box<Driver>),
}

impl Device {
    /// Makes the device ready; `Auto` becomes what it stands for: the CPU.
    pub fn open(&mut self) -> Result<Opened> {
        if *self == Device::Auto {
            *self = Device::Cpu;
            why_cpu().inspect(|why| eprintln!("note: --device cpu: {why}"));
        }
        match *self {
            Device::Cuda(ordinal) => open_cuda(ordinal),
            _ => Ok(Opened::Cpu),
        }
    }
}

/// Why `auto` stands for the CPU, if this build leaves a choice. Until the kernels have run on a GPU, one that could be used
/// is taken by its name alone.
#[cfg(feature = "cuda")]
pub fn why_cpu() -> Option<String> {
    let devices = match driver::devices() {
        Ok(devices) => devices,
        Err(error) => return Some(error.to_string()),
    };
    let mut why = "the driver shows no GPU".to_owned();
    for device in devices {
        let driver::Device { ordinal, name, .. } = &device;
        match device.check() {
            Ok(()) => {
                return Some(format!("no kernel has run on a GPU yet; --device cuda:{ordinal} takes {name}"));
            }
            Err(error) => why = error.to_string(),
        }
    }
    Some(why)
}

/// Why `auto` stands for the CPU: there is no choice.
#[cfg(not(feature = "cuda"))]
pub fn why_cpu() -> Option<String> {
    None
}

/// The GPU that a driver leads to, computing in f16, as models of this kind are run.
#[cfg(feature = "cuda")]
pub fn cuda(driver: Driver) -> Arc<Cuda<Driver, f16>> {
    Arc::new(Cuda::new(Arc::new(driver)))
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize) -> Result<Opened> {
    Ok(Opened::Cuda(Box::new(Driver::new(ordinal)?)))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize) -> Result<Opened> {
    Err(Error::CudaNotBuilt)
}
