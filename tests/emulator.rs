//! What the host's code takes for granted of the kernels, and what the emulator shows of launches.

use noisefork::cuda::manifest::FILES;

/// `*const E` for bf16 is `*const bf16`.
fn instance(argument: &str, element: &str) -> String {
    let words: Vec<&str> = argument.split(' ').map(|word| if word == "E" { element } else { word }).collect();
    words.join(" ")
}

#[test]
fn the_manifest_says_what_the_kernels_take() {
    for file in FILES {
        for kernel in file.kernels {
            for element in kernel.elements {
                let name = format!("{}_{element}", kernel.name);
                let listed: Vec<String> = kernel.args.iter().map(|arg| instance(arg, element)).collect();
                assert_eq!(emulator::signature(&name), Some(listed.join(", ")), "{}.cu: {name}", file.name);
            }
        }
    }
}

#[test]
fn every_file_is_listed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "cu"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut listed: Vec<&str> = FILES.iter().map(|file| file.name).collect();
    listed.sort_unstable();
    assert_eq!(found, listed);
}
