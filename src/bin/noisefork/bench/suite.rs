//! Cases measured one after another on one pool of threads, and what becomes of their records.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use noisefork::error::{Error, Result};

use super::case::{Case, Effort};
use super::compare;
use super::machine::{commit, forget_peak_memory, peak_memory};
use super::record::{Ceiling, Machine, Part, Record};
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
    common: &'c Common,
    machine: Machine,
    commit: Option<String>,
    records: Vec<Record>,
}

impl<'c> Suite<'c> {
    /// Has `measure` run its cases, on as many threads as were asked for, and reports on them.
    pub fn run(common: &'c Common, measure: impl FnOnce(&mut Suite<'c>) -> Result<()> + Send) -> Result<()> {
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
            let mut suite = Suite::new(common);
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
                out.write_text(&records.iter().map(|record| table::json(record) + "\n").collect::<String>())
            }
            None => Ok(()),
        }
    }

    fn new(common: &'c Common) -> Self {
        let (machine, commit) = (Machine::this(), commit());
        table::heading(common.format, &machine, commit.as_deref());
        Suite { common, machine, commit, records: Vec::new() }
    }

    /// Says something to people, not to programs.
    pub fn note(&self, text: impl Display) {
        if self.common.format == Format::Table {
            say(text);
        }
    }

    /// Measures a case.
    pub fn measure(&mut self, case: Case, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        self.measure_parts(case, |_| work())
    }

    /// Measures a case that tells of what its fastest pass consisted.
    pub fn measure_parts(
        &mut self,
        case: Case,
        mut work: impl FnMut(&mut Vec<Part>) -> Result<()>,
    ) -> Result<()> {
        let effort = Effort { iterations: self.common.iterations, time: Duration::from_secs(1) };
        let ceiling = Ceiling::measure(self.common.dtype);
        forget_peak_memory();
        let mut parts = Vec::new();
        let passes = effort.seconds(|| work(&mut parts))?;
        let record = Record {
            engine: "noisefork".to_owned(),
            form: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: self.commit.clone(),
            what: case.what,
            batch: case.batch,
            dtype: self.common.dtype.name().to_owned(),
            device: "cpu".to_owned(),
            threads: rayon::current_num_threads(),
            seconds: passes.into_iter().map(|pass| pass / case.parts as f64).collect(),
            peak_bytes: peak_memory(),
            flops: case.flops,
            bytes: case.bytes,
            model_calls: case.model_calls,
            parts,
            ceiling: Some(ceiling),
            machine: self.machine.clone(),
        };
        table::line(self.common.format, &record);
        self.records.push(record);
        Ok(())
    }
}
