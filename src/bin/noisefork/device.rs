//! What computes, by its name on the command line.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "cuda")]
use std::sync::Arc;

#[cfg(feature = "cuda")]
use half::f16;
use noisefork::cpu::{Cpu, Isa};
#[cfg(feature = "cuda")]
use noisefork::cuda::{Cuda, Driver, driver};
use noisefork::error::{Error, Result};

/// `auto`, `cpu` with the best of its instruction sets or with one by its name, or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Auto,
    Cpu(Option<Isa>),
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let refuse = || {
            format!("expected auto, cpu, cpu:ISA such as cpu:avx2, or cuda:N such as cuda:0, got {text:?}")
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(Device::Auto),
            None if text == "cpu" => Ok(Device::CPU),
            Some(("cpu", isa)) => {
                isa.parse().map(|isa| Device::Cpu(Some(isa))).map_err(|error: Error| error.to_string())
            }
            Some(("cuda", ordinal)) => ordinal.parse().map(Device::Cuda).map_err(|_| refuse()),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu(None) => f.write_str("cpu"),
            Device::Cpu(Some(isa)) => write!(f, "cpu:{isa}"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// A device that is ready.
pub enum Opened {
    /// By an instruction set that this machine has.
    Cpu(Isa),
    #[cfg(feature = "cuda")]
    Cuda(Box<Driver>),
}

impl Device {
    pub const CPU: Self = Device::Cpu(None);

    /// With the instruction set that `cpu` stands for in f32, since that is a part of what bits come out.
    pub fn with_isa(self) -> Self {
        if self == Self::CPU { Device::Cpu(Some(Isa::best().in_f32())) } else { self }
    }

    /// Makes the device ready; `Auto` becomes what it stands for: the CPU.
    pub fn open(&mut self) -> Result<Opened> {
        if *self == Device::Auto {
            *self = Device::CPU;
            why_cpu().inspect(|why| eprintln!("note: --device cpu: {why}"));
        }
        match *self {
            Device::Cuda(ordinal) => open_cuda(ordinal),
            Device::Cpu(Some(isa)) => Ok(Opened::Cpu(Cpu::<f32>::with_isa(isa)?.isa())),
            _ => Ok(Opened::Cpu(Isa::best())),
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
