//! What `build.rs` is made of, driven with compilers that are missing, fail, work, or are something else.
#![cfg(unix)]

#[path = "../build/mod.rs"]
mod kernels;
#[path = "../kernels/manifest.rs"]
#[allow(dead_code, reason = "these tests bring files of their own")]
mod manifest;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use kernels::{Build, Error};
use manifest::File;
use tempfile::TempDir;

const FILES: &[File] = &[
    File { name: "gemm", kernels: &[], flags: &["--use_fast_math"], architectures: &[] },
    File { name: "gemm_sm90", kernels: &[], flags: &[], architectures: &["sm_90a"] },
];

/// A toolkit of `tests/toolkits`.
fn toolkit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toolkits").join(name)
}

/// Sources, an output folder and an environment.
struct Bench {
    folder: TempDir,
    variables: Vec<(&'static str, OsString)>,
    system: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let bench = Bench { system: folder.path().join("no/system"), folder, variables: vec![] };
        bench.write("sources/gemm.cu", "gemm");
        bench.write("sources/gemm_sm90.cu", "gemm for Hopper");
        bench.write("sources/common/mma.cuh", "mma");
        fs::create_dir(bench.path("out")).unwrap();
        bench
    }

    fn with(name: &'static str, value: impl Into<OsString>) -> Self {
        Bench { variables: vec![(name, value.into())], ..Bench::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.into()));
    }

    fn run(&self) -> Result<Vec<String>, Error> {
        let variable = |name: &str| {
            let set = self.variables.iter().rev().find(|(known, _)| *known == name);
            set.map(|(_, value)| value.clone())
        };
        let (sources, out, system) = (self.path("sources"), self.path("out"), self.system.clone());
        Build { files: FILES, sources, out, variable: &variable, system }.run()
    }

    /// Runs, and tells which files were compiled, in the order of their names.
    fn compiled(&self) -> Vec<String> {
        let list = self.path("out/compiled");
        let _ = fs::remove_file(&list);
        self.run().unwrap();
        let text = fs::read_to_string(list).unwrap_or_default();
        let name = |line: &str| Path::new(line).file_name().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = text.lines().map(name).collect();
        names.sort();
        names
    }

    fn table(&self) -> String {
        fs::read_to_string(self.path("out/kernels.rs")).unwrap()
    }

    /// What was given to the compiler for a file, which the one in `works` takes for its code.
    fn code(&self, name: &str) -> String {
        let table = self.table();
        let line = table
            .lines()
            .find(|line| line.contains(&format!("({name:?}, &Aligned(*include_bytes!")))
            .unwrap();
        fs::read_to_string(line.split('"').nth(3).unwrap()).unwrap()
    }

    /// Everything in the output folder.
    fn written(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("out")).unwrap().map(|file| file.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }
}

#[test]
fn without_a_compiler_it_says_where_it_looked_and_what_helps() {
    let mut bench = Bench::new();
    bench.set("CUDA_HOME", "/home/cuda");
    bench.set("PATH", "/one:/two");
    let error = bench.run().unwrap_err();
    assert!(matches!(&error, Error::NoNvcc { tried } if tried.len() == 4), "{error}");
    let text = error.to_string();
    let system = format!("{}/bin/nvcc (the system's)", bench.system.display());
    let places = ["/home/cuda/bin/nvcc (CUDA_HOME)", "/one/nvcc (PATH)", "/two/nvcc (PATH)", system.as_str()];
    for words in places.iter().chain(&["ci/nvcc.sh", "NVCC", "NOISEFORK_KERNELS=skip"]) {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(bench.written().is_empty());
}

#[test]
fn each_place_is_looked_into_and_nvcc_before_all() {
    let home = toolkit("works");
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        assert_eq!(Bench::with(name, &home).compiled().len(), FILES.len(), "{name}");
    }
    let path = std::env::join_paths([Path::new("/nowhere"), &home.join("bin")]).unwrap();
    assert_eq!(Bench::with("PATH", path).compiled().len(), FILES.len());
    assert_eq!(Bench { system: home.clone(), ..Bench::new() }.compiled().len(), FILES.len());

    let mut bench = Bench::with("NVCC", home.join("bin/nvcc"));
    bench.set("CUDA_HOME", toolkit("fails").to_str().unwrap());
    assert_eq!(bench.compiled().len(), FILES.len());
    // What was asked for by name is not replaced by another.
    bench.set("NVCC", "/nowhere/nvcc");
    let error = bench.run().unwrap_err();
    assert!(matches!(&error, Error::NoNvcc { tried } if *tried == ["/nowhere/nvcc (NVCC)"]), "{error}");
}

