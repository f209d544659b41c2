//! Tensor files in and out. What is written is written whole or not at all.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::tensor::{Shape, Shaped, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::NamedTempFile;

/// `FILE[:TENSOR]`: a tensor of a safetensors file, which need not be named if it is the only one.
#[derive(Debug, Clone)]
pub struct TensorFile {
    pub path: PathBuf,
    tensor: Option<String>,
}

impl FromStr for TensorFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        // A name that is a file as it stands is one, colons included.
        Ok(match text.rsplit_once(':') {
            Some((path, tensor)) if !Path::new(text).exists() && !tensor.contains(['/', '\\']) => {
                TensorFile { path: path.into(), tensor: Some(tensor.to_owned()) }
            }
            _ => TensorFile { path: text.into(), tensor: None },
        })
    }
}

impl TensorFile {
    /// Another tensor of the same file.
    pub fn beside(&self, tensor: &str) -> Self {
        TensorFile { path: self.path.clone(), tensor: Some(tensor.to_owned()) }
    }

    /// The tensor, as f32.
    pub fn read(&self) -> Result<Tensor> {
        let file = Weights::open(&self.path)?;
        let name = match &self.tensor {
            Some(name) => name.clone(),
            None => only_name(&self.path, file.names())?,
        };
        let shape = file.shape(&name)?;
        let shape = Shape::try_from_slice(&shape).ok_or_else(|| Error::FileTensor {
            path: self.path.clone(),
            name: name.clone(),
            expected: format!("a tensor of at most {} dimensions", Shape::MAX_RANK),
            got: format!("{shape:?}"),
        })?;
        file.tensor(&name, shape)
    }
}

fn only_name(path: &Path, names: Vec<String>) -> Result<String> {
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) => Err(Error::File {
            path: path.to_owned(),
            expected: "one tensor, or FILE:TENSOR to choose one".into(),
            got: format!("{} tensors: {}", names.len(), names.join(", ")),
        }),
    }
}

/// A file that appears under its name when it is complete.
pub struct Output {
    path: PathBuf,
    draft: NamedTempFile,
}

impl Output {
    /// Prepares to write `path`; tells early if its folder cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(unwritable(path, "a folder"));
        }
        let draft = draft_builder().tempfile_in(folder).map_err(|error| unwritable(path, error))?;
        Ok(Output { path: path.to_owned(), draft })
    }

    /// Writes tensors and, in the header, what they were made with.
    pub fn write_tensors(self, tensors: &[(&str, &Tensor)], settings: HashMap<String, String>) -> Result<()> {
        let views = tensors.iter().map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(tensor.data());
            Ok((*name, TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes)?))
        });
        let bytes = views
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .and_then(|views| safetensors::serialize(views, Some(settings)))
            .map_err(|error| unwritable(&self.path, error))?;
        self.write(&bytes)
    }

    /// Writes a picture.
    pub fn write_png(self, picture: &image::RgbImage) -> Result<()> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let written = picture.write_to(&mut bytes, image::ImageFormat::Png);
        written.map_err(|error| unwritable(&self.path, error))?;
        self.write(bytes.get_ref())
    }

    fn write(self, bytes: &[u8]) -> Result<()> {
        let Output { path, draft } = self;
        std::fs::write(draft.path(), bytes).map_err(|error| unwritable(&path, error))?;
        draft.persist(&path).map_err(|error| unwritable(&path, error.error))?;
        Ok(())
    }
}

/// Drafts that become ordinary files: a temporary file is its owner's alone unless told otherwise.
fn draft_builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".noisefork-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

fn unwritable(path: &Path, got: impl Display) -> Error {
    Error::File { path: path.to_owned(), expected: "a file that can be written".into(), got: got.to_string() }
}
