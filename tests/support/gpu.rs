//! The GPU that tests run on, where there is one. `REQUIRE_GPU=1` makes it a failure that there is none.

use std::env;
use std::sync::{Arc, OnceLock};

use noisefork::cuda::{Compute, Cuda, Driver};
use noisefork::error::Result;

/// The first device, for `test`; without one, says so and why.
pub fn cuda<E: Compute>(test: &str) -> Option<Cuda<Driver, E>> {
    static DRIVER: OnceLock<Result<Arc<Driver>>> = OnceLock::new();
    match DRIVER.get_or_init(|| Driver::new(0).map(Arc::new)) {
        Ok(driver) => Some(Cuda::new(driver.clone())),
        Err(error) if env::var_os("REQUIRE_GPU").is_some_and(|value| value == "1") => {
            panic!("{test}: {error}")
        }
        Err(error) => {
            println!("{test}: skipped: {error}");
            None
        }
    }
}
