//! The kept corpus of `fuzz/`, as it is and changed at random: what fuzzing has found stays found.

#[path = "../fuzz/checks.rs"]
mod checks;
mod support;

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use support::report::report;

/// How often each file of the corpus is changed.
const CHANGES: u64 = 100;

/// A generator of Marsaglia's (2003), good enough to break files with.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// The bytes with a few of them replaced, removed, or copied to where they do not belong.
    fn change(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(changed.len());
            let to = at + self.below(changed.len() - at).min(64);
            match self.below(4) {
                0 if at < changed.len() => changed[at] = self.below(256) as u8,
                1 => drop(changed.drain(at..to)),
                2 => changed.truncate(at),
                _ => {
                    let part = changed[at..to].to_vec();
                    let into = self.below(changed.len());
                    changed.splice(into..into, part);
                }
            }
        }
        changed
    }

    /// The same for a safetensors file, whose header is to stay as long as it says.
    fn change_header(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some((_, rest)) = bytes.split_first_chunk::<8>() else { return self.change(bytes) };
        let header = rest.iter().rposition(|&byte| byte == b'}').map_or(rest.len(), |end| end + 1);
        let changed = self.change(&rest[..header]);
        [&(changed.len() as u64).to_le_bytes()[..], &changed, &rest[header..]].concat()
    }
}

fn replay(target: &str, files_kept: usize, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert_eq!(files.len(), files_kept, "{target}");
    files.par_iter().enumerate().for_each(|(number, bytes)| {
        check(bytes);
        let mut random = Xorshift(number as u64 + 1);
        for _ in 0..CHANGES {
            check(&random.change(bytes));
            check(&random.change_header(bytes));
        }
    });
    report(format!(
        "fuzz corpus: {} files of {target}, changed {} times",
        files.len(),
        files.len() as u64 * 2 * CHANGES
    ));
}

#[test]
fn no_weights_can_make_loading_panic() {
    replay("weights", 214, checks::weights);
}

#[test]
fn no_configuration_can_make_loading_panic() {
    replay("config", 417, checks::config);
}
