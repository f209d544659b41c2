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
    println!("cargo:rerun-if-env-changed=EMULATOR_BUILD");
    println!("cargo:rustc-check-cfg=cfg(sanitized)");
    let variant = Variant::chosen();
    if variant == Variant::Sanitized {
        println!("cargo:rustc-cfg=sanitized");
        // Before all other libraries, as they must be loaded.
        println!("cargo:rustc-link-lib=dylib=asan");
        println!("cargo:rustc-link-lib=dylib=ubsan");
    }
    let base = || base(variant);
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
    // A kernel registers itself, and nothing else refers to it, so the linker must be told to keep it.
    let mut kernels_build = base();
    kernels_build
        .include("runtime")
        .include(kernels)
        .warnings(false)
        .flags(["-x", "c++", "-fno-strict-aliasing", "-ffp-contract=off", "-Wno-psabi"])
        .flag_if_supported("-ftrivial-auto-var-init=pattern")
        .link_lib_modifier("+whole-archive")
        .files(manifest::FILES.iter().map(|file| kernels.join(file.name).with_extension("cu")))
        .file("tests/kernels/mutants.cu")
        .file("tests/kernels/mutants_hopper.cu");
    if variant != Variant::Sanitized {
        // The hooks of the thread sanitizer are the checker's: its own library is not linked.
        kernels_build.flag("-fsanitize=thread");
    }
    kernels_build.compile("emulator_kernels");
}

/// What is built, as `EMULATOR_BUILD` says.
#[derive(Clone, Copy, PartialEq)]
enum Variant {
    Usual,
    /// With fibers as they are elsewhere than on x86-64.
    Ucontext,
    /// Under gcc's sanitizers for addresses and undefined behaviour, in place of the checker's hooks.
    Sanitized,
}

impl Variant {
    fn chosen() -> Self {
        match std::env::var("EMULATOR_BUILD").as_deref() {
            Err(_) | Ok("") => Variant::Usual,
            Ok("ucontext") => Variant::Ucontext,
            Ok("sanitized") => Variant::Sanitized,
            Ok(other) => panic!("EMULATOR_BUILD must be ucontext, sanitized or empty, got {other}"),
        }
    }
}

fn base(variant: Variant) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).debug(true).warnings_into_errors(true);
    match variant {
        Variant::Usual => {}
        Variant::Ucontext => {
            build.define("EMULATOR_UCONTEXT", None);
        }
        Variant::Sanitized => {
            build.define("EMULATOR_SANITIZED", None);
            build.flags([
                "-fsanitize=address,undefined",
                "-fno-sanitize-recover=all",
                "-fno-omit-frame-pointer",
            ]);
        }
    }
    build
}
