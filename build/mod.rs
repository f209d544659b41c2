//! From `kernels/` to a table of fatbins that the crate embeds.
//!
//! Everything that it is told, environment included, is in [`Build`], so that tests drive it with compilers of their own.
//! It writes to its output folder only, reaches no network, and asks no GPU: the code is the same wherever it is built.

mod cache;
mod nvcc;

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io, thread};

use super::manifest::File;
use cache::{Cache, Key};
pub use nvcc::Error;
use nvcc::Nvcc;

/// What code is made for unless `NOISEFORK_CUDA_ARCH` says otherwise: machine code, as nvcc names it, and last the PTX that
/// a driver compiles for what is newer than all of these.
const ARCHITECTURES: &str = "sm_80,sm_86,sm_89,sm_90a,sm_100,sm_120,compute_80";

/// Set, the kernels are left out: docs.rs sets the second on its own.
const SKIP: [&str; 2] = ["NOISEFORK_KERNELS", "DOCS_RS"];

/// What changes the code without being in it.
const FLAGS: [&str; 4] = ["NOISEFORK_CUDA_ARCH", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"];

/// A build of the kernels.
pub struct Build<'a> {
    /// What to compile.
    pub files: &'a [File],
    /// The folder of the sources.
    pub sources: PathBuf,
    /// The folder to write to.
    pub out: PathBuf,
    /// Looks up a variable of the environment.
    pub variable: &'a (dyn Fn(&str) -> Option<OsString> + Sync),
    /// Where the system keeps a toolkit that nothing points to.
    pub system: PathBuf,
}

/// A compiled file.
struct Image {
    name: &'static str,
    fatbin: PathBuf,
    /// What ptxas said of registers, memory and spills.
    report: PathBuf,
}

