//! The `noisefork` command: a thin shell over the library.

mod bench;
mod bundle;
mod device;
mod doctor;
mod files;
mod inputs;
mod interrupt;
mod progress;
mod repaired;
mod replay;
mod samplers;
mod say;
mod shard;
mod sheet;
mod sigmas;
mod variations;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use noisefork::error::Error;

/// Samplers, seed-exact noise and the variation node for diffusion models.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Variations(Box<variations::Arguments>),
    Replay(replay::Arguments),
    Samplers(samplers::Arguments),
    Sigmas(sigmas::Arguments),
    Doctor(doctor::Arguments),
    Bench(Box<bench::Arguments>),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Variations(mut arguments) => variations::run(&mut arguments).map(|()| ExitCode::SUCCESS),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Samplers(arguments) => samplers::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Sigmas(arguments) => sigmas::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Doctor(arguments) => doctor::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match (result, say::lost()) {
        (Ok(code), None) => code,
        (Ok(_), Some(error)) => {
            eprintln!("error: standard output: {error}");
            ExitCode::from(1)
        }
        (Err(error), _) => {
            eprintln!("error: {error}");
            exit_code(&error)
        }
    }
}

/// 2 for what the user can mend, 1 for the rest.
fn exit_code(error: &Error) -> ExitCode {
    match error {
        Error::NotFinite { .. }
        | Error::Cancelled { .. }
        | Error::OutOfMemory { .. }
        | Error::DeviceLost { .. }
        | Error::Driver { .. } => ExitCode::from(1),
        _ => ExitCode::from(2),
    }
}
