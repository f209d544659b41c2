//! The command from outside: what it writes, and that bad input costs exit code 2 and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

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
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let settings = header.metadata().clone().unwrap();
        assert_eq!(settings["variation_strength"], strength);
        assert_eq!((settings["sampler"].as_str(), settings["profile"].as_str()), ("euler", "comfyui-0.3.64"));

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
fn settings_that_are_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |arguments: &[&str], expected: &[&str]| assert_refused(&folder, arguments, expected);
    refused(&["--sampler", "eular"], &["unknown sampler \"eular\"", "nearest: euler"]);
    refused(&["--scheduler", "karas"], &["unknown scheduler \"karas\"", "nearest: karras"]);
    refused(&["--steps", "0"], &["steps must be at least 1, got 0"]);
    refused(&["--steps", "-3"], &["-3"]);
    refused(&["--cfg", "NaN"], &["cfg", "finite, got NaN"]);
    refused(&["--cfg-scale", "inf"], &["cfg * cfg_scale", "finite"]);
    refused(&["--variation-strength", "1.5"], &["variation_strength must be within [0, 1], got 1.5"]);
    refused(&["--variation-strength", "NaN"], &["within [0, 1], got NaN"]);
    refused(&["--batch", "0"], &["batch must be at least 1, got 0"]);
    refused(&["--size", "65x64"], &["size must be a multiple of 4 pixels, got 65x64"]);
    refused(&["--size", "big"], &["HEIGHTxWIDTH"]);
    refused(&["--noise-seed", "18446744073709551616"], &["noise-seed"]);
    refused(&["--prompt", "face smilling"], &["unknown prompt word \"smilling\"", "nearest: smiling"]);
    refused(&["--prompt", &"cat ".repeat(13)], &["number of words must be at most 12, got 13"]);
    refused(&["--image", "no/such/folder.png"], &["no/such/folder.png", "can be written"]);
    refused(&["--out", "."], &["can be written", "a folder"]);
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

#[test]
fn weights_that_are_refused() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model");
    let emoji = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/emoji");
    for part in ["unet", "autoencoder"] {
        fs::create_dir_all(model.join(part)).unwrap();
        for name in files(&emoji.join(part)) {
            fs::copy(emoji.join(part).join(&name), model.join(part).join(&name)).unwrap();
        }
    }
    let refused = |expected: &[&str]| assert_refused(&folder, &["--model", "model"], expected);
    let weights = model.join("unet/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();

    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    refused(&["diffusion_pytorch_model.safetensors", "a whole safetensors file"]);
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
    let arguments = ["sigmas", "--scheduler", "karras", "--steps", "4", "--format", "json"];
    let levels = noisefork(folder.path(), &arguments);
    let levels: serde_json::Value = serde_json::from_slice(&levels.stdout).unwrap();
    let levels = levels["karras"].as_array().unwrap();
    assert_eq!((levels.len(), levels[4].as_f64()), (5, Some(0.0)));
    assert_eq!(noisefork(folder.path(), &["sigmas", "--steps", "0"]).status.code(), Some(2));
}
