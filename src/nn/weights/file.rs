//! One safetensors file, the place of every tensor in it checked before any is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{refused, widen};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

pub(super) struct File {
    path: PathBuf,
    bytes: Bytes,
    tensors: BTreeMap<String, TensorInfo>,
    /// Where the header ends.
    data: usize,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Cow<'static, [u8]>),
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    _metadata: Option<IgnoredAny>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

impl File {
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| refused(path, "a readable safetensors file", error);
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // SAFETY: the map is only read, as plain bytes. That nobody shortens or rewrites the file meanwhile cannot be
        // checked; `Weights::open` asks it of the caller, as every reader of mapped weights does.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        File::new(path.to_owned(), Bytes::Mapped(map))
    }

    pub fn in_memory(name: &str, bytes: Cow<'static, [u8]>) -> Result<Self> {
        File::new(name.into(), Bytes::Owned(bytes))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        let (data, tensors) = header(&path, &bytes)?;
        let file = File { path, bytes, tensors, data };
        file.expect_end_to_end()?;
        Ok(file)
    }

    /// The file with `part` and a dot before every name.
    pub fn named_part(mut self, part: &str) -> Self {
        self.tensors =
            self.tensors.into_iter().map(|(name, info)| (format!("{part}.{name}"), info)).collect();
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The tensor `name`, whose description is `info`, widened to f32.
    pub fn tensor(&self, name: &str, info: &TensorInfo, shape: Shape) -> Result<Tensor> {
        let mismatch =
            |expected: String| self.refuse(name, expected, format!("{:?} {:?}", info.dtype, info.shape));
        if *info.shape != *shape {
            return Err(mismatch(shape.to_string()));
        }
        let widen = widen::from(info.dtype).ok_or_else(|| mismatch(widen::KNOWN.into()))?;
        let mut tensor = Tensor::try_zeros(shape)?;
        let (start, end) = info.data_offsets;
        let place = self.data + start..self.data + end;
        self.bytes.will_need(place.clone());
        widen(&self.bytes[place.clone()], tensor.data_mut());
        self.bytes.release(place);
        Ok(tensor)
    }

    /// The error for a tensor that is there, but not as it should be.
    pub fn refuse(&self, name: &str, expected: impl Into<String>, got: impl ToString) -> Error {
        Error::FileTensor {
            path: self.path.clone(),
            name: name.to_owned(),
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    /// Refuses tensors of another size than their shape and dtype make, gaps between them, overlaps, and data that ends
    /// before or after them.
    fn expect_end_to_end(&self) -> Result<()> {
        let held = self.bytes.len() - self.data;
        let mut by_place: Vec<_> = self.tensors.iter().collect();
        by_place.sort_by_key(|(_, info)| info.data_offsets);
        let mut filled = 0;
        for (name, info) in by_place {
            let (start, end) = info.data_offsets;
            let described = format!("{:?} {:?} in bytes {start}..{end} of the data", info.dtype, info.shape);
            let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &extent| n.checked_mul(extent));
            if end < start || bits.is_none() || bits != (end - start).checked_mul(8) {
                return Err(self.refuse(name, "as many bytes as its shape and dtype make", described));
            }
            if start != filled {
                return Err(self.refuse(
                    name,
                    format!("at byte {filled}, where the one before ends"),
                    described,
                ));
            }
            if end > held {
                let expected = format!("whole in the {held} bytes of data that the file holds");
                return Err(self.refuse(name, expected, described));
            }
            filled = end;
        }
        if filled != held {
            let got = format!("{} more bytes", held - filled);
            return Err(refused(&self.path, "the end of the file after the last tensor", got));
        }
        Ok(())
    }
}

/// Where the header ends, and what it says.
fn header(path: &Path, bytes: &[u8]) -> Result<(usize, BTreeMap<String, TensorInfo>)> {
    const EXPECTED: &str = "a safetensors file";
    // What would end up as an absurd length of the header, and is likely.
    const PICKLES: [&[u8]; 2] = [b"PK\x03\x04", b"\x80\x02"];
    /// The format's limit.
    const LONGEST: u64 = 100_000_000;
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Err(refused(path, EXPECTED, format!("{} bytes", bytes.len())));
    };
    if PICKLES.iter().any(|start| bytes.starts_with(start)) {
        return Err(refused(path, EXPECTED, "a pickle of torch's, which may run code; convert it first"));
    }
    let length = u64::from_le_bytes(*length);
    let text = usize::try_from(length.min(LONGEST + 1)).ok().filter(|_| length <= LONGEST);
    let Some(text) = text.and_then(|length| rest.get(..length)) else {
        let got = format!("a header of {length} bytes in a file of {}", bytes.len());
        return Err(refused(path, EXPECTED, got));
    };
    let header: Header = serde_json::from_slice(text).map_err(|error| refused(path, EXPECTED, error))?;
    Ok((size_of::<u64>() + text.len(), header.tensors))
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// Hints. That one is not taken does no harm, so errors are not told.
impl Bytes {
    /// Has the system begin to read.
    fn will_need(&self, place: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            let _ = map.advise_range(memmap2::Advice::WillNeed, place.start, place.len());
        }
    }

    /// Takes pages out of this process that have been read, so that a model in memory is not counted twice.
    fn release(&self, place: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            // SAFETY: the map is of a file, shared and never written to, so a page that is dropped comes back from the
            // file with the same bytes when it is read again.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, place.start, place.len())
            };
        }
    }
}
