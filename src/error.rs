//! What can go wrong, as data: who refused, what it expected, what came.

use std::borrow::Borrow;
use std::path::PathBuf;

use crate::tensor::Shape;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was refused, or what ended it.
///
/// An operation that refuses its arguments has changed and written nothing. What is made of many, such as a model's answer
/// or a run, has come as far as the one that failed: so it is when the caller stops it, when a device fails, and when a later
/// branch of guidance is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not have the shape that an operation needs.
    #[error("{op}: {tensor} must have shape {expected}, got {got}")]
    Shape {
        /// The operation that refused, such as `conv2d`.
        op: &'static str,
        /// Which of its tensors.
        tensor: &'static str,
        /// The shape it needs, with the reason where that is not plain.
        expected: String,
        /// The shape that came.
        got: Shape,
    },

    /// A number or a combination of options lies outside what an operation accepts.
    #[error("{op}: {what} must be {expected}, got {got}")]
    Value {
        /// The operation or option group that refused.
        op: &'static str,
        /// Which argument.
        what: &'static str,
        /// The range it accepts.
        expected: String,
        /// The value that came.
        got: String,
    },

    /// A name that is in no list.
    #[error("unknown {kind} {got:?}{}; known: {}", did_you_mean(.nearest), .known.join(", "))]
    UnknownName {
        /// What was to be named: a sampler, a scheduler, a prompt word.
        kind: &'static str,
        /// The name that came.
        got: String,
        /// The known names nearest to it, best first; empty if none is near.
        nearest: Vec<String>,
        /// Every known name, or a sentence that says where they are listed.
        known: Vec<String>,
    },

    /// A file cannot be opened, read, written, or is not what its name says.
    #[error("{}: expected {expected}, got {got}", .path.display())]
    File {
        /// The file, or a name for embedded data.
        path: PathBuf,
        /// What should have been there.
        expected: String,
        /// What was found: the system's error, or a description.
        got: String,
    },

    /// A weight file lacks a tensor that the model's configuration calls for.
    #[error("{}: no tensor {name:?}", .path.display())]
    MissingTensor {
        /// The weight file.
        path: PathBuf,
        /// The tensor's full name.
        name: String,
    },

    /// A weight file holds tensors that its model has no use for: it is another model than its configuration says.
    #[error("{}: {} tensors that the model has no use for: {}", .path.display(), .names.len(), first(.names))]
    UnusedTensors {
        /// The weight file.
        path: PathBuf,
        /// The tensors' full names, sorted.
        names: Vec<String>,
    },

    /// A tensor in a file is not whole, not where an index says, or has another shape or dtype than the model's
    /// configuration calls for.
    #[error("{}: tensor {name:?} must be {expected}, got {got}", .path.display())]
    FileTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's full name.
        name: String,
        /// The shape and dtype it should have.
        expected: String,
        /// The shape and dtype it has.
        got: String,
    },

    /// A model, or a caller's denoiser or noise source, produced NaN or infinity.
    #[error("{op}: {what} is not finite ({got} at element {index})")]
    NotFinite {
        /// Where it was noticed.
        op: &'static str,
        /// Which tensor.
        what: &'static str,
        /// The first offending element, in memory order.
        index: usize,
        /// Its value, as text.
        got: String,
    },

    /// The caller asked to stop.
    #[error("cancelled after step {done} of {of}")]
    Cancelled {
        /// Steps that were completed.
        done: usize,
        /// Steps that were asked for.
        of: usize,
    },

    /// This build of the crate cannot use GPUs: feature `cuda` is off.
    #[error("cuda: this build has no CUDA; build with `--features cuda`")]
    CudaNotBuilt,

    /// Feature `cuda` is on, but the kernels were left out when the crate was built.
    #[error(
        "cuda: this build has no kernels, since NOISEFORK_KERNELS was skip; build with nvcc and without it"
    )]
    KernelsNotBuilt,

    /// The NVIDIA driver's library is not on this machine, or cannot be initialised.
    #[error("cuda: expected an NVIDIA driver, got {got}")]
    NoDriver {
        /// What was found in its place.
        got: String,
    },

    /// The driver is older than the toolkit that compiled the kernels, whose code it cannot read.
    #[error("cuda: the driver must support CUDA {expected} or newer, got {got}")]
    DriverTooOld {
        /// The CUDA version that the kernels were compiled with.
        expected: String,
        /// The newest version that the driver supports.
        got: String,
    },

    /// There is no such device.
    #[error("cuda: device must be {}, got {got}", devices(.found))]
    NoDevice {
        /// How many devices the driver shows.
        found: usize,
        /// The device that was asked for.
        got: usize,
    },

    /// The kernels hold no code that the device can run.
    #[error("cuda: {device} is {got}; this build has code for {}", .embedded.join(", "))]
    UnsupportedArchitecture {
        /// The device's name.
        device: String,
        /// Its architecture, such as `sm_75`.
        got: String,
        /// The architectures that there is code for.
        embedded: Vec<String>,
    },

    /// A device has too little memory left.
    #[error("cuda: {bytes} bytes do not fit in the memory of {device}")]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// How much was asked for.
        bytes: usize,
    },

    /// A device, or this process's use of it, failed for good: after a kernel's fault, or when a GPU fell off its bus.
    /// Everything on it is lost.
    #[error("{op}: the device is lost: {got}")]
    DeviceLost {
        /// The call that reported it, which may be later than its cause.
        op: &'static str,
        /// The driver's error.
        got: String,
    },

    /// Something that waits for a device or allocates on it, in work that is being captured as a graph.
    #[error("{op}: cannot be captured: a graph is of launches and of copies within the device")]
    NotCapturable {
        /// The call.
        op: &'static str,
    },

    /// The driver refused a call.
    #[error("{op}: the driver refused: {got}")]
    Driver {
        /// The kernel or call.
        op: &'static str,
        /// The driver's error.
        got: String,
    },
}

impl Error {
    /// An [`Error::UnknownName`] with the nearest of `known` worked out by edit distance.
    pub(crate) fn unknown_name<'a>(
        kind: &'static str,
        got: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        const CLOSE: f64 = 0.6;
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        let mut near: Vec<(f64, &String)> = known
            .iter()
            .map(|name| (strsim::jaro_winkler(got, name), name))
            .filter(|(score, _)| *score > CLOSE)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let nearest = near.into_iter().take(3).map(|(_, name)| name.clone()).collect();
        Error::UnknownName { kind, got: got.to_owned(), nearest, known }
    }
}

/// The first few of a list that may be long.
pub(crate) fn first<S: Borrow<str>>(names: &[S]) -> String {
    const SHOWN: usize = 3;
    let more = if names.len() > SHOWN { ", .." } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!(" (nearest: {})", nearest.join(", ")) }
}

fn devices(found: &usize) -> String {
    match found {
        0 => "present, and the driver shows none".to_owned(),
        1 => "0, the only one".to_owned(),
        _ => format!("0 to {}", found - 1),
    }
}
