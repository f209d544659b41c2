//! What nvcc made of the kernels: nothing spilled, the instructions that they claim, and the table of `docs/kernels.md`.
//!
//! Without kernels (`NOISEFORK_KERNELS=skip`) there is nothing to look at, and the tests say so.

#[path = "../kernels/manifest.rs"]
#[allow(dead_code, reason = "arguments and flags are for others")]
mod manifest;
/// The table that the build script wrote, as the crate embeds it.
mod table {
    pub struct Aligned<T: ?Sized>(pub T);
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use manifest::{FILES, File, Kernel, Uses};
use table::{ARCHITECTURES, IMAGES, RELEASE, REPORTS};

/// The architectures whose machine code is read and tabled: the oldest, Hopper's own, and the newest.
const READ: [&str; 3] = ["sm_80", "sm_90a", "sm_120"];

/// What ptxas says of an entry point.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    registers: u32,
    /// Static shared memory in bytes.
    shared: u32,
    /// Bytes of local memory a thread. Spills aside, arrays that are indexed at run time lie there.
    stack: u32,
    spilled: u32,
}

fn skipped(test: &str) -> bool {
    if IMAGES.is_empty() {
        println!("{test}: skipped, since this build has no kernels");
    }
    IMAGES.is_empty()
}

/// Entry points of a kernel, with their element types.
fn entries(kernel: &Kernel) -> impl Iterator<Item = (String, &str)> {
    kernel.elements.iter().map(|element| (format!("{}_{element}", kernel.name), *element))
}

/// Those of `architectures` that there is machine code for in a file.
fn machine_code<'a>(file: &File, architectures: &[&'a str]) -> Vec<&'a str> {
    let built = |name: &&&str| name.starts_with("sm_") && ARCHITECTURES.contains(*name);
    let its_own = |name: &&&str| file.architectures.is_empty() || file.architectures.contains(*name);
    architectures.iter().filter(built).filter(its_own).copied().collect()
}

/// The report of `-Xptxas -v`, by entry point and architecture.
fn usages(report: &str) -> BTreeMap<(String, String), Usage> {
    let number = |line: &str, unit: &str| -> u32 {
        let before = line.split(unit).next().unwrap_or_default();
        before
            .rsplit([' ', ','])
            .find(|word| !word.is_empty())
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    };
    let mut usages = BTreeMap::new();
    let mut of = None;
    for line in report.lines() {
        if let Some(names) = line.split("Compiling entry function '").nth(1) {
            let words: Vec<&str> = names.split('\'').collect();
            of = Some((words[0].to_owned(), words[2].to_owned()));
        }
        let Some(of) = &of else { continue };
        let usage: &mut Usage = usages.entry(of.clone()).or_default();
        // Functions that were not inlined are told of one by one.
        if line.contains("bytes stack frame") {
            usage.stack += number(line, " bytes stack frame");
            usage.spilled += number(line, " bytes spill stores") + number(line, " bytes spill loads");
        }
        if line.contains(" registers") {
            usage.registers = number(line, " registers");
            usage.shared = if line.contains(" bytes smem") { number(line, " bytes smem") } else { 0 };
        }
    }
    usages
}

fn report(file: &File) -> BTreeMap<(String, String), Usage> {
    let (_, report) = REPORTS.iter().find(|(name, _)| *name == file.name).expect("every file has a report");
    usages(report)
}

#[test]
fn reports_are_read() {
    let report = "\
ptxas info    : 24 bytes gmem
ptxas info    : Compiling entry function 'gemm_f16' for 'sm_90a'
ptxas info    : Function properties for gemm_f16
    32 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Function properties for helper
    16 bytes stack frame, 1 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 70 registers, used 1 barriers, 1024 bytes smem, 564 bytes cmem[0]
ptxas info    : Compiling entry function 'gemm_f16' for 'sm_120'
ptxas info    : Function properties for gemm_f16
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
";
    let usages = usages(report);
    let of = |architecture: &str| &usages[&("gemm_f16".to_owned(), architecture.to_owned())];
    assert_eq!(of("sm_90a"), &Usage { registers: 70, shared: 1024, stack: 48, spilled: 13 });
    assert_eq!(of("sm_120"), &Usage { registers: 255, shared: 0, stack: 0, spilled: 0 });
}

