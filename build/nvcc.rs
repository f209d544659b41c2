//! The compiler: where it is, and what it says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fmt, io};

/// The variables that [`Nvcc::find`] follows, besides `PATH`.
pub const VARIABLES: [&str; 3] = ["NVCC", "CUDA_HOME", "CUDA_PATH"];

/// Why the kernels were not built.
#[derive(Debug)]
pub enum Error {
    /// There is no nvcc in any of these places.
    NoNvcc { tried: Vec<String> },
    /// nvcc, or what stands under its name, did not do what was asked.
    Failed { command: String, said: String },
    /// A variable has a value that means nothing.
    Variable { name: &'static str, expected: &'static str, got: OsString },
    /// A file cannot be read or written.
    File { doing: &'static str, path: PathBuf, error: io::Error },
}

impl Error {
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Error::File { doing: "read", path, error }
    }

    pub fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Error::File { doing: "write", path, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoNvcc { tried } => {
                writeln!(
                    f,
                    "noisefork: feature `cuda` compiles kernels with nvcc, which is in none of these places:"
                )?;
                tried.iter().try_for_each(|place| writeln!(f, "  {place}"))?;
                writeln!(f, "Any one of these helps:")?;
                writeln!(
                    f,
                    "  install the CUDA toolkit, 12.8 or newer, or only its compiler: see ci/nvcc.sh"
                )?;
                writeln!(f, "  set NVCC to the compiler, or CUDA_HOME to the folder whose bin/ has it")?;
                write!(f, "  set NOISEFORK_KERNELS=skip, to build without kernels what will not run on a GPU")
            }
            Error::Failed { command, said } => {
                writeln!(f, "noisefork: this command failed:\n  {command}\nIt said:\n{}", said.trim_end())?;
                if said.contains("nsupported gpu architecture") {
                    writeln!(
                        f,
                        "This nvcc is older than 12.8. NOISEFORK_CUDA_ARCH=sm_90a,... names what to build for."
                    )?;
                }
                Ok(())
            }
            Error::Variable { name, expected, got } => {
                write!(f, "noisefork: {name} must be {expected}, got {got:?}")
            }
            Error::File { doing, path, error } => {
                write!(f, "noisefork: cannot {doing} {}: {error}", path.display())
            }
        }
    }
}

/// A compiler that answered.
pub struct Nvcc {
    path: PathBuf,
    version: String,
    release: String,
}

impl Nvcc {
    /// Finds nvcc: `NVCC` and nothing else if it is set; else what `CUDA_HOME`, `CUDA_PATH` and `PATH` lead to, then the
    /// system's own.
    pub fn find(variable: &dyn Fn(&str) -> Option<OsString>, system: &Path) -> Result<Self, Error> {
        let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
        let mut tried = Vec::new();
        let mut look = |from: &str, path: PathBuf| {
            tried.push(format!("{} ({from})", path.display()));
            path.is_file().then_some(path)
        };
        let mut found = None;
        if let Some(path) = variable("NVCC") {
            found = look("NVCC", path.into());
        } else {
            for root in &VARIABLES[1..] {
                let home = variable(root).map(|home| PathBuf::from(home).join("bin").join(&name));
                found = found.or_else(|| look(root, home?));
            }
            let path = variable("PATH").unwrap_or_default();
            for folder in env::split_paths(&path) {
                found = found.or_else(|| look("PATH", folder.join(&name)));
            }
            found = found.or_else(|| look("the system's", system.join("bin").join(&name)));
        }
        match found {
            Some(path) => Self::ask(path),
            None => Err(Error::NoNvcc { tried }),
        }
    }

    /// Asks the compiler who it is.
    fn ask(path: PathBuf) -> Result<Self, Error> {
        let mut command = Command::new(&path);
        let version = run(command.arg("--version"))?;
        // "Cuda compilation tools, release 13.0, V13.0.88"
        let release =
            version.split("release ").nth(1).and_then(|rest| rest.split(',').next()).map(str::to_owned);
        match release {
            Some(release) => Ok(Nvcc { path, version, release }),
            None => Err(Error::Failed { command: written(&command), said: version }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that it says of itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The CUDA release that it belongs to, such as `13.0`.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Compiles a file. Returns what was said on the way.
    pub fn compile(&self, source: &Path, arguments: &[String], to: &Path) -> Result<String, Error> {
        run(Command::new(&self.path).args(arguments).arg("-o").arg(to).arg(source))
    }
}

/// Runs a command to its end and returns all that it said; a failure holds it, with the command as a shell would take it.
fn run(command: &mut Command) -> Result<String, Error> {
    let failed = |command: &Command, said: String| Error::Failed { command: written(command), said };
    match command.output() {
        Err(error) => Err(failed(command, error.to_string())),
        Ok(Output { status, stdout, stderr }) => {
            let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
            if status.success() { Ok(said) } else { Err(failed(command, format!("{said}\n{status}"))) }
        }
    }
}

fn written(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let word = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        if word.contains([' ', '"', '\'', '$']) { format!("{word:?}") } else { word.into_owned() }
    };
    words.map(word).collect::<Vec<_>>().join(" ")
}
