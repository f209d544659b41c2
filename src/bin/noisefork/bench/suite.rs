//! Cases measured one after another on one pool of threads, and what becomes of their records.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use noisefork::error::{Error, Result};

use super::case::{Case, Effort, Times};
use super::ceiling::Ceiling;
use super::compare;
use super::machine::{Machine, peak_memory};
use super::record::Record;
use super::table;
use crate::files::Output;
use crate::say::say;

/// What all benchmarks have in common.
#[derive(Args)]
pub struct Common {
    /// Compute type
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    pub dtype: Dtype,
    /// Threads [default: as many as the machine has]
    #[arg(long)]
    threads: Option<usize>,
    /// How often each is run [default: for a second, and at least thrice]
    #[arg(long)]
    iterations: Option<usize>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where to write the records as JSON lines
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Say what moved beyond the noise since these records were written
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    F32,
    Bf16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// A JSON object a line
    Jsonl,
    /// A heading, and a line each
    Csv,
}

impl Dtype {
    fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
        }
    }
}

/// A run of `noisefork bench`.
pub struct Suite<'c> {
    bench: &'static str,
    common: &'c Common,
    ceiling: Ceiling,
    machine: Machine,
    records: Vec<Record>,
}

impl<'c> Suite<'c> {
    /// Has `measure` run its cases, on as many threads as were asked for, and reports on them.
    pub fn run(
        bench: &'static str,
        common: &'c Common,
        measure: impl FnOnce(&mut Suite<'c>) -> Result<()> + Send,
    ) -> Result<()> {
        // Refused before anything is measured, not after.
        let old = common.compare.as_deref().map(compare::read).transpose()?;
        let out = Output::create_if(&common.out)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(common.threads.unwrap_or(0)).build();
        let pool = pool.map_err(|error| Error::Value {
            op: "bench",
            what: "threads",
            expected: "as many as the system allows".into(),
            got: error.to_string(),
        })?;
        let records = pool.install(|| {
            let mut suite = Suite::new(bench, common);
            measure(&mut suite).map(|()| suite.records)
        })?;
        if let Some(old) = old {
            let report = compare::report(&old, &records);
            match common.format {
                Format::Table => say(report),
                Format::Jsonl | Format::Csv => eprintln!("{report}"),
            }
        }
        match out {
            Some(out) => {
                out.write_text(&records.iter().map(|record| record.to_json() + "\n").collect::<String>())
            }
            None => Ok(()),
        }
    }

    fn new(bench: &'static str, common: &'c Common) -> Self {
        let (ceiling, machine) = (Ceiling::measure(common.dtype), Machine::this());
        let first = format!(
            "{} threads, {}: at best {:.0} GFLOP/s, {:.1} GB/s",
            rayon::current_num_threads(),
            common.dtype.name(),
            ceiling.flops_per_s * 1e-9,
            ceiling.bytes_per_s * 1e-9
        );
        table::heading(common.format, &machine, &first);
        Suite { bench, common, ceiling, machine, records: Vec::new() }
    }

    /// Says something to people, not to programs.
    pub fn note(&self, text: impl Display) {
        if self.common.format == Format::Table {
            say(text);
        }
    }

    /// Measures a case.
    pub fn measure(&mut self, case: Case, work: impl FnMut() -> Result<()>) -> Result<()> {
        let effort = Effort { iterations: self.common.iterations, time: Duration::from_secs(1) };
        let record = Record {
            bench: self.bench.to_owned(),
            name: case.name,
            shape: case.shape,
            device: "cpu".to_owned(),
            dtype: self.common.dtype.name().to_owned(),
            threads: rayon::current_num_threads(),
            times: Times::of(effort, case.parts, work)?,
            flops: case.flops,
            bytes: case.bytes,
            model_calls: case.model_calls,
            peak_memory: peak_memory(),
            ceiling: self.ceiling,
            machine: self.machine.clone(),
        };
        table::line(self.common.format, &record);
        self.records.push(record);
        Ok(())
    }
}
