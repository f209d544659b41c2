//! `noisefork bench`: what this machine makes of the crate's parts, with all that is needed to believe it.

mod case;
mod ceiling;
mod compare;
#[cfg(feature = "cuda")]
mod gpu;
mod machine;
mod meter;
mod ops;
mod preset;
mod record;
mod sampler;
mod suite;
mod table;
mod unet;
mod variations;

use clap::{Args, Subcommand};
use noisefork::error::Result;

use suite::Suite;

/// Measure operations, UNets, samplers or variations, beside what the machine could do.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Ops(ops::Arguments),
    Unet(unet::Arguments),
    Sampler(sampler::Arguments),
    Variations(variations::Arguments),
    Machine(machine::Arguments),
}

pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Ops(arguments) => Suite::run(&arguments.common, arguments.device, arguments),
        What::Unet(arguments) => Suite::run(&arguments.common, arguments.device, arguments),
        What::Sampler(arguments) => Suite::run(&arguments.common, arguments.device, arguments),
        What::Variations(arguments) => Suite::run(&arguments.common, arguments.inputs.device, arguments),
        What::Machine(arguments) => machine::run(arguments),
    }
}
