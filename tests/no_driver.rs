//! One program, with and without NVIDIA's driver: what it says where there is none. Where there is one, the tests that
//! want none say that they are skipped.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn noisefork(arguments: &[&str]) -> (Output, TempDir) {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_noisefork"));
    let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
    (output, folder)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command with a device; returns what was said on standard error. `None`: there is a driver.
fn refused(command: &[&str]) -> Option<String> {
    if has_driver() {
        println!("skipped: this machine has a driver");
        return None;
    }
    let (output, folder) = noisefork(command);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "something was left behind");
    Some(text(&output.stderr))
}

#[cfg(feature = "cuda")]
fn has_driver() -> bool {
    noisefork::cuda::driver::driver_version().is_ok()
}

/// Never asked for.
#[cfg(not(feature = "cuda"))]
fn has_driver() -> bool {
    false
}

#[test]
fn a_device_that_cannot_be_used_is_refused_in_words() {
    for command in [
        ["variations", "--device", "cuda:0"].as_slice(),
        &["bench", "ops", "--device", "cuda:0", "--out", "out"],
        &["bench", "unet", "--device", "cuda:0", "--out", "out"],
        &["bench", "sampler", "--device", "cuda:0", "--out", "out"],
        &["bench", "variations", "--device", "cuda:0", "--out", "out"],
    ] {
        let Some(said) = refused(command) else { return };
        #[cfg(not(feature = "cuda"))]
        assert!(said.contains("this build has no CUDA"), "{said}");
        #[cfg(feature = "cuda")]
        match noisefork::cuda::driver::embedded() {
            ([], _) => assert!(said.contains("this build has no kernels"), "{said}"),
            _ => assert!(said.contains("expected an NVIDIA driver"), "{said}"),
        }
    }
}

#[test]
fn a_device_that_is_none_is_refused_before_anything_is_done() {
    for device in ["cuda:", "cuda:-1", "cuda:x", "gpu", "CPU", ""] {
        let (output, _) = noisefork(&["variations", "--device", device]);
        assert_eq!(output.status.code(), Some(2), "{device:?}");
        assert!(text(&output.stderr).contains("auto, cpu, cpu:ISA"), "{device:?}: {}", text(&output.stderr));
    }
}

#[test]
fn auto_takes_the_cpu_and_says_why_where_there_was_a_choice() {
    if has_driver() {
        return println!("skipped: this machine has a driver");
    }
    let small = ["variations", "--steps", "2", "--batch", "1", "--out", "out.safetensors"];
    let run = |device: &[&str]| {
        let (output, folder) = noisefork(&[&small[..], device].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (std::fs::read(folder.path().join("out.safetensors")).unwrap(), text(&output.stderr))
    };
    let (auto, said) = run(&[]);
    assert_eq!(auto, run(&["--device", "cpu"]).0);
    assert_eq!(
        said.contains("note: --device cpu: cuda: expected an NVIDIA driver"),
        cfg!(feature = "cuda"),
        "{said}"
    );
}

#[test]
fn the_doctor_tells_what_there_is() {
    let (output, _) = noisefork(&["doctor"]);
    assert!(output.status.success());
    let said = text(&output.stdout);
    let names: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let cuda: &[&str] = if cfg!(feature = "cuda") { &["kernels", "driver"] } else { &["cuda"] };
    for name in ["noisefork", "cpu", "auto"].iter().chain(cuda) {
        assert!(names.contains(name), "{name} is not in\n{said}");
    }
    if !has_driver() {
        assert!(said.lines().any(|line| line.starts_with("auto       cpu")), "{said}");
    }
}

/// The program must not be tied to the driver's library: it would not start without.
#[cfg(target_os = "linux")]
#[test]
fn the_program_is_not_linked_to_the_driver() {
    let program = std::fs::read(Path::new(env!("CARGO_BIN_EXE_noisefork"))).unwrap();
    // The names of the libraries that the loader wants end in a version, as "libc.so.6" does; those that are opened later
    // have none in the program.
    let wanted = b"libcuda.so.1\0";
    assert!(!program.windows(wanted.len()).any(|bytes| bytes == wanted));
}

#[cfg(feature = "cuda")]
mod the_library {
    use noisefork::cuda::Driver;
    use noisefork::cuda::driver::{devices, driver_version, embedded};
    use noisefork::error::Error;

    #[test]
    fn gives_typed_errors_on_every_thread_and_panics_on_none() {
        if driver_version().is_ok() {
            return println!("skipped: this machine has a driver");
        }
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert!(matches!(driver_version(), Err(Error::NoDriver { .. })));
                    assert!(matches!(devices(), Err(Error::NoDriver { .. })));
                    let error = Driver::new(0).unwrap_err();
                    match embedded() {
                        ([], _) => assert_eq!(error, Error::KernelsNotBuilt),
                        _ => assert!(matches!(error, Error::NoDriver { .. }), "{error:?}"),
                    }
                });
            }
        });
    }
}
