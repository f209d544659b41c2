//! The GPU that tests run on, where there is one. `REQUIRE_GPU=1` makes it a failure that there is none.

use std::env;
use std::sync::{Arc, OnceLock};

use noisefork::cuda::{Compute, Cuda, Driver};
use noisefork::error::Result;

/// The first device, for `test`; without one, says so and why.
pub fn driver(test: &str) -> Option<Arc<Driver>> {
    static DRIVER: OnceLock<Result<Arc<Driver>>> = OnceLock::new();
    match DRIVER.get_or_init(|| Driver::new(0).map(Arc::new)) {
        Ok(driver) => Some(driver.clone()),
        Err(error) if env::var_os("REQUIRE_GPU").is_some_and(|value| value == "1") => {
            panic!("{test}: {error}")
        }
        Err(error) => {
            println!("{test}: skipped: {error}");
            None
        }
    }
}

/// The backend on it.
#[allow(dead_code, reason = "benchmarks want the driver alone")]
pub fn cuda<E: Compute>(test: &str) -> Option<Cuda<Driver, E>> {
    driver(test).map(Cuda::new)
}

/// How many random cases: ten times those that the emulator has time for, or a tenth under `GPU_CASES=few`, for checkers.
#[allow(dead_code, reason = "as above")]
pub fn cases(emulated: u32) -> u32 {
    if env::var_os("GPU_CASES").is_some_and(|value| value == "few") {
        emulated / 10 + 1
    } else {
        10 * emulated
    }
}
