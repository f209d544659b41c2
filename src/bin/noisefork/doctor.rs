use clap::Args;
#[cfg(target_arch = "x86_64")]
use noisefork::cpu::Isa;
use noisefork::error::Result;

use crate::device::why_cpu;
use crate::say::say;

/// Tell what this machine and this build have to compute with, and what `--device auto` makes of it.
#[derive(Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    let line = |what: &str, found: String| say(format_args!("{what:<10} {found}"));
    line("noisefork", env!("CARGO_PKG_VERSION").to_owned());
    line("cpu", cpu());
    cuda(&line);
    line("auto", format!("cpu{}", why_cpu().map_or(String::new(), |why| format!(": {why}"))));
    Ok(())
}

fn cpu() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{threads} threads, {} {}", std::env::consts::ARCH, features().join(" "))
}

/// The instructions that the loops choose among, as far as the machine has them.
#[cfg(target_arch = "x86_64")]
pub fn features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt)*) => { [$(($name, is_x86_feature_detected!($name))),*] };
    }
    let features = detected!("avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512bf16" "avx512fp16");
    let amx = ("amx-bf16", Isa::Amx.is_available());
    features.into_iter().chain([amx]).filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
pub fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(feature = "cuda")]
fn cuda(line: &dyn Fn(&str, String)) {
    use noisefork::cuda::driver::{devices, driver_version, embedded};
    line(
        "kernels",
        match embedded() {
            ([], _) => "none: NOISEFORK_KERNELS was skip when this was built".to_owned(),
            (architectures, release) => format!("by CUDA {release} for {}", architectures.join(", ")),
        },
    );
    match driver_version() {
        Ok((major, minor)) => line("driver", format!("for CUDA {major}.{minor}")),
        Err(error) => return line("driver", error.to_string()),
    }
    let devices = match devices() {
        Ok(devices) => devices,
        Err(error) => return line("devices", error.to_string()),
    };
    for device in devices {
        let (major, minor) = device.capability;
        let found = format!(
            "{}, sm_{major}{minor}, {:.1} GiB, {} multiprocessors",
            device.name,
            device.memory as f64 / f64::from(1 << 30),
            device.multiprocessors
        );
        let verdict = match device.check() {
            Ok(()) if device.compiles() => "usable; the driver compiles the kernels for it".to_owned(),
            Ok(()) => "usable".to_owned(),
            Err(error) => error.to_string(),
        };
        line(&format!("cuda:{}", device.ordinal), format!("{found}: {verdict}"));
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(line: &dyn Fn(&str, String)) {
    line("cuda", "not in this build: feature `cuda` is off".to_owned());
}
