mod synthetic;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::rng::CounterStream;
use crate::tensor::{Shape, Tensor};

/// The tensors of a model, in safetensors files, embedded in the program or made up, read as f32 when they are asked
/// for.
///
/// It keeps account of what was asked for, so that [`Weights::expect_all_used`] can tell a file that holds another
/// model than its configuration says.
pub struct Weights {
    path: PathBuf,
    source: Source,
    asked: RefCell<BTreeSet<String>>,
}

enum Source {
    Files(Vec<Shard>),
    Synthetic(CounterStream),
}

struct Shard {
    path: PathBuf,
    bytes: Bytes,
    metadata: Metadata,
    /// Where the header ends.
    data: usize,
}

enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}

impl Weights {
    /// What a diffusers folder may call its weights, the first that exists being taken; an index names several files.
    const NAMES: [&str; 4] = [
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.fp16.safetensors.index.json",
    ];

    /// Opens a safetensors file, a `*.safetensors.index.json` with the files it names, or a diffusers folder that has
    /// one of these. The files are mapped, not read: they must stay as they are while the weights are in use.
    ///
    /// # Errors
    /// [`Error::File`] for what cannot be read or is not whole.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let found = Self::NAMES.map(|name| path.join(name)).into_iter().find(|file| file.exists());
            let none = || refused(path, format!("one of {}", Self::NAMES.join(", ")), "none of them");
            return Self::open(found.ok_or_else(none)?);
        }
        let shards = if path.extension().is_some_and(|extension| extension == "json") {
            shard_paths(path)?.iter().map(|shard| Shard::open(shard)).collect::<Result<_>>()?
        } else {
            vec![Shard::open(path)?]
        };
        Ok(Self::new(path, Source::Files(shards)))
    }

    /// The weights in the bytes of a safetensors file; `name` stands for a path in errors.
    ///
    /// # Errors
    /// [`Error::File`] if the bytes are not a whole safetensors file.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self> {
        let shard = Shard::new(name.into(), Bytes::Embedded(bytes))?;
        Ok(Self::new(Path::new(name), Source::Files(vec![shard])))
    }

    /// Weights of any model: whatever is asked for is there, in the shape that is asked for, with normal values that
    /// depend on the seed and the tensor's name alone and are scaled so that activations stay of order 1. For
    /// benchmarks and tests; no picture comes of them.
    pub fn synthetic(seed: u64) -> Self {
        Self::new(Path::new("synthetic weights"), Source::Synthetic(CounterStream::new(seed)))
    }

    fn new(path: &Path, source: Source) -> Self {
        Weights { path: path.to_owned(), source, asked: RefCell::default() }
    }

    fn shards(&self) -> &[Shard] {
        match &self.source {
            Source::Files(shards) => shards,
            Source::Synthetic(_) => &[],
        }
    }

    /// The file that was opened, or the name of embedded weights.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted; synthetic weights have none of their own.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.shards().iter().flat_map(|shard| shard.metadata.offset_keys()).collect();
        names.sort();
        names
    }

    /// The extents of the tensor `name`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if there is none.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.find(name)?.1.shape.clone())
    }

    fn find(&self, name: &str) -> Result<(&Shard, &TensorInfo)> {
        let found = self.shards().iter().find_map(|shard| Some((shard, shard.metadata.info(name)?)));
        found.ok_or_else(|| Error::MissingTensor { path: self.path.clone(), name: name.to_owned() })
    }

    /// The tensor `name`, which must have this shape and be f32, f16 or bf16; widened to f32, which is exact.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if there is none, [`Error::FileTensor`] if it has another shape or dtype,
    /// [`Error::Value`] where there is too little memory.
    pub fn tensor(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        if let Source::Synthetic(values) = self.source {
            return synthetic::tensor(values, name, shape);
        }
        let (shard, info) = self.find(name)?;
        self.asked.borrow_mut().insert(name.to_owned());
        let mismatch = |expected: String| Error::FileTensor {
            path: shard.path.clone(),
            name: name.to_owned(),
            expected,
            got: format!("{} {:?}", info.dtype, info.shape),
        };
        if *info.shape != *shape {
            return Err(mismatch(shape.to_string()));
        }
        let (start, end) = info.data_offsets;
        let bytes = &shard.bytes[shard.data..][start..end];
        let data = match info.dtype {
            Dtype::F32 => bytemuck::pod_collect_to_vec(bytes),
            Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(bytes).to_f32_vec(),
            Dtype::BF16 => bytemuck::pod_collect_to_vec::<u8, bf16>(bytes).to_f32_vec(),
            _ => return Err(mismatch("f32, f16 or bf16".into())),
        };
        Tensor::new(shape, data)
    }

    /// The tensors whose names begin with `name` and a dot.
    pub fn scope(&self, name: impl Display) -> Scope<'_> {
        Scope { weights: self, prefix: format!("{name}.") }
    }

    /// Refuses weights of which some were never asked for: they belong to another model than the one that was loaded.
    /// No file of a model here has any to spare.
    ///
    /// # Errors
    /// [`Error::File`], with the first of their names.
    pub fn expect_all_used(&self) -> Result<()> {
        const SHOWN: usize = 3;
        let asked = self.asked.borrow();
        let names = self.shards().iter().flat_map(|shard| shard.metadata.offset_keys());
        let unused: Vec<String> = names.filter(|name| !asked.contains(name)).collect();
        if unused.is_empty() {
            return Ok(());
        }
        let more = if unused.len() > SHOWN { ", .." } else { "" };
        let shown = unused[..unused.len().min(SHOWN)].join(", ");
        let got = format!("{} unused tensors: {shown}{more}", unused.len());
        Err(refused(&self.path, "only tensors that the configuration calls for", got))
    }
}

