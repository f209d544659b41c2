//! With feature `cuda`, compiles `kernels/` for the driver to load; without it, does nothing.

#[path = "build/mod.rs"]
mod kernels;
#[path = "kernels/manifest.rs"]
#[allow(dead_code, reason = "what kernels are called and take is for the loader")]
mod manifest;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return ExitCode::SUCCESS;
    }
    let folder = |name| env::var_os(name).map(PathBuf::from).expect("cargo sets it");
    let build = kernels::Build {
        files: manifest::FILES,
        sources: folder("CARGO_MANIFEST_DIR").join("kernels"),
        out: folder("OUT_DIR"),
        variable: &|name| env::var_os(name),
        system: PathBuf::from("/usr/local/cuda"),
    };
    match build.run() {
        Ok(watched) => {
            watched.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
