mod file;
mod synthetic;
mod widen;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;

use crate::error::{Error, Result};
use crate::rng::CounterStream;
use crate::tensor::{Shape, Tensor};

use file::File;

/// The tensors of a model, in safetensors files, in memory or made up, read as f32 when they are asked for.
///
/// It keeps account of what was asked for, so that [`Weights::expect_all_used`] can tell a file that holds another
/// model than its configuration says.
pub struct Weights {
    path: PathBuf,
    source: Source,
    asked: RefCell<BTreeSet<String>>,
}

enum Source {
    Files(Vec<File>),
    Synthetic(CounterStream),
    Blank,
}

impl Weights {
    /// What a diffusers folder may call its weights, the first that exists being taken; an index names several files.
    const NAMES: [&str; 4] = [
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
    ];

    /// Opens a safetensors file, a `*.safetensors.index.json` with the files it names, or a diffusers folder that has
    /// one of these. The files are mapped, not read: they must stay as they are while the weights are in use.
    ///
    /// # Errors
    /// [`Error::File`] for what cannot be read or is no safetensors file, [`Error::FileTensor`] for a tensor that is
    /// not whole, or not where it should be: in the file that an index says, and in no other.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let found = Self::NAMES.map(|name| path.join(name)).into_iter().find(|file| file.exists());
            let none = || refused(path, format!("one of {}", Self::NAMES.join(", ")), "none of them");
            return Self::open(found.ok_or_else(none)?);
        }
        let files = match path.extension() {
            Some(extension) if extension == "json" => open_shards(path)?,
            _ => vec![File::open(path)?],
        };
        Ok(Self::new(path, Source::Files(files)))
    }

    /// Opens the files of a model that is kept in parts: `PART.safetensors` in `folder` for each of `parts`. The
    /// tensors have their part's name and a dot before their own.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_parts(folder: impl AsRef<Path>, parts: &[&str]) -> Result<Self> {
        let folder = folder.as_ref();
        let open = |part: &&str| {
            File::open(&folder.join(format!("{part}.safetensors"))).map(|file| file.named_part(part))
        };
        Ok(Self::new(folder, Source::Files(parts.iter().map(open).collect::<Result<_>>()?)))
    }

    /// The weights in the bytes of a safetensors file; `name` stands for a path in errors.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let file = File::in_memory(name, bytes.into())?;
        Ok(Self::new(Path::new(name), Source::Files(vec![file])))
    }

    /// Weights of any model: whatever is asked for is there, in the shape that is asked for, with normal values that
    /// depend on the seed and the tensor's name alone and are scaled so that activations stay of order 1. For
    /// benchmarks and tests; no picture comes of them.
    pub fn synthetic(seed: u64) -> Self {
        Self::new(Path::new("synthetic weights"), Source::Synthetic(CounterStream::new(seed)))
    }

    /// Weights of any model, all of them 0: for what looks at shapes alone.
    pub(crate) fn blank() -> Self {
        Self::new(Path::new("no weights"), Source::Blank)
    }

    fn new(path: &Path, source: Source) -> Self {
        Weights { path: path.to_owned(), source, asked: RefCell::default() }
    }

    fn files(&self) -> &[File] {
        match &self.source {
            Source::Files(files) => files,
            Source::Synthetic(_) | Source::Blank => &[],
        }
    }

    /// The file that was opened, or the name of weights that are in none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted; synthetic weights have none of their own.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.files().iter().flat_map(File::names).collect();
        names.sort_unstable();
        names
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The extents of the tensor `name`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if there is none.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.expect(name)?.1.shape)
    }

    fn find(&self, name: &str) -> Option<(&File, &TensorInfo)> {
        self.files().iter().find_map(|file| Some((file, file.info(name)?)))
    }

    fn expect(&self, name: &str) -> Result<(&File, &TensorInfo)> {
        self.find(name).ok_or_else(|| Error::MissingTensor { path: self.path.clone(), name: name.to_owned() })
    }

    /// The tensor `name`, which must have this shape and be f32, f16, bf16, f8_e4m3 (torch's `float8_e4m3fn`) or
    /// f8_e5m2; widened to f32, which is exact.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if there is none, [`Error::FileTensor`] if it has another shape or dtype,
    /// [`Error::Value`] where there is too little memory.
    pub fn tensor(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        match self.source {
            Source::Files(_) => {}
            Source::Synthetic(values) => return synthetic::tensor(values, name, shape),
            Source::Blank => return Tensor::try_zeros(shape),
        }
        let (file, info) = self.expect(name)?;
        self.asked.borrow_mut().insert(name.to_owned());
        file.tensor(name, info, shape)
    }

    /// The tensors whose names begin with `name` and a dot.
    pub fn scope(&self, name: impl Display) -> Scope<'_> {
        self.renamed(&str::to_owned).scope(name)
    }

    /// All tensors under other names: what is asked for as `name` is in the file as `in_file(name)`.
    pub fn renamed<'a>(&'a self, in_file: &'a dyn Fn(&str) -> String) -> Scope<'a> {
        Scope { weights: self, in_file, prefix: String::new() }
    }

    /// Refuses weights of which some were never asked for: they belong to another model than the one that was loaded.
    ///
    /// # Errors
    /// [`Error::UnusedTensors`], with their names.
    pub fn expect_all_used(&self) -> Result<()> {
        self.expect_used("")
    }

    /// [`Weights::expect_all_used`] of the tensors whose names begin with `prefix`; a checkpoint may hold other models
    /// beside.
    ///
    /// # Errors
    /// Those of [`Weights::expect_all_used`].
    pub fn expect_used(&self, prefix: &str) -> Result<()> {
        let asked = self.asked.borrow();
        let unused = |name: &&str| name.starts_with(prefix) && !asked.contains(*name);
        let names: Vec<String> = self.names().into_iter().filter(unused).map(str::to_owned).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::UnusedTensors { path: self.path.clone(), names })
    }
}