#[test]
fn every_kernel_is_there_and_spills_nothing() {
    if skipped("every_kernel_is_there_and_spills_nothing") {
        return;
    }
    let mut seen = 0;
    for file in FILES {
        let architectures = machine_code(file, ARCHITECTURES);
        if architectures.is_empty() {
            continue;
        }
        let usages = report(file);
        for (entry, _) in file.kernels.iter().flat_map(entries) {
            for architecture in &architectures {
                let usage = usages.get(&(entry.clone(), (*architecture).to_owned()));
                let usage =
                    usage.unwrap_or_else(|| panic!("{}.cu has no {entry} for {architecture}", file.name));
                assert_eq!(usage.spilled, 0, "{entry} spills on {architecture}: {usage:?}");
                seen += 1;
            }
        }
        let known: Vec<String> = file.kernels.iter().flat_map(entries).map(|(entry, _)| entry).collect();
        for (entry, _) in usages.keys() {
            assert!(known.contains(entry), "{entry} of {}.cu is not in the manifest", file.name);
        }
    }
    println!("{seen} compiled kernels, none of which spills");
    assert!(seen > 0);
}

/// Among what it advises of: products of a warpgroup that wait for each other, `setmaxnreg` that it leaves out.
#[test]
fn the_compiler_warns_of_nothing() {
    if skipped("the_compiler_warns_of_nothing") {
        return;
    }
    let warnings = REPORTS.iter().flat_map(|(file, report)| report.lines().map(move |line| (file, line)));
    let warns = |line: &str| line.contains("warning") || line.contains("Performance Loss");
    let found: Vec<_> = warnings.filter(|(_, line)| warns(line)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// A program of the toolkit: beside nvcc, or in `PATH`.
fn tool(name: &str) -> PathBuf {
    let of = |variable| env::var_os(variable).map(|home| PathBuf::from(home).join("bin"));
    let nvcc = env::var_os("NVCC").and_then(|nvcc| Some(Path::new(&nvcc).parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders =
        nvcc.into_iter().chain(of("CUDA_HOME")).chain(of("CUDA_PATH")).chain(env::split_paths(&path));
    let mut tools = folders.chain(["/usr/local/cuda/bin".into()]).map(|folder| folder.join(name));
    tools.find(|tool| tool.is_file()).unwrap_or_else(|| panic!("no {name} beside nvcc: ci/nvcc.sh has it"))
}

/// The instructions of a fatbin for an architecture, by entry point.
fn instructions(fatbin: &[u8], architecture: &str) -> BTreeMap<String, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kernels.fatbin");
    fs::write(&file, fatbin).unwrap();
    let output =
        Command::new(tool("cuobjdump")).args(["-sass", "-arch", architecture]).arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cuobjdump: {}", String::from_utf8_lossy(&output.stderr));
    let mut functions = BTreeMap::new();
    for function in text.split("Function : ").skip(1) {
        let mut lines = function.lines();
        let name = lines.next().unwrap_or_default().trim().to_owned();
        // "        /*0010*/    @!P0 LDG.E.128 R8, desc[UR6][R2.64] ;   /* 0x... */"
        let code = lines.filter_map(|line| line.trim_start().strip_prefix("/*")?.split("*/").nth(1));
        let opcode = |code: &str| {
            let mut words = code.split_whitespace().skip_while(|word| word.starts_with('@'));
            words.next().map(str::to_owned)
        };
        functions.insert(name, code.filter_map(opcode).collect());
    }
    functions
}

/// What machine code must hold: of each list, an instruction that begins so. Loads must be wide.
fn wanted(uses: &Uses) -> &'static [&'static [&'static str]] {
    match uses {
        Uses::TensorCores => &[&["HMMA."]],
        Uses::MatrixLoads => &[&["LDSM."]],
        Uses::AsyncCopies => &[&["LDGSTS."]],
        Uses::WideLoads => &[&["LDG.", "LDGSTS."]],
        Uses::WarpgroupProducts => &[&["HGMMA."], &["WARPGROUP.ARRIVE"], &["WARPGROUP.DEPBAR"]],
        Uses::TensorCopies => &[&["UTMALDG."], &["SYNCS.ARRIVE.TRANS64"], &["SYNCS.PHASECHK.TRANS64"]],
        Uses::RegisterTransfer => &[&["USETMAXREG."]],
    }
}

fn holds(instructions: &[String], uses: &Uses) -> bool {
    let wide = |instruction: &str| !matches!(uses, Uses::WideLoads) || instruction.contains(".128");
    wanted(uses).iter().all(|names| {
        let is = |instruction: &String| {
            names.iter().any(|name| instruction.starts_with(name)) && wide(instruction)
        };
        instructions.iter().any(is)
    })
}

#[test]
fn kernels_hold_the_instructions_that_they_claim() {
    if skipped("kernels_hold_the_instructions_that_they_claim") {
        return;
    }
    let mut found = 0;
    for file in FILES {
        for architecture in machine_code(file, &READ) {
            let (_, image) =
                IMAGES.iter().find(|(name, _)| *name == file.name).expect("every file has an image");
            let code = instructions(&image.0, architecture);
            for kernel in file.kernels {
                for (entry, element) in entries(kernel) {
                    let instructions =
                        code.get(&entry).unwrap_or_else(|| panic!("no {entry} for {architecture}"));
                    for uses in kernel.uses {
                        if element == "f32" && matches!(uses, Uses::TensorCores | Uses::MatrixLoads) {
                            continue;
                        }
                        let there = holds(instructions, uses);
                        assert!(there, "{entry} claims {uses:?}, and lacks it for {architecture}");
                        found += 1;
                    }
                }
            }
        }
    }
    println!("{found} claims hold");
    assert!(found > 0);
}

#[test]
fn the_table_of_kernels_is_up_to_date() {
    if skipped("the_table_of_kernels_is_up_to_date") {
        return;
    }
    let mut text = format!(
        "# Kernels\n\n\
         Registers a thread and static shared memory in bytes, as nvcc {RELEASE} compiles them; no kernel spills. A third \
         number\nis local memory of arrays, in bytes a thread. Made by `KERNELS_TABLE=write cargo test --release --features \
         cuda --test\nmachine_code`.\n"
    );
    for file in FILES {
        let architectures = machine_code(file, &READ);
        if architectures.is_empty() {
            continue;
        }
        let _ = write!(text, "\n| {}.cu |", file.name);
        architectures.iter().for_each(|name| text += &format!(" {name} |"));
        let _ = write!(text, "\n|---|{}", "---|".repeat(architectures.len()));
        let usages = report(file);
        for (entry, _) in file.kernels.iter().flat_map(entries) {
            let _ = write!(text, "\n| `{entry}` |");
            for name in &architectures {
                let Usage { registers, shared, stack, .. } = usages[&(entry.clone(), (*name).to_owned())];
                let _ = write!(text, " {registers}, {shared}");
                let _ = if stack > 0 { write!(text, ", {stack} |") } else { write!(text, " |") };
            }
        }
        text += "\n";
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kernels.md");
    if env::var_os("KERNELS_TABLE").is_some_and(|value| value == "write") {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    if !written.is_empty() && !written.contains(&format!("nvcc {RELEASE} ")) {
        println!("the_table_of_kernels_is_up_to_date: skipped, since it is of another nvcc than {RELEASE}");
        return;
    }
    assert!(written == text, "docs/kernels.md is out of date; its second paragraph says how it is made");
}