#[test]
fn a_failure_shows_the_command_and_what_it_said_and_leaves_nothing_to_embed() {
    let bench = Bench::with("CUDA_HOME", toolkit("fails"));
    for _ in 0..2 {
        let text = bench.run().unwrap_err().to_string();
        for words in
            ["fails/bin/nvcc -fatbin", "-gencode=arch=compute_90a,code=sm_90a", "(7): error: expected a ';'"]
        {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        let endings = [".rs", ".txt"];
        assert!(!bench.written().iter().any(|name| endings.iter().any(|ending| name.ends_with(ending))));
    }
}

#[test]
fn what_does_not_answer_as_nvcc_is_refused() {
    let error = Bench::with("CUDA_HOME", toolkit("strange")).run().unwrap_err();
    assert!(matches!(&error, Error::Failed { said, .. } if said == "hello\n"), "{error}");
}

#[test]
fn only_what_changed_is_compiled_again() {
    let mut bench = Bench::with("CUDA_HOME", toolkit("works"));
    assert_eq!(bench.compiled(), ["gemm.cu", "gemm_sm90.cu"]);
    assert!(bench.compiled().is_empty());
    bench.write("sources/gemm.cu", "gemm, faster");
    assert_eq!(bench.compiled(), ["gemm.cu"]);
    bench.write("sources/common/mma.cuh", "mma, right");
    assert_eq!(bench.compiled(), ["gemm.cu", "gemm_sm90.cu"]);
    bench.set("NVCC_APPEND_FLAGS", "-lineinfo");
    assert_eq!(bench.compiled(), ["gemm.cu", "gemm_sm90.cu"]);
    assert!(bench.compiled().is_empty());
    // One fatbin and one report a file, and the table: what was there before is gone.
    assert_eq!(bench.written().len(), 2 * FILES.len() + 1, "{:?}", bench.written());
}

#[test]
fn the_table_names_release_architectures_and_files() {
    let bench = Bench::with("CUDA_HOME", toolkit("works"));
    bench.run().unwrap();
    let table = bench.table();
    assert!(table.contains(r#"RELEASE: &str = "13.0""#), "{table}");
    assert!(
        table.contains(r#"["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", "compute_80"]"#),
        "{table}"
    );
    assert!(bench.code("gemm").contains("-gencode=arch=compute_80,code=compute_80 --use_fast_math"));
    assert_eq!(bench.code("gemm").matches("-gencode").count(), 7);
    assert_eq!(bench.code("gemm_sm90").matches("-gencode").count(), 1);
}

#[test]
fn architectures_can_be_chosen() {
    let mut bench = Bench::with("CUDA_HOME", toolkit("works"));
    bench.set("NOISEFORK_CUDA_ARCH", "sm_80, compute_80");
    // The file for Hopper is left out.
    assert_eq!(bench.compiled(), ["gemm.cu"]);
    assert!(bench.table().contains(r#"["sm_80", "compute_80"]"#));
    for wrong in ["native", "90", "sm_", "", "sm_80;sm_90", "sm_80,"] {
        bench.set("NOISEFORK_CUDA_ARCH", wrong);
        let error = bench.run().unwrap_err();
        assert!(matches!(error, Error::Variable { name: "NOISEFORK_CUDA_ARCH", .. }), "{wrong:?}: {error}");
    }
}

#[test]
fn skipped_it_needs_no_compiler() {
    for (name, value) in [("NOISEFORK_KERNELS", "skip"), ("DOCS_RS", "1")] {
        let bench = Bench::with(name, value);
        bench.run().unwrap();
        assert!(bench.table().contains("IMAGES: &[(&str, &Aligned<[u8]>)] = &[\n];"), "{}", bench.table());
        assert_eq!(bench.written(), ["kernels.rs"]);
    }
    let error = Bench::with("NOISEFORK_KERNELS", "no").run().unwrap_err();
    assert!(matches!(error, Error::Variable { name: "NOISEFORK_KERNELS", .. }), "{error}");
}

#[test]
fn cargo_watches_sources_variables_and_the_compiler() {
    let watched = Bench::with("CUDA_HOME", toolkit("works")).run().unwrap();
    let nvcc = toolkit("works/bin/nvcc");
    for end in [
        "/sources",
        "=NOISEFORK_KERNELS",
        "=NVCC",
        "=CUDA_HOME",
        "=NVCC_APPEND_FLAGS",
        nvcc.to_str().unwrap(),
    ] {
        assert!(watched.iter().any(|line| line.ends_with(end)), "{end} is not watched: {watched:?}");
    }
}
