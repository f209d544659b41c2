//! The command from outside: what it writes, and that bad input costs exit code 2 and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use noisefork::sampling::Record;
use noisefork::sampling::record::Settings;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

fn noisefork(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_noisefork"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn f32s(tensors: &SafeTensors, name: &str) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(tensors.tensor(name).unwrap().data())
}

/// The record in the header of a file.
fn record(bytes: &[u8]) -> Record {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    Record::from_json(&header.metadata().as_ref().unwrap()["record"]).unwrap()
}

/// Runs the command with `arguments` and `--out FILE`; returns what it wrote, and what it said on standard error.
#[track_caller]
fn written(folder: &TempDir, arguments: &str, file: &str) -> (Vec<u8>, String) {
    let arguments: Vec<&str> = arguments.split_whitespace().chain(["--out", file]).collect();
    let output = noisefork(folder.path(), &arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    (fs::read(folder.path().join(file)).unwrap(), text(&output.stderr))
}

fn samples(bytes: &[u8]) -> Vec<u8> {
    SafeTensors::deserialize(bytes).unwrap().tensor("samples").unwrap().data().to_vec()
}

/// Runs `variations` with `arguments`, asserts that it is refused in words that hold `expected`, and that the folder
/// holds what it held before.
#[track_caller]
fn assert_refused(folder: &TempDir, arguments: &[&str], expected: &[&str]) {
    let before = files(folder.path());
    let output = noisefork(folder.path(), &[&["variations"], arguments].concat());
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    for words in expected {
        assert!(errors.contains(words), "{arguments:?}: {words:?} is not in {errors:?}");
    }
    assert_eq!(files(folder.path()), before, "{arguments:?} left files behind");
}

#[test]
fn no_flags_give_a_picture() {
    let folder = TempDir::new().unwrap();
    let output = noisefork(folder.path(), &["variations"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(files(folder.path()), ["variations.png"]);
    let picture = image::open(folder.path().join("variations.png")).unwrap().to_rgb8();
    // Eight cells of 128 pixels and the composition, on white paper, with faces in yellow.
    assert!(picture.width() > 6 * 128 && picture.height() > 2 * 128);
    let yellow = picture.pixels().filter(|p| p.0[0] > 200 && p.0[1] > 130 && p.0[2] < 100).count();
    let share = yellow as f64 / f64::from(picture.width() * picture.height());
    assert!((0.2..0.8).contains(&share), "{share} of the sheet is yellow");
}

#[test]
fn strength_decides_how_much_of_the_composition_is_kept() {
    let folder = TempDir::new().unwrap();
    let distance = |strength: &str| {
        let flags = ["variations", "--batch", "4", "--cfg", "4", "--out", "s.safetensors"];
        let output = noisefork(folder.path(), &[&flags[..], &["--variation-strength", strength]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let bytes = fs::read(folder.path().join("s.safetensors")).unwrap();
        let Settings::Variations(node) = record(&bytes).settings else { panic!("another kind of run") };
        assert_eq!(node.variation_strength.to_string(), strength);
        assert_eq!((node.sampler.name(), node.profile.to_string().as_str()), ("euler", "comfyui-0.3.64"));

        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("samples").unwrap().shape(), [4, 4, 16, 16]);
        let (samples, composition) = (f32s(&tensors, "samples"), f32s(&tensors, "composition"));
        let squares = samples.iter().zip(composition.iter().cycle()).map(|(a, b)| f64::from(a - b).powi(2));
        let size: f64 = composition.iter().map(|v| f64::from(*v).powi(2)).sum();
        (squares.sum::<f64>() / (4.0 * size)).sqrt()
    };
    let (little, much) = (distance("0.2"), distance("0.8"));
    assert!(little > 0.0 && little < 0.3 && much > 2.0 * little, "{little} and {much}");
}

#[test]
fn shards_are_the_whole_run() {
    let folder = TempDir::new().unwrap();
    for kind in ["", "--repaired --variation-strength 0.2,0.9,0.4,0,1", "--profile comfyui-post-11528"] {
        let run = format!("variations --batch 5 --steps 6 --cfg 2 --sampler euler_ancestral {kind}");
        let (whole, _) = written(&folder, &run, "whole.safetensors");
        assert_eq!(written(&folder, &run, "again.safetensors").0, whole, "{kind}");
        for shards in [1, 2, 7] {
            let mut gathered = Vec::new();
            for shard in 1..=shards {
                let (part, _) =
                    written(&folder, &format!("{run} --shard {shard}/{shards}"), "part.safetensors");
                let record = record(&part);
                assert_eq!(record.items.start * 4 * 16 * 16 * 4, gathered.len());
                gathered.extend(samples(&part));
            }
            assert!(gathered == samples(&whole), "{kind}: {shards} shards");
        }
    }
    assert!(!folder.path().join("variations.png").exists());
}

#[test]
fn files_are_made_again_from_their_records() {
    let folder = TempDir::new().unwrap();
    let item = 4 * 16 * 16 * 4;
    for kind in ["--prompt cat", "--repaired --fork-sigma 2 --variation-sampler euler_ancestral --size 64x64"]
    {
        let run = format!("variations --batch 4 --steps 6 --cfg 1.21 --shard 2/2 {kind}");
        let (first, _) = written(&folder, &run, "first.safetensors");
        let (again, _) = written(&folder, "replay first.safetensors", "again.safetensors");
        assert!(samples(&again) == samples(&first), "{kind}");
        assert_eq!(record(&again), record(&first));
        let one = "replay first.safetensors --item 3 --image one.png";
        let (one, _) = written(&folder, one, "one.safetensors");
        assert!(samples(&one) == samples(&first)[item..], "{kind}");
        assert_eq!(record(&one).items, 3..4);
        let said = noisefork(folder.path(), &["replay", "one.safetensors"]);
        assert_eq!(text(&said.stdout), "the same bits: 1024 values in 1 item(s)\n");
    }
    assert!(folder.path().join("one.png").exists());

    let mut edited = fs::read(folder.path().join("first.safetensors")).unwrap();
    let last = edited.len() - 1;
    edited[last] ^= 1;
    fs::write(folder.path().join("edited.safetensors"), edited).unwrap();
    let said = noisefork(folder.path(), &["replay", "edited.safetensors"]);
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(text(&said.stdout), "other bits: 1 of 2048 values differ\n");
    let refused = noisefork(folder.path(), &["replay", "first.safetensors", "--item", "1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("item must be within 2..4, the items of the file, got 1"));
}

/// Nothing takes the place of what is no file.
#[cfg(unix)]
#[test]
fn a_pipe_is_written_to() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    let run = ["variations", "--batch", "1", "--steps", "2", "--out", "pipe"];
    let output = noisefork(folder.path(), &run);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!fs::metadata(&pipe).unwrap().is_file());
    assert_eq!(record(&reader.join().unwrap()).shape[0], 1);
    assert_eq!(files(folder.path()), ["pipe"]);
}

/// Which instructions multiplied is a part of what bits come out, so a file names them, and is made again by them.
#[test]
fn files_are_made_again_by_the_instructions_that_made_them() {
    let folder = TempDir::new().unwrap();
    let run = "variations --batch 2 --steps 4 --cfg 1";
    let made_by = |bytes: &[u8]| record(bytes).facts["device"].clone();
    let (best, _) = written(&folder, run, "best.safetensors");
    assert!(made_by(&best).starts_with("cpu:"), "{}", made_by(&best));
    let named = format!("{run} --device {}", made_by(&best));
    assert_eq!(written(&folder, &named, "named.safetensors").0, best);

    let (plain, _) = written(&folder, &format!("{run} --device cpu:portable"), "plain.safetensors");
    assert_eq!(made_by(&plain), "cpu:portable");
    let (again, _) = written(&folder, "replay plain.safetensors", "again.safetensors");
    assert!(samples(&again) == samples(&plain));
    let said = noisefork(folder.path(), &["replay", "plain.safetensors", "--device", "cpu"]);
    if samples(&best) != samples(&plain) {
        assert_eq!(said.status.code(), Some(1));
        let note = format!("made by cpu:portable, and again by {}", made_by(&best));
        assert!(text(&said.stderr).contains(&note), "{}", text(&said.stderr));
    }
}

#[test]
fn repaired_variations_vary_where_the_node_does_not() {
    let folder = TempDir::new().unwrap();
    let run = "variations --batch 3 --steps 5 --cfg 2 --noise-seed 1 --variation-strength 0.01";
    let distinct = |bytes: &[u8]| {
        let samples = samples(bytes);
        let mut items: Vec<&[u8]> = samples.chunks(samples.len() / 3).collect();
        items.sort();
        items.dedup();
        items.len()
    };
    let (node, said) = written(&folder, run, "node.safetensors");
    assert_eq!(distinct(&node), 1);
    assert!(said.contains("note: all variations are the same"), "{said}");
    let (repaired, said) = written(&folder, &format!("{run} --repaired"), "repaired.safetensors");
    assert_eq!((distinct(&repaired), said.as_str()), (3, ""));
}

#[test]
fn settings_that_are_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |arguments: &[&str], expected: &[&str]| assert_refused(&folder, arguments, expected);
    refused(&["--sampler", "eular"], &["unknown sampler \"eular\"", "nearest: euler"]);
    refused(&["--scheduler", "karas"], &["unknown scheduler \"karas\"", "nearest: karras"]);
    refused(&["--steps", "0"], &["steps must be within 1 to 10000, got 0"]);
    refused(&["--steps", "-3"], &["-3"]);
    refused(&["--cfg", "NaN"], &["cfg", "finite, got NaN"]);
    refused(&["--cfg-scale", "inf"], &["cfg * cfg_scale", "finite"]);
    refused(&["--variation-strength", "1.5"], &["variation_strength must be within [0, 1], got 1.5"]);
    refused(&["--variation-strength", "NaN"], &["within [0, 1], got NaN"]);
    for shard in ["0/4", "5/4", "x/y", "3", "1/0"] {
        refused(&["--shard", shard, "--out", "s.safetensors"], &["K/N with K within 1 to N", shard]);
    }
    refused(&["--batch", "2", "--shard", "1/4"], &["image must be of at least one item, got 0"]);
    refused(&["--profile", "comfyui"], &["unknown profile \"comfyui\"", "comfyui-0.3.64"]);
    refused(&["--variation-strength", "0.2,0.3"], &["one number", "--repaired", "2 of them"]);
    let repaired = |flag, value, expected| refused(&["--repaired", flag, value], &[expected]);
    repaired("--variation-strength", "0.2,0.3", "one for all, or one for each of 8, got 2");
    repaired("--variation-strength", "0.2,", "variation-strength");
    repaired("--variation-strength", "0.2,,3", "variation-strength");
    repaired("--variation-strength", "1.5", "within [0, 1], got 1.5");
    repaired("--variation-sampler", "euler", "one that adds noise, or there is no variation, got euler");
    repaired("--fork-sigma", "-1", "-1");
    repaired("--fork-sigma", "0", "fork sigma must be positive and finite, got 0");
    repaired("--steps", "1", "at least 2, or no variation can add noise, got 1");
    refused(&["--variation-sampler", "lcm"], &["--repaired"]);
    refused(&["--fork-sigma", "2"], &["--repaired"]);
    refused(&["--batch", "1000000000000"], &["memory", "too little"]);
    refused(&["--batch", "0"], &["batch must be at least 1, got 0"]);
    refused(&["--size", "65x64"], &["size must be a multiple of 4 pixels, got 65x64"]);
    refused(&["--size", "big"], &["HEIGHTxWIDTH"]);
    refused(&["--noise-seed", "18446744073709551616"], &["noise-seed"]);
    refused(&["--prompt", "face smilling"], &["unknown prompt word \"smilling\"", "nearest: smiling"]);
    refused(&["--prompt", &"cat ".repeat(13)], &["number of words must be at most 12, got 13"]);
    refused(&["--image", "no/such/folder.png"], &["no/such/folder.png", "can be written"]);
    refused(&["--out", "."], &["can be written", "a folder"]);
    refused(&["--device", "cpu:avx"], &["unknown instruction set \"avx\"", "nearest: avx2"]);
    let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    refused(&["--device", &format!("cpu:{foreign}")], &["portable", "this machine has, got", foreign]);
    refused(&["--model", "nowhere"], &["nowhere", "unet/config.json", "no such file"]);
}

#[test]
fn files_that_are_refused() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, shape: &[usize], value: f32| {
        let values = vec![value; shape.iter().product()];
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(&values)).unwrap();
        let bytes = safetensors::serialize([("only", view)], None).unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    write("flat.safetensors", &[4, 16, 16], 0.0);
    write("three.safetensors", &[2, 3, 16, 16], 0.0);
    write("nan.safetensors", &[2, 4, 16, 16], f32::NAN);
    fs::write(folder.path().join("text.safetensors"), "not tensors").unwrap();

    let refused = |arguments: &[&str], expected: &[&str]| assert_refused(&folder, arguments, expected);
    refused(&["--latent", "flat.safetensors"], &["[N, C, H, W]", "[4, 16, 16]"]);
    refused(&["--latent", "three.safetensors"], &["[2, 16, 16, 3]"]);
    refused(&["--latent", "text.safetensors"], &["text.safetensors", "safetensors file"]);
    refused(&["--latent", "absent.safetensors"], &["absent.safetensors"]);
    refused(&["--latent", "three.safetensors:other"], &["no tensor \"other\""]);
    refused(&["--positive", "flat.safetensors"], &["context"]);
    refused(&["--latent", "flat.safetensors", "--batch", "2"], &["--batch"]);

    let nan = noisefork(folder.path(), &["variations", "--latent", "nan.safetensors"]);
    assert!(text(&nan.stderr).contains("not finite"), "{}", text(&nan.stderr));
    assert!(!folder.path().join("variations.png").exists());
}

/// A file of weights alone gives what the folder gives that it was taken from.
#[test]
fn a_model_may_be_one_file() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/unet_sd15");
    let folder = TempDir::new().unwrap();
    let unet = folder.path().join("model/unet");
    fs::create_dir_all(&unet).unwrap();
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        fs::copy(golden.join(name), unet.join(name)).unwrap();
    }
    let values: Vec<f32> = (0..2 * 7 * 48).map(|i| (i as f32).sin()).collect();
    for (name, values) in [("positive", &values[..7 * 48]), ("negative", &values[7 * 48..])] {
        let view = TensorView::new(Dtype::F32, vec![1, 7, 48], bytemuck::cast_slice(values)).unwrap();
        let bytes = safetensors::serialize([("context", view)], None).unwrap();
        fs::write(folder.path().join(format!("{name}.safetensors")), bytes).unwrap();
    }
    let run = |model: &str, out: &str| {
        let arguments = "--positive positive.safetensors --negative negative.safetensors --steps 4 --size 64x64 --batch 2";
        written(&folder, &format!("variations --model {model} {arguments}"), out).0
    };
    let from_folder = run("model", "a.safetensors");
    let from_file = run("model/unet/diffusion_pytorch_model.safetensors", "b.safetensors");
    assert_eq!(samples(&from_file), samples(&from_folder));
}

