//! Golden models as files that tests change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// What a diffusers folder calls its weights.
pub const FILE: &str = "diffusion_pytorch_model.safetensors";

/// The tensors of a file: dtype, shape and bytes by name.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A golden model's folder.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A golden model's configuration.
pub fn config(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(golden(name).join("config.json")).unwrap()).unwrap()
}

/// A golden model's tensors.
pub fn tensors(name: &str) -> Tensors {
    let bytes = fs::read(golden(name).join(FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |(name, view): (String, TensorView)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(owned).collect()
}

/// The bytes of a file of tensors.
pub fn serialized(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A file of these bytes in a folder of its own.
pub fn written(file: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// A safetensors file with this header.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The layers of a published model, from `tests/golden/layouts`: their names in ldm's layout and in diffusers', and the
/// shapes of the weight and, if it has one, the bias.
pub fn layers(model: &str) -> Vec<Layer> {
    let text = fs::read_to_string(golden("layouts").join(format!("{model}.txt"))).unwrap();
    let extents = |text: &str| text.split('x').map(|extent| extent.parse().unwrap()).collect();
    let layer = |line: &str| {
        let [ldm, diffusers, weight, bias] =
            <[&str; 4]>::try_from(line.split(' ').collect::<Vec<_>>()).unwrap();
        let bias = (bias != "-").then(|| ("bias", extents(bias)));
        let tensors = std::iter::once(("weight", extents(weight))).chain(bias).collect();
        Layer { ldm: ldm.to_owned(), diffusers: diffusers.to_owned(), tensors }
    };
    text.lines().map(layer).collect()
}

/// One of [`layers`].
pub struct Layer {
    pub ldm: String,
    pub diffusers: String,
    /// The shapes of its `weight` and its `bias`.
    pub tensors: Vec<(&'static str, Vec<usize>)>,
}

/// A file with tensors of these names and shapes, all of them 0, that takes no room on the disk.
pub fn hollow(dtype: Dtype, tensors: &[(String, Vec<usize>)]) -> (TempDir, PathBuf) {
    let mut end = 0;
    let described = tensors.iter().map(|(name, shape)| {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.clone(), serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }))
    });
    let header = Value::Object(described.collect()).to_string();
    let bytes = with_header(&header, &[]);
    let (folder, path) = written("checkpoint.safetensors", &bytes);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((bytes.len() + end) as u64).unwrap();
    (folder, path)
}

/// Where in a file the values of a tensor begin.
pub fn place(path: &Path, name: &str) -> u64 {
    // SAFETY: the file is the test's own.
    let bytes = unsafe { memmap2::Mmap::map(&fs::File::open(path).unwrap()) }.unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    (8 + header + metadata.info(name).unwrap().data_offsets.0) as u64
}