/// The tensors of a [`Weights`] under one prefix, so that loading code need not spell it.
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// The tensors whose names begin with this prefix, `name` and a dot.
    pub fn scope(&self, name: impl Display) -> Self {
        Scope { weights: self.weights, prefix: format!("{}{name}.", self.prefix) }
    }

    /// [`Weights::tensor`] of the prefix and `name`.
    ///
    /// # Errors
    /// Those of [`Weights::tensor`].
    pub fn tensor(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.weights.tensor(&format!("{}{name}", self.prefix), shape)
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| refused(path, "a readable safetensors file", error);
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the map is only read, as plain bytes. That nobody shortens or rewrites the file meanwhile cannot be
        // checked; `Weights::open` asks it of the caller, as every reader of mapped weights does.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        Shard::new(path.to_owned(), Bytes::Mapped(map))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        // Checks that the tensors lie end to end in the bytes and fill them.
        let header = SafeTensors::read_metadata(&bytes);
        let (length, metadata) = header.map_err(|error| refused(&path, "a whole safetensors file", error))?;
        Ok(Shard { path, bytes, metadata, data: size_of::<u64>() + length })
    }
}

/// The files that an index names, which lie beside it.
fn shard_paths(index: &Path) -> Result<BTreeSet<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, PathBuf>,
    }
    const EXPECTED: &str = "an index of safetensors files";
    let json = fs::read_to_string(index).map_err(|error| refused(index, EXPECTED, error))?;
    let files: Index = serde_json::from_str(&json).map_err(|error| refused(index, EXPECTED, error))?;
    let beside = |file: PathBuf| match file.file_name() {
        Some(name) if name == file => Ok(index.with_file_name(name)),
        _ => Err(refused(index, "names of files beside it", file.display())),
    };
    files.weight_map.into_values().map(beside).collect()
}

fn refused(path: &Path, expected: impl Into<String>, got: impl Display) -> Error {
    Error::File { path: path.to_owned(), expected: expected.into(), got: got.to_string() }
}
