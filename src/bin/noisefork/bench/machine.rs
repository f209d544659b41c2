//! What a record says of the machine, and of the program's source.

use std::fs;
use std::process::Command;

use clap::Args;
use noisefork::error::Result;
use serde_json::json;

use super::record::Machine;
use crate::doctor::features;
use crate::say::say;

/// Print what records say of this machine and this checkout, as JSON, for what else is measured here
#[derive(Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    say(json!({ "machine": Machine::this(), "commit": commit() }));
    Ok(())
}

impl Machine {
    pub fn this() -> Self {
        Machine {
            cpu: cpu().unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: kilobytes("/proc/meminfo", "MemTotal:"),
            architecture: std::env::consts::ARCH.to_owned(),
            features: features().into_iter().map(str::to_owned).collect(),
            system: std::env::consts::OS.to_owned(),
            gpu: None,
        }
    }
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The commit that the program's source is at; `None` where there is no repository.
pub fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}+") })
}

/// Begins anew to look for [`peak_memory`], where the system can: Linux does on a 5.
pub fn forget_peak_memory() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process has held, in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

/// The bytes in a line such as `VmHWM:  1024 kB`.
fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