/// Copies the emoji model to the folder `model`, which it returns beside that of the originals.
fn emoji_model(folder: &TempDir) -> (PathBuf, PathBuf) {
    let model = folder.path().join("model");
    let emoji = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/emoji");
    for part in ["unet", "autoencoder"] {
        fs::create_dir_all(model.join(part)).unwrap();
        for name in files(&emoji.join(part)) {
            fs::copy(emoji.join(part).join(&name), model.join(part).join(&name)).unwrap();
        }
    }
    (model, emoji)
}

#[test]
fn a_schedulers_configuration_tells_the_levels() {
    let folder = TempDir::new().unwrap();
    let (model, _) = emoji_model(&folder);
    fs::create_dir(model.join("scheduler")).unwrap();
    let config = model.join("scheduler/scheduler_config.json");
    let first_level = |json: &str| {
        fs::write(&config, json).unwrap();
        let run = "variations --model model --steps 2 --batch 1 --scheduler karras";
        record(&written(&folder, run, "a.safetensors").0).levels[0][0]
    };
    let near = |level: f32, expected: f32| assert!((level / expected - 1.0).abs() < 1e-3, "{level}");
    near(first_level("{}"), 14.615);
    let discrete = r#"{"beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "trained_betas": null,
        "beta_start": 0.001, "rescale_betas_zero_snr": false}"#;
    near(first_level(discrete), 15.684);
    near(first_level(r#"{"prediction_type": "v_prediction", "rescale_betas_zero_snr": true}"#), 4518.6);
    near(first_level(r#"{"prediction_type": "epsilon", "rescale_betas_zero_snr": true}"#), 4518.6);

    for (json, expected) in [
        ("[]", "a discrete diffusion"),
        (r#"{"_class_name": "EDMEulerScheduler"}"#, "a discrete diffusion"),
        (r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, "a discrete diffusion"),
        (r#"{"sigma_data": 0.5}"#, "a discrete diffusion"),
        (r#"{"beta_schedule": "linear"}"#, "beta_schedule scaled_linear"),
        (r#"{"num_train_timesteps": 4000}"#, "num_train_timesteps 1000"),
        (r#"{"trained_betas": [0.1, 0.2]}"#, "no trained_betas"),
        (r#"{"beta_start": "0.00085"}"#, "beta_start and beta_end that are numbers"),
        (r#"{"beta_end": []}"#, "beta_start and beta_end that are numbers"),
        (r#"{"rescale_betas_zero_snr": "yes"}"#, "rescale_betas_zero_snr true or false"),
        (r#"{"prediction_type": "sample"}"#, "prediction_type epsilon or v_prediction"),
        (r#"{"prediction_type": 1}"#, "prediction_type epsilon or v_prediction"),
    ] {
        fs::write(&config, json).unwrap();
        assert_refused(&folder, &["--model", "model"], &["scheduler_config.json", expected]);
    }
}

#[test]
fn weights_that_are_refused() {
    let folder = TempDir::new().unwrap();
    let (model, emoji) = emoji_model(&folder);
    let refused = |expected: &[&str]| assert_refused(&folder, &["--model", "model"], expected);
    let weights = model.join("unet/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();

    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    refused(&["diffusion_pytorch_model.safetensors", "must be whole"]);
    fs::remove_file(&weights).unwrap();
    refused(&["diffusion_pytorch_model.safetensors"]);
    fs::write(&weights, &whole).unwrap();

    let autoencoder = model.join("autoencoder/diffusion_pytorch_model.safetensors");
    fs::copy(&weights, &autoencoder).unwrap();
    refused(&["no tensor"]);

    fs::copy(emoji.join("autoencoder/diffusion_pytorch_model.safetensors"), &autoencoder).unwrap();
    let config = model.join("unet/config.json");
    let wider = fs::read_to_string(&config)
        .unwrap()
        .replace("\"cross_attention_dim\": 64", "\"cross_attention_dim\": 65");
    fs::write(&config, wider).unwrap();
    refused(&["65", "64"]);
}

#[test]
fn lists_and_levels() {
    let folder = TempDir::new().unwrap();
    let listed = noisefork(folder.path(), &["samplers"]);
    let listed = text(&listed.stdout);
    for name in noisefork::sampling::Sampler::names() {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}");
    }
    let dpmpp_3m =
        noisefork(folder.path(), &["sigmas", "--scheduler", "Karras", "--sampler", "DPM++ 3M SDE"]);
    assert!(dpmpp_3m.status.success(), "{}", text(&dpmpp_3m.stderr));
    let all = text(&noisefork(folder.path(), &["sigmas", "--steps", "10"]).stdout);
    for name in noisefork::sampling::Scheduler::names() {
        assert!(all.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}");
    }
    let arguments = ["sigmas", "--scheduler", "karras", "--steps", "4", "--format", "json"];
    let levels = noisefork(folder.path(), &arguments);
    let levels: serde_json::Value = serde_json::from_slice(&levels.stdout).unwrap();
    let levels = levels["karras"].as_array().unwrap();
    assert_eq!((levels.len(), levels[4].as_f64()), (5, Some(0.0)));
    assert_eq!(noisefork(folder.path(), &["sigmas", "--steps", "0"]).status.code(), Some(2));
}

/// A reader that goes has read enough; lines that are lost otherwise are an error.
#[test]
#[cfg(target_os = "linux")]
fn lines_that_cannot_be_written() {
    let list = |to: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_noisefork"));
        command.arg("samplers").stdout(to).stderr(Stdio::piped()).spawn().unwrap()
    };
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let full = list(full.into()).wait_with_output().unwrap();
    assert_eq!(full.status.code(), Some(1));
    assert!(text(&full.stderr).starts_with("error: standard output: "), "{}", text(&full.stderr));

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = list(writer.into()).wait_with_output().unwrap();
    assert_eq!((gone.status.code(), text(&gone.stderr).as_str()), (Some(0), ""));
}

#[test]
fn benchmarks_give_records_that_later_ones_are_compared_with() {
    let folder = TempDir::new().unwrap();
    let bench = |what: &str| {
        let arguments: Vec<&str> = what.split_whitespace().collect();
        let output = noisefork(folder.path(), &[&["bench"], &arguments[..]].concat());
        assert!(output.status.success(), "{what}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let sampler = "sampler --samplers euler,dpmpp_2m_sde --side 8 --steps 3 --iterations 2 --threads 1";
    let (lines, _) = bench(&format!("{sampler} --format jsonl --out old.jsonl"));
    assert_eq!(fs::read_to_string(folder.path().join("old.jsonl")).unwrap(), lines);
    let records: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    for (record, name) in records.iter().zip(["euler", "dpmpp_2m_sde"]) {
        let what = format!("sampler {name}, karras, 3 steps, 4x8x8");
        assert_eq!((record["what"].as_str(), record["model_calls"].as_u64()), (Some(&*what), Some(3)));
        assert_eq!((record["threads"].as_u64(), record["batch"].as_u64()), (Some(1), Some(1)));
        let seconds = record["seconds"].as_array().unwrap();
        assert!(seconds.len() == 2 && seconds.iter().all(|second| second.as_f64().unwrap() > 0.0));
        assert!(record["ceiling"]["flops_per_s"].as_f64().unwrap() > 1e9);
        assert!(record["machine"]["cpu"].is_string());
    }
    let (table, report) = bench(&format!("{sampler} --format csv --compare old.jsonl"));
    assert_eq!(
        table.lines().map(|line| line.split(',').next().unwrap()).collect::<Vec<_>>(),
        ["engine", "noisefork", "noisefork"]
    );
    assert!(report.contains("2 of 2 measurements are in both"), "{report}");

    bench("variations --batch 1 --steps 2 --iterations 1");
    let (table, _) =
        bench("ops --batch 1 --size 64 --iterations 1 --dtype bf16 --only attention --threads 2");
    assert!(table.contains("attention 64 to 77, 8 heads of 40"), "{table}");
    let (lines, notes) = bench("sampler --side 8 --steps 1 --iterations 1 --threads 1 --format jsonl");
    assert_eq!(lines.lines().count() + 4, noisefork::sampling::Sampler::names().count(), "{notes}");
    assert!(notes.contains("note: no uni_pc: uni_pc: steps must be at least 2, got 1"), "{notes}");
    let (machine, _) = bench("machine");
    assert!(machine.contains(records[0]["machine"]["cpu"].as_str().unwrap()), "{machine}");
    fs::write(folder.path().join("bad.jsonl"), "{}").unwrap();
    for (arguments, words) in [
        (["bench", "sampler", "--compare", "bad.jsonl"], "records of noisefork bench"),
        (["bench", "sampler", "--steps", "0"], "steps must be within 1 to 10000, got 0"),
        (["bench", "ops", "--size", "63"], "a multiple of 8 pixels"),
        (["bench", "ops", "--only", "typo"], "part of the name of an operation, got typo"),
    ] {
        let output = noisefork(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(words), "{arguments:?}: {}", text(&output.stderr));
    }
}