/// The tensors of a [`Weights`] under one prefix, so that loading code need not spell it.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    in_file: &'a dyn Fn(&str) -> String,
    prefix: String,
}

impl Scope<'_> {
    /// The tensors whose names begin with this prefix, `name` and a dot.
    pub fn scope(&self, name: impl Display) -> Self {
        Scope { prefix: format!("{}{name}.", self.prefix), ..*self }
    }

    /// [`Weights::contains`] of the prefix and `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.weights.contains(&self.name(name))
    }

    /// The extents of the tensor of the prefix and `name`, of which there must be `RANK`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if there is none, [`Error::FileTensor`] if it has more or fewer dimensions.
    pub fn extents<const RANK: usize>(&self, name: &str) -> Result<[usize; RANK]> {
        let name = self.name(name);
        let (file, info) = self.weights.expect(&name)?;
        let misshapen = |_| file.refuse(&name, format!("of {RANK} dimensions"), format!("{:?}", info.shape));
        info.shape.as_slice().try_into().map_err(misshapen)
    }

    /// How many dimensions the tensor of the prefix and `name` has.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if there is none.
    pub fn rank(&self, name: &str) -> Result<usize> {
        Ok(self.weights.shape(&self.name(name))?.len())
    }

    /// [`Weights::tensor`] of the prefix and `name`.
    ///
    /// # Errors
    /// Those of [`Weights::tensor`].
    pub fn tensor(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.weights.tensor(&self.name(name), shape)
    }

    fn name(&self, name: &str) -> String {
        (self.in_file)(&format!("{}{name}", self.prefix))
    }
}

/// Opens the files that an index names, in which its tensors are where it says.
fn open_shards(index: &Path) -> Result<Vec<File>> {
    let places = shard_paths(index)?;
    let paths: BTreeSet<&PathBuf> = places.values().collect();
    let files = paths.into_iter().map(|path| File::open(path)).collect::<Result<Vec<_>>>()?;
    expect_places(index, &places, &files)?;
    Ok(files)
}

/// Refuses a tensor that two files hold, and one that is not in the file that the index says.
fn expect_places(index: &Path, places: &BTreeMap<String, PathBuf>, files: &[File]) -> Result<()> {
    let refused = |name: &str, expected: String, got: String| {
        Err(Error::FileTensor { path: index.to_owned(), name: name.to_owned(), expected, got })
    };
    let mut holders = BTreeMap::new();
    for file in files {
        for name in file.names() {
            if let Some(first) = holders.insert(name, file.path()) {
                let both = format!("in {} and {}", first.display(), file.path().display());
                return refused(name, "in one file".into(), both);
            }
        }
    }
    for (name, place) in places {
        let holder = holders.get(name.as_str());
        if holder.is_none_or(|holder| holder != place) {
            let got = holder.map_or("in none".into(), |holder| format!("in {}", holder.display()));
            return refused(name, format!("in {}, as the index says", place.display()), got);
        }
    }
    Ok(())
}

/// The file of each tensor that an index names, which lies beside it.
fn shard_paths(index: &Path) -> Result<BTreeMap<String, PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, PathBuf>,
    }
    const EXPECTED: &str = "an index of safetensors files";
    let json = fs::read_to_string(index).map_err(|error| refused(index, EXPECTED, error))?;
    let files: Index = serde_json::from_str(&json).map_err(|error| refused(index, EXPECTED, error))?;
    let beside = |file: PathBuf| match file.file_name() {
        Some(name) if name == file => Ok(index.with_file_name(name)),
        _ => Err(refused(index, "names of files beside it", file.display())),
    };
    files.weight_map.into_iter().map(|(name, file)| Ok((name, beside(file)?))).collect()
}

fn refused(path: &Path, expected: impl Into<String>, got: impl Display) -> Error {
    Error::File { path: path.to_owned(), expected: expected.into(), got: got.to_string() }
}
