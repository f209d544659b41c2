//! Tensor files in and out. What is written is written whole or not at all.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::sampling::Record;
use noisefork::tensor::{Shape, Shaped, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::NamedTempFile;

/// `FILE[:TENSOR]`: a tensor of a safetensors file, which need not be named if it is the only one.
#[derive(Debug, Clone)]
pub struct TensorFile {
    path: PathBuf,
    tensor: Option<String>,
}

impl From<&str> for TensorFile {
    fn from(text: &str) -> Self {
        // A name that is a file as it stands is one, colons included.
        match text.rsplit_once(':') {
            Some((path, tensor)) if !Path::new(text).exists() && !tensor.contains(['/', '\\']) => {
                TensorFile { path: path.into(), tensor: Some(tensor.to_owned()) }
            }
            _ => TensorFile { path: text.into(), tensor: None },
        }
    }
}

impl From<&PathBuf> for TensorFile {
    fn from(path: &PathBuf) -> Self {
        TensorFile { path: path.clone(), tensor: None }
    }
}

impl fmt::Display for TensorFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.tensor.iter().try_for_each(|tensor| write!(f, ":{tensor}"))
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
            None => only_name(&self.path, &file.names())?,
        };
        let shape = file.shape(&name)?;
        let shape = Shape::try_from_slice(shape).ok_or_else(|| Error::FileTensor {
            path: self.path.clone(),
            name: name.clone(),
            expected: format!("a tensor of at most {} dimensions", Shape::MAX_RANK),
            got: format!("{shape:?}"),
        })?;
        file.tensor(&name, shape)
    }
}

fn only_name(path: &Path, names: &[&str]) -> Result<String> {
    match names {
        [name] => Ok((*name).to_owned()),
        names => Err(Error::File {
            path: path.to_owned(),
            expected: "one tensor, or FILE:TENSOR to choose one".into(),
            got: format!("{} tensors: {}", names.len(), names.join(", ")),
        }),
    }
}

/// The key of the header under which files of latents tell how they were made. It is the only one, since of several the
/// order would differ from file to file.
const RECORD: &str = "record";

/// The record in the header of a file of latents.
pub fn read_record(path: &Path) -> Result<Record> {
    let refuse = |got: String| Error::File {
        path: path.to_owned(),
        expected: format!("a safetensors file with a {RECORD:?} in its header"),
        got,
    };
    let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| refuse(error.to_string()))?;
    let record = header.metadata().as_ref().and_then(|texts| texts.get(RECORD));
    Record::from_json(record.ok_or_else(|| refuse("none".into()))?)
}

/// A file that appears under its name when it is complete. What is there already and is no file, such as a pipe or
/// `/dev/null`, is written to.
pub struct Output {
    path: PathBuf,
    draft: Option<NamedTempFile>,
}

impl Output {
    /// Prepares to write `path`; tells early if its folder cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(unwritable(path, "a folder"));
        }
        let is_other = path.metadata().is_ok_and(|there| !there.is_file());
        let draft = (!is_other).then(|| draft_builder().tempfile_in(folder)).transpose();
        Ok(Output { path: path.to_owned(), draft: draft.map_err(|error| unwritable(path, error))? })
    }

    /// Prepares to write `path`, if there is one.
    pub fn create_if(path: &Option<PathBuf>) -> Result<Option<Self>> {
        path.as_deref().map(Output::create).transpose()
    }

    /// Writes tensors and, in the header, what they were made with.
    pub fn write_tensors(self, tensors: &[(&str, &Tensor)], record: &Record) -> Result<()> {
        let header = HashMap::from([(RECORD.to_owned(), record.to_json()?)]);
        let views = tensors.iter().map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(tensor.data());
            Ok((*name, TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes)?))
        });
        let bytes = views
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .and_then(|views| safetensors::serialize(views, Some(header)))
            .map_err(|error| unwritable(&self.path, error))?;
        self.write(&bytes)
    }

    /// Writes text.
    pub fn write_text(self, text: &str) -> Result<()> {
        self.write(text.as_bytes())
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
        let to = draft.as_ref().map_or(path.as_path(), NamedTempFile::path);
        std::fs::write(to, bytes).map_err(|error| unwritable(&path, error))?;
        match draft {
            Some(draft) => draft.persist(&path).map(drop).map_err(|error| unwritable(&path, error.error)),
            None => Ok(()),
        }
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
