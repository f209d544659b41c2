//! A folder of `src/` uses only those above it in this list, and the backends do not use each other.

use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: [&str; 16] = [
    "error",
    "simd",
    "tensor",
    "pool",
    "rng",
    "ops",
    "trace",
    "reference",
    "cpu",
    "cuda",
    "nn",
    "sampling",
    "unet",
    "autoencoder",
    "words",
    "bin",
];

/// Uses that the order alone would allow or forbid wrongly: an error says which shape came; backends stand side by side.
fn allowed(user: &str, used: &str) -> bool {
    let rank = |layer: &str| LAYERS.iter().position(|&known| known == layer);
    match (user, used) {
        ("error", "tensor") => true,
        ("cpu" | "cuda", "reference") | ("cuda", "cpu") => false,
        _ => user == used || rank(used) < rank(user),
    }
}

/// The layers that a line of code names.
fn used_in(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or("");
    let mut used = Vec::new();
    for prefix in ["crate::", "noisefork::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            assert!(!rest.starts_with('{'), "a list of layers, of which this would see none: {line}");
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            used.push(&rest[..end]);
        }
    }
    used
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let within = |path: PathBuf| if path.is_dir() { rust_files(&path) } else { vec![path] };
    entries.flat_map(within).filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

#[test]
fn a_folder_uses_only_those_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut uses = 0;
    for file in rust_files(&root) {
        let path = file.strip_prefix(&root).unwrap();
        let layer = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if layer == "lib" {
            continue;
        }
        assert!(LAYERS.contains(&layer), "{} belongs to no layer of the list", path.display());
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for used in used_in(line).into_iter().filter(|used| LAYERS.contains(used)) {
                uses += 1;
                assert!(
                    allowed(layer, used),
                    "src/{}:{}: {layer} must not use {used}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
    assert!(uses > 50, "only {uses} uses were seen");
}

#[test]
fn the_rule_tells_up_from_down() {
    assert!(allowed("unet", "nn") && allowed("sampling", "rng") && allowed("bin", "unet"));
    assert!(!allowed("nn", "unet") && !allowed("sampling", "unet") && !allowed("cpu", "reference"));
    assert_eq!(used_in("use crate::ops::{Backend}; // crate::bin"), ["ops"]);
}