impl Build<'_> {
    /// Compiles what is not yet compiled and writes `kernels.rs`. Returns what cargo is to watch, as it reads it.
    pub fn run(&self) -> Result<Vec<String>, Error> {
        let mut watched = vec![
            format!("cargo::rerun-if-changed={}", self.sources.display()),
            "cargo::rerun-if-changed=build".to_owned(),
        ];
        let variables = SKIP.iter().chain(&FLAGS).chain(&nvcc::VARIABLES);
        watched.extend(variables.map(|name| format!("cargo::rerun-if-env-changed={name}")));
        if self.skipped()? {
            self.write_table("", &[], &[])?;
            return Ok(watched);
        }
        let nvcc = Nvcc::find(self.variable, &self.system)?;
        watched.push(format!("cargo::rerun-if-changed={}", nvcc.path().display()));
        let architectures = self.architectures()?;
        let images = self.compile(&nvcc, &architectures)?;
        self.write_table(nvcc.release(), &architectures, &images)?;
        Ok(watched)
    }

    fn skipped(&self) -> Result<bool, Error> {
        let [kernels, docs_rs] = SKIP.map(self.variable);
        match kernels.as_deref().and_then(OsStr::to_str) {
            _ if docs_rs.is_some() => Ok(true),
            Some("skip") => Ok(true),
            None if kernels.is_none() => Ok(false),
            _ => Err(Error::Variable { name: SKIP[0], expected: "skip, or unset", got: kernels.unwrap() }),
        }
    }

    fn architectures(&self) -> Result<Vec<String>, Error> {
        let name = "NOISEFORK_CUDA_ARCH";
        let value = (self.variable)(name).unwrap_or_else(|| ARCHITECTURES.into());
        let known = |word: &str| {
            let number = word.strip_prefix("sm_").or(word.strip_prefix("compute_")).unwrap_or_default();
            number.starts_with(|c: char| c.is_ascii_digit())
                && number.chars().all(|c| c.is_ascii_alphanumeric())
        };
        match value.to_str().map(|value| value.split(',').map(str::trim).collect::<Vec<_>>()) {
            Some(words) if words.iter().all(|word| known(word)) => {
                Ok(words.into_iter().map(str::to_owned).collect())
            }
            _ => Err(Error::Variable { name, expected: "such as sm_90a or sm_80,compute_80", got: value }),
        }
    }

    /// Compiles every file, as many at once as there are cores: the longest first, since they take longest.
    fn compile(&self, nvcc: &Nvcc, architectures: &[String]) -> Result<Vec<Image>, Error> {
        let cache = Cache { folder: &self.out };
        let headers = headers(&self.sources).map_err(Error::reading(&self.sources))?;
        let mut common = Key::new();
        common.add(nvcc.version().as_bytes());
        FLAGS
            .iter()
            .for_each(|name| common.add((self.variable)(name).unwrap_or_default().as_encoded_bytes()));
        for header in headers {
            common.add(header.as_os_str().as_encoded_bytes());
            common.add(&fs::read(&header).map_err(Error::reading(&header))?);
        }

        let mut sources = Vec::new();
        for file in self.files.iter().filter(|file| !code_for(file, architectures).is_empty()) {
            let path = self.sources.join(file.name).with_extension("cu");
            let text = fs::read(&path).map_err(Error::reading(&path))?;
            sources.push((file, path, text));
        }
        sources.sort_by_key(|(_, _, text)| Reverse(text.len()));
        in_parallel(&sources, |(file, path, text)| {
            let arguments = arguments(file, architectures);
            let mut key = common.clone();
            key.add(text);
            arguments.iter().for_each(|argument| key.add(argument.as_bytes()));
            let [fatbin, report] = cache.entry(file.name, &key, |[fatbin, report]| {
                let said = nvcc.compile(path, &arguments, fatbin)?;
                fs::write(report, said).map_err(Error::writing(report))
            })?;
            Ok(Image { name: file.name, fatbin, report })
        })
    }

    /// Writes the table that `src/cuda` includes.
    fn write_table(&self, release: &str, architectures: &[String], images: &[Image]) -> Result<(), Error> {
        let mut images: Vec<&Image> = images.iter().collect();
        images.sort_by_key(|image| image.name);
        let mut table = String::new();
        let bytes = |path: &Path| format!("*include_bytes!({path:?})");
        let _ = writeln!(
            table,
            "/// The CUDA release that compiled the kernels.\npub const RELEASE: &str = {release:?};"
        );
        let _ = writeln!(
            table,
            "/// What there is code for.\npub const ARCHITECTURES: &[&str] = &{architectures:?};"
        );
        let _ = writeln!(
            table,
            "/// By file: code for the driver.\npub const IMAGES: &[(&str, &Aligned<[u8]>)] = &["
        );
        for Image { name, fatbin, .. } in &images {
            let _ = writeln!(table, "    ({name:?}, &Aligned({})),", bytes(fatbin));
        }
        let _ = writeln!(
            table,
            "];\n/// By file: what ptxas said.\n#[allow(dead_code, reason = \"tests read it\")]"
        );
        let _ = writeln!(table, "pub const REPORTS: &[(&str, &str)] = &[");
        for Image { name, report, .. } in &images {
            let _ = writeln!(table, "    ({name:?}, include_str!({report:?})),");
        }
        let _ = writeln!(table, "];");
        let path = self.out.join("kernels.rs");
        fs::write(&path, table).map_err(Error::writing(&path))
    }
}

/// Those of `architectures` that a file is for.
fn code_for<'a>(file: &File, architectures: &'a [String]) -> Vec<&'a str> {
    let all = architectures.iter().map(String::as_str);
    all.filter(|name| file.architectures.is_empty() || file.architectures.contains(name)).collect()
}

/// What nvcc is given for a file, the paths aside.
fn arguments(file: &File, architectures: &[String]) -> Vec<String> {
    let mut arguments = ["-fatbin", "-std=c++17", "-O3", "-Xptxas=-v"].map(str::to_owned).to_vec();
    for name in code_for(file, architectures) {
        let number = name.trim_start_matches("sm_").trim_start_matches("compute_");
        arguments.push(format!("-gencode=arch=compute_{number},code={name}"));
    }
    arguments.extend(file.flags.iter().map(|&flag| flag.to_owned()));
    arguments
}

/// Every header below a folder, in order.
fn headers(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(headers(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "cuh") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Does `work` for every item on as many threads as there are cores; the first failure ends it, with no more begun.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            match work(item) {
                Ok(result) => done.push(result),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let results: Result<Vec<_>, _> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        Ok(results?.into_iter().flatten().collect())
    })
}
