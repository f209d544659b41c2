//! Cases measured one after another on one pool of threads, and what becomes of their records.

use std::fmt::Display;
use std::path::PathBuf;
#[cfg(feature = "cuda")]
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use half::bf16;
#[cfg(feature = "cuda")]
use half::f16;
use noisefork::cpu::{self, Cpu, Isa};
#[cfg(feature = "cuda")]
use noisefork::cuda::{Compute, Cuda, Driver};
use noisefork::error::{Error, Result};
use noisefork::ops::Backend;
use noisefork::tensor::DType;

use super::case::{Case, Effort, Pass};
use super::compare;
#[cfg(feature = "cuda")]
use super::gpu::Gpu;
use super::machine::commit;
use super::meter::{Host, Meter};
use super::record::{Machine, Record};
use super::table;
use crate::device::{Device, Opened};
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
    /// On a GPU
    F16,
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
    /// As the library has it.
    pub fn dtype(self) -> DType {
        match self {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        }
    }
}

/// What can be measured on any backend.
pub trait Benchmark: Sync {
    /// Measures its cases on what `backend` makes.
    fn measure<B: Backend>(&self, suite: &mut Suite<'_>, backend: impl Fn() -> B) -> Result<()>;
}

/// A run of `noisefork bench`.
pub struct Suite<'c> {
    common: &'c Common,
    meter: &'c mut dyn Meter,
    machine: Machine,
    commit: Option<String>,
    records: Vec<Record>,
}

impl<'c> Suite<'c> {
    /// Has a benchmark run its cases on a device, with as many threads as were asked for, and reports on them.
    pub fn run(common: &Common, mut device: Device, benchmark: &impl Benchmark) -> Result<()> {
        // Refused before anything is measured, not after.
        let opened = device.open()?;
        let old = common.compare.as_deref().map(compare::read).transpose()?;
        let out = Output::create_if(&common.out)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(common.threads.unwrap_or(0)).build();
        let pool = pool.map_err(|error| Error::Value {
            op: "bench",
            what: "threads",
            expected: "as many as the system allows".into(),
            got: error.to_string(),
        })?;
        let records = pool.install(|| match opened {
            Opened::Cpu(isa) => on_cpu(common, device, isa, benchmark),
            #[cfg(feature = "cuda")]
            Opened::Cuda(driver) => on_gpu(common, *driver, benchmark),
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

    /// The records of a benchmark.
    fn records<B: Backend>(
        common: &'c Common,
        meter: &'c mut dyn Meter,
        benchmark: &impl Benchmark,
        backend: impl Fn() -> B,
    ) -> Result<Vec<Record>> {
        let (machine, commit) = (Machine { gpu: meter.gpu(), ..Machine::this() }, commit());
        table::heading(common.format, &machine, commit.as_deref());
        let mut suite = Suite { common, meter, machine, commit, records: Vec::new() };
        benchmark.measure(&mut suite, backend)?;
        Ok(suite.records)
    }

    pub fn dtype(&self) -> DType {
        self.common.dtype.dtype()
    }

    /// Whether it is a GPU that is measured.
    pub fn is_on_gpu(&self) -> bool {
        self.machine.gpu.is_some()
    }

    /// Says something to people, not to programs.
    pub fn note(&self, text: impl Display) {
        if self.common.format == Format::Table {
            say(text);
        }
    }

    /// Measures a case.
    pub fn measure(&mut self, case: Case, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        self.measure_passes(case, |_| work())
    }

    /// Measures a case whose passes tell of themselves: the last that did counts.
    pub fn measure_passes(
        &mut self,
        case: Case,
        mut work: impl FnMut(&mut Pass) -> Result<()>,
    ) -> Result<()> {
        let effort = Effort { iterations: self.common.iterations, time: Duration::from_secs(1) };
        let ceiling = self.meter.ceiling()?;
        self.meter.forget_memory();
        let mut pass = Pass::default();
        let seconds = effort.seconds(|| self.meter.seconds(&mut || work(&mut pass)))?;
        let record = Record {
            engine: "noisefork".to_owned(),
            form: case.form.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: self.commit.clone(),
            what: case.what,
            batch: case.batch,
            dtype: self.dtype().to_string(),
            device: self.meter.device().to_string(),
            threads: rayon::current_num_threads(),
            seconds: seconds.into_iter().map(|pass| pass / case.parts as f64).collect(),
            peak_bytes: self.meter.memory()?,
            flops: case.flops,
            bytes: case.bytes,
            model_calls: case.model_calls,
            kernels: case.kernels,
            launches: pass.launches,
            parts: pass.parts,
            ceiling: Some(ceiling),
            machine: self.machine.clone(),
        };
        table::line(self.common.format, &record);
        self.records.push(record);
        Ok(())
    }
}

fn on_cpu(common: &Common, device: Device, isa: Isa, benchmark: &impl Benchmark) -> Result<Vec<Record>> {
    // The machine has it, or the device would not be open.
    fn cpu<E: cpu::Compute>(isa: Isa) -> Cpu<E> {
        Cpu::with_isa(isa).unwrap_or_default()
    }
    let host = &mut Host { device, dtype: common.dtype };
    match common.dtype {
        Dtype::F32 => Suite::records(common, host, benchmark, || cpu::<f32>(isa)),
        Dtype::Bf16 => Suite::records(common, host, benchmark, || cpu::<bf16>(isa)),
        Dtype::F16 => {
            let (op, what, expected) = ("bench", "dtype", "f32 or bf16 on the CPU".into());
            Err(Error::Value { op, what, expected, got: "f16".into() })
        }
    }
}

#[cfg(feature = "cuda")]
fn on_gpu(common: &Common, driver: Driver, benchmark: &impl Benchmark) -> Result<Vec<Record>> {
    fn computing_in<E: Compute>(
        common: &Common,
        driver: Arc<Driver>,
        benchmark: &impl Benchmark,
    ) -> Result<Vec<Record>> {
        let backend = || Cuda::<Driver, E>::new(driver.clone());
        let own = backend();
        Suite::records(common, &mut Gpu::new(&driver, &own)?, benchmark, backend)
    }
    let driver = Arc::new(driver);
    match common.dtype {
        Dtype::F32 => computing_in::<f32>(common, driver, benchmark),
        Dtype::Bf16 => computing_in::<bf16>(common, driver, benchmark),
        Dtype::F16 => computing_in::<f16>(common, driver, benchmark),
    }
}
