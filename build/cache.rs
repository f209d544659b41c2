//! Files kept under the hash of what they were made from.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process;

use super::nvcc::Error;

/// A hash of everything that a file depends on.
#[derive(Clone, Default)]
pub struct Key(DefaultHasher);

impl Key {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part, and where it ends.
    pub fn add(&mut self, part: &[u8]) {
        part.hash(&mut self.0);
    }
}

/// A folder of such files: for each name one, its newest.
pub struct Cache<'a> {
    pub folder: &'a Path,
}

impl Cache<'_> {
    /// The fatbin and the report under a name and a key, made by `make` if they are not there. What is there is whole: it
    /// is made under other names, and the fatbin is renamed last.
    pub fn entry(
        &self,
        name: &str,
        key: &Key,
        make: impl FnOnce([&Path; 2]) -> Result<(), Error>,
    ) -> Result<[PathBuf; 2], Error> {
        const ENDINGS: [&str; 2] = ["fatbin", "txt"];
        let hash = key.0.finish();
        let entry = ENDINGS.map(|ending| self.folder.join(format!("{name}-{hash:016x}.{ending}")));
        if entry.iter().all(|path| path.is_file()) {
            return Ok(entry);
        }
        let making = ENDINGS.map(|ending| self.folder.join(format!("{name}.{}.{ending}", process::id())));
        make([&making[0], &making[1]])?;
        self.forget(name);
        for (from, to) in making.iter().zip(&entry).rev() {
            fs::rename(from, to).map_err(Error::writing(to))?;
        }
        Ok(entry)
    }

    /// Removes older entries of a name. One that cannot be removed does no harm.
    fn forget(&self, name: &str) {
        let Ok(files) = fs::read_dir(self.folder) else { return };
        for path in files.flatten().map(|file| file.path()) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if stem.rsplit_once('-').is_some_and(|(of, hash)| of == name && hash.len() == 16) {
                let _ = fs::remove_file(path);
            }
        }
    }
}
