//! Compiles the runtime, and the kernels as C++ against it.

use std::path::Path;

#[path = "../kernels/manifest.rs"]
#[allow(dead_code, reason = "the files' names are enough here")]
mod manifest;

fn main() {
    let kernels = Path::new("../kernels");
    println!("cargo:rerun-if-changed=../kernels");
    println!("cargo:rerun-if-changed=runtime");
    println!("cargo:rerun-if-changed=tests/kernels");
    let files = |names: &[&str]| -> Vec<_> {
        names.iter().map(|name| Path::new("runtime").join(name).with_extension("cpp")).collect()
    };
    // All of both is linked, since the kernels need the runtime and a linker may look at it first.
    base()
        .link_lib_modifier("+whole-archive")
        .files(files(&[
            "async_copy",
            "barrier",
            "checker",
            "clocks",
            "device",
            "fiber",
            "mbarrier",
            "memory",
            "numbers",
            "registry",
            "report",
            "schedule",
            "tensor_copy",
            "warp",
            "warpgroup",
        ]))
        .compile("emulator_runtime");
    // The hooks of the thread sanitizer are the checker's: its own library is not linked. A kernel registers itself, and
    // nothing else refers to it, so the linker must be told to keep it.
    base()
        .include("runtime")
        .include(kernels)
        .warnings(false)
        .flags(["-x", "c++", "-fsanitize=thread", "-fno-strict-aliasing", "-ffp-contract=off", "-Wno-psabi"])
        .flag_if_supported("-ftrivial-auto-var-init=pattern")
        .link_lib_modifier("+whole-archive")
        .files(manifest::FILES.iter().map(|file| kernels.join(file.name).with_extension("cu")))
        .file("tests/kernels/mutants.cu")
        .file("tests/kernels/mutants_hopper.cu")
        .compile("emulator_kernels");
}

fn base() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).debug(true).warnings_into_errors(true);
    build
}
