//! Models of published sizes, made up and from files in the layouts that they are published in.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use noisefork::autoencoder::{self, AutoencoderTiny};
use noisefork::cpu::Cpu;
use noisefork::error::Error;
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::sampling::{Betas, Levels, ModelSampling, Prediction};
use noisefork::tensor::{Shape, Tensor};
use noisefork::unet::{self, Added, Config, Preset, UNet};
use safetensors::Dtype;
use serde_json::json;
use support::counter::Counter;
use support::files::{
    FILE, Layer, Tensors, config, golden, hollow, layers, place, serialized, tensors, with_header, written,
};
use tempfile::TempDir;

#[test]
fn presets_are_what_diffusers_configures() {
    for preset in Preset::ALL {
        let json = fs::read_to_string(golden("layouts").join(format!("{preset}.json"))).unwrap();
        assert_eq!(Config::from_json(&json).unwrap(), preset.config(), "{preset}");
        assert_eq!(preset.to_string().parse(), Ok(preset));
    }
    match "sd-xl".parse::<Preset>() {
        Err(Error::UnknownName { got, nearest, .. }) => {
            assert_eq!((got.as_str(), nearest[0].as_str()), ("sd-xl", "sdxl"));
        }
        other => panic!("{other:?}"),
    }
}

/// What a published model calls its tensors in ldm's layout or in diffusers', with their shapes.
fn names(preset: Preset, prefix: &str, name: impl Fn(&Layer) -> &str) -> Vec<(String, Vec<usize>)> {
    let (model, inputs) = match preset {
        Preset::Sd15Inpaint => ("sd15", 9),
        _ => (preset.name(), 4),
    };
    let tensors = |mut layer: Layer| {
        if layer.diffusers == "conv_in" {
            layer.tensors[0].1[1] = inputs;
        }
        let stem = format!("{prefix}{}", name(&layer));
        layer.tensors.into_iter().map(move |(kind, shape)| (format!("{stem}.{kind}"), shape))
    };
    layers(model).into_iter().flat_map(tensors).collect()
}

/// How a model is published.
#[derive(Debug)]
enum Published {
    /// As the original implementation writes it, other models beside.
    Checkpoint,
    /// diffusers' file alone, its folder, and the folder with an index of several files.
    File,
    Folder,
    Shards,
}

/// A published model, all weights 0, and the path to load it from.
fn published(preset: Preset, form: &Published, dtype: Dtype) -> (TempDir, PathBuf) {
    if let Published::Checkpoint = form {
        let mut tensors = names(preset, "model.diffusion_model.", |layer| &layer.ldm);
        tensors.push(("first_stage_model.decoder.conv_in.weight".into(), vec![2, 3]));
        tensors.push(("model_ema.diffusion_modelinput_blocks00weight".into(), vec![5]));
        return hollow(dtype, &tensors);
    }
    let tensors = names(preset, "", |layer| &layer.diffusers);
    if let Published::File = form {
        return hollow(dtype, &tensors);
    }
    let json = fs::read_to_string(golden("layouts").join(format!("{preset}.json"))).unwrap();
    let (folder, config) = written("config.json", json.as_bytes());
    let write = |name: &str, tensors: &[_]| {
        let (_elsewhere, file) = hollow(dtype, tensors);
        fs::rename(file, config.with_file_name(name)).unwrap();
    };
    if let Published::Folder = form {
        write(FILE, &tensors);
    } else {
        let mut map = BTreeMap::new();
        for (i, shard) in tensors.chunks(tensors.len().div_ceil(3)).enumerate() {
            let file = format!("diffusion_pytorch_model.fp16-0000{}-of-00003.safetensors", i + 1);
            write(&file, shard);
            map.extend(shard.iter().map(|(name, _)| (name, file.clone())));
        }
        let index = config.with_file_name("diffusion_pytorch_model.safetensors.index.fp16.json");
        fs::write(index, json!({ "weight_map": map }).to_string()).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

/// Whole models of published sizes: every tensor of the UNet is found, and together they are as many parameters as in
/// diffusers.
#[test]
fn published_models_load() {
    let cases = [
        (Preset::Sd15, 859_520_964, Published::Checkpoint, Dtype::F8_E4M3),
        (Preset::Sd15Inpaint, 859_535_364, Published::File, Dtype::BF16),
        (Preset::Sd21, 865_910_724, Published::Folder, Dtype::F32),
        (Preset::Sdxl, 2_567_463_684, Published::Checkpoint, Dtype::F16),
        (Preset::SdxlRefiner, 2_259_526_660, Published::Shards, Dtype::F16),
    ];
    for (preset, parameters, form, dtype) in cases {
        let (_folder, path) = published(preset, &form, dtype);
        let counter = Arc::new(Counter::default());
        let unet =
            UNet::load(counter.clone(), path).unwrap_or_else(|error| panic!("{preset} {form:?}: {error}"));
        assert_eq!(*unet.config(), preset.config(), "{preset} {form:?}");
        assert_eq!(counter.parameters(), parameters, "{preset} {form:?}");
    }
}

/// The configuration is found under any prefix and under diffusers' names.
#[test]
fn configurations_are_found_in_every_layout() {
    for preset in Preset::ALL {
        let layouts = [
            names(preset, "model.diffusion_model.", |layer| &layer.ldm),
            names(preset, "diffusion_model.", |layer| &layer.ldm),
            names(preset, "", |layer| &layer.ldm),
            names(preset, "", |layer| &layer.diffusers),
        ];
        for tensors in layouts {
            let (_folder, path) = hollow(Dtype::F8_E4M3, &tensors);
            let weights = Weights::open(path).unwrap();
            assert_eq!(Config::from_weights(&weights).unwrap(), preset.config(), "{preset}");
        }
    }
}

/// A checkpoint tells what its model predicts.
#[test]
fn what_a_checkpoint_predicts_is_found() {
    let betas = Betas::STABLE_DIFFUSION;
    let sampling = |preset: Preset, marks: &[&str]| {
        let mut tensors = names(preset, "model.diffusion_model.", |layer| &layer.ldm);
        tensors.extend(marks.iter().map(|mark| (mark.to_string(), vec![0])));
        let (folder, path) = hollow(Dtype::F8_E4M3, &tensors);
        (unet::model_sampling(&Weights::open(&path).unwrap()).unwrap(), folder, path)
    };
    assert_eq!(sampling(Preset::Sd15, &[]).0, ModelSampling::eps(betas).unwrap());
    assert_eq!(sampling(Preset::Sdxl, &[]).0, ModelSampling::eps(betas).unwrap());
    assert_eq!(sampling(Preset::Sdxl, &["v_pred"]).0, ModelSampling::v(betas).unwrap());
    let zero = ModelSampling::new(Prediction::V, Levels::Discrete { betas, zero_terminal_snr: true });
    assert_eq!(sampling(Preset::Sdxl, &["v_pred", "ztsnr"]).0, zero.unwrap());

    let (even, _folder, path) = sampling(Preset::Sd21, &[]);
    assert_eq!(even, ModelSampling::eps(betas).unwrap());
    // Values of the layer that tells the kinds of SD 2.x apart: -0.125 and 0.125 in turns.
    let bytes: Vec<u8> = (0..320).map(|i| if i % 2 == 0 { 0x20 } else { 0xa0 }).collect();
    let mut file = fs::OpenOptions::new().write(true).read(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(place(
        &path,
        "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias",
    )))
    .unwrap();
    file.write_all(&bytes).unwrap();
    assert_eq!(
        unet::model_sampling(&Weights::open(&path).unwrap()).unwrap(),
        ModelSampling::v(betas).unwrap()
    );
}

/// CosXL's and Playground's marks, with these values.
#[test]
fn checkpoints_of_edm_are_told_from_others() {
    let sampling = |marks: &[(&str, Vec<usize>, f32)]| {
        let mut tensors = tensors("unet_sdxl");
        for (name, shape, value) in marks {
            let values = shape.iter().product();
            let bytes = value.to_le_bytes().repeat(values);
            tensors.insert(name.to_string(), (Dtype::F32, shape.clone(), bytes));
        }
        unet::model_sampling(&Weights::from_bytes("marked", serialized(&tensors)).unwrap())
    };
    let edm = |sigma_min, sigma_max| {
        ModelSampling::new(Prediction::V, Levels::ContinuousEdm { sigma_min, sigma_max })
    };
    let [max, min] = ["edm_vpred.sigma_max", "edm_vpred.sigma_min"];
    assert_eq!(sampling(&[(max, vec![], 80.0), (min, vec![1], 0.5)]), edm(0.5, 80.0));
    assert_eq!(sampling(&[(max, vec![1], 120.0), ("v_pred", vec![0], 0.0)]), edm(0.002, 120.0));
    let two = sampling(&[(max, vec![2], 80.0)]);
    assert!(matches!(&two, Err(Error::FileTensor { name, .. }) if name == max), "{two:?}");
    let falling = sampling(&[(max, vec![], 0.001)]);
    assert!(matches!(falling, Err(Error::Value { what: "sigma_min and sigma_max", .. })), "{falling:?}");
    for mark in ["edm_mean", "edm_std"] {
        match sampling(&[(mark, vec![1, 4, 1, 1], 0.5)]) {
            Err(Error::File { expected, got, .. }) => {
                assert!(expected.contains("not supported") && got.contains(mark), "{expected}, {got}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// diffusers' names to ldm's, for a UNet with so many layers on each level and these up blocks with transformers.
fn ldm_name(name: &str, layers: usize, up_attention: &[bool]) -> String {
    let (stem, kind) = name.rsplit_once('.').unwrap();
    let parts: Vec<&str> = stem.split('.').collect();
    let number = |at: usize| parts[at].parse::<usize>().unwrap();
    let resnet = |layer: &str| match layer {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        other => panic!("{other}"),
    };
    let stem = match parts[..] {
        ["conv_in"] => "input_blocks.0.0".to_owned(),
        ["conv_norm_out"] => "out.0".to_owned(),
        ["conv_out"] => "out.2".to_owned(),
        ["time_embedding", "linear_1"] => "time_embed.0".to_owned(),
        ["time_embedding", "linear_2"] => "time_embed.2".to_owned(),
        ["add_embedding", "linear_1"] => "label_emb.0.0".to_owned(),
        ["add_embedding", "linear_2"] => "label_emb.0.2".to_owned(),
        ["mid_block", "attentions", "0", ..] => format!("middle_block.1.{}", parts[3..].join(".")),
        ["mid_block", "resnets", _, layer] => format!("middle_block.{}.{}", 2 * number(2), resnet(layer)),
        ["down_blocks", _, "downsamplers", ..] => {
            format!("input_blocks.{}.0.op", (number(1) + 1) * (layers + 1))
        }
        ["down_blocks", _, kind, ..] => {
            let n = 1 + number(1) * (layers + 1) + number(3);
            match kind {
                "resnets" => format!("input_blocks.{n}.0.{}", resnet(parts[4])),
                _ => format!("input_blocks.{n}.1.{}", parts[4..].join(".")),
            }
        }
        ["up_blocks", _, "upsamplers", ..] => {
            let slot = 1 + usize::from(up_attention[number(1)]);
            format!("output_blocks.{}.{slot}.conv", (number(1) + 1) * (layers + 1) - 1)
        }
        ["up_blocks", _, kind, ..] => {
            let n = number(1) * (layers + 1) + number(3);
            match kind {
                "resnets" => format!("output_blocks.{n}.0.{}", resnet(parts[4])),
                _ => format!("output_blocks.{n}.1.{}", parts[4..].join(".")),
            }
        }
        _ => panic!("{name}"),
    };
    format!("{stem}.{kind}")
}

/// A golden UNet's tensors in ldm's layout.
fn as_ldm(name: &str, prefix: &str) -> Tensors {
    let config = config(name);
    let layers = config["layers_per_block"].as_u64().unwrap() as usize;
    let blocks = config["up_block_types"].as_array().unwrap();
    let up_attention: Vec<bool> = blocks.iter().map(|block| block != "UpBlock2D").collect();
    let renamed =
        |(name, tensor): (String, _)| (prefix.to_owned() + &ldm_name(&name, layers, &up_attention), tensor);
    tensors(name).into_iter().map(renamed).collect()
}

/// Normal values, the same every time.
fn noise(name: &str, shape: &[usize]) -> Tensor {
    let values = Weights::synthetic(2).tensor(name, [shape.iter().product(), 1]).unwrap();
    values.reshaped(Shape::try_from_slice(shape).unwrap()).unwrap()
}

/// What a UNet predicts of noise.
fn predict(unet: UNet<Cpu>) -> Vec<f32> {
    let added = Added { text_embeds: noise("text", &[1, 40]), time_ids: noise("ids", &[1, 6]) };
    let context = noise("context", &[1, 7, unet.config().cross_attention_dim()]);
    let added = unet.config().wants_added().then_some(&added);
    let conditioning = unet.prepare(&context, 1, added).unwrap();
    let times = unet.times(&[[500.0]], &conditioning).unwrap();
    let x = unet.backend().upload(&noise("x", &[1, 8, 8, unet.config().in_channels()])).unwrap();
    let mut plan = Arc::new(unet).plan(1, [8, 8], 7).unwrap();
    plan.forward(&x, &times, 0, &conditioning).unwrap().data().to_vec()
}

/// The same bits from the same weights under other names.
#[test]
fn a_model_is_the_same_in_both_layouts() {
    let backend = Arc::new(Cpu::new());
    for name in ["unet_sd15", "unet_sd15_four_levels", "unet_sd15_inpaint", "unet_sd21", "unet_sdxl"] {
        let expected = predict(UNet::load(backend.clone(), golden(name)).unwrap());
        for prefix in ["model.diffusion_model.", "diffusion_model.", ""] {
            let config = Config::from_json(&config(name).to_string()).unwrap();
            let weights = Weights::from_bytes(name, serialized(&as_ldm(name, prefix))).unwrap();
            let unet = UNet::from_parts(backend.clone(), config, &weights).unwrap();
            assert_eq!(predict(unet), expected, "{name} under {prefix:?}");
        }
    }
    // The one that has as many heads as every SD 1.x needs no configuration.
    let expected = UNet::load(backend.clone(), golden("unet_sd15")).unwrap();
    let (config, predicted) = (expected.config().clone(), predict(expected));
    let (_folder, checkpoint) =
        written("sd.safetensors", &serialized(&as_ldm("unet_sd15", "model.diffusion_model.")));
    for path in [checkpoint, golden("unet_sd15").join(FILE)] {
        let unet = UNet::load(backend.clone(), path).unwrap();
        assert_eq!(*unet.config(), config);
        assert_eq!(predict(unet), predicted);
    }
}

/// Errors have the names that the file has.
#[test]
fn what_is_wrong_with_a_checkpoint_is_named_as_the_checkpoint_names_it() {
    let load = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = as_ldm("unet_sd15", "model.diffusion_model.");
        change(&mut tensors);
        let weights = Weights::from_bytes("checkpoint", serialized(&tensors)).unwrap();
        let config = Config::from_weights(&weights)?;
        UNet::from_parts(Arc::new(Cpu::new()), config, &weights).map(drop)
    };
    let tensor = |tensors: &Tensors, name: &str| tensors[&format!("model.diffusion_model.{name}")].clone();

    // Another model beside the UNet is none of its business.
    load(&|tensors| drop(tensors.insert("first_stage_model.x".into(), tensor(tensors, "out.2.bias"))))
        .unwrap();

    let absent = "model.diffusion_model.output_blocks.8.0.skip_connection.bias";
    match load(&|tensors| drop(tensors.remove(absent))) {
        Err(Error::MissingTensor { name, .. }) => assert_eq!(name, absent),
        other => panic!("{other:?}"),
    }
    let extra = "model.diffusion_model.input_blocks.20.0.weight";
    match load(&|tensors| drop(tensors.insert(extra.into(), tensor(tensors, "out.2.bias")))) {
        Err(Error::UnusedTensors { names, .. }) => assert_eq!(names, [extra]),
        other => panic!("{other:?}"),
    }
    for (misshapen, shape) in [("out.0.bias", vec![4, 8]), ("out.2.weight", vec![4, 32 * 9])] {
        let misshapen = format!("model.diffusion_model.{misshapen}");
        match load(&|tensors| tensors.get_mut(&misshapen).unwrap().1 = shape.clone()) {
            Err(Error::FileTensor { name, .. }) => assert_eq!(name, misshapen),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn files_that_leave_the_configuration_open_are_refused() {
    let from_weights =
        |tensors: &Tensors| Config::from_weights(&Weights::from_bytes("file", serialized(tensors)).unwrap());
    match from_weights(&tensors("autoencoder_tiny")) {
        Err(Error::File { got, .. }) => assert!(got.contains("decoder.layers.0.bias"), "{got}"),
        other => panic!("{other:?}"),
    }
    let open = |name| match from_weights(&tensors(name)) {
        Err(Error::Value { op: "UNet2DConditionModel", what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(open("unet_sd21"), "attention_head_dim");
    assert_eq!(open("unet_sdxl"), "attention_head_dim");
    assert_eq!(
        Config::from_weights(&Weights::synthetic(0)).map_err(|error| matches!(error, Error::File { .. })),
        Err(true)
    );

    // A model without levels, and one too wide to be.
    let mut levels = tensors("unet_sd15");
    levels.retain(|name, _| !name.starts_with("down_blocks."));
    match from_weights(&levels) {
        Err(Error::Value { what: "block_out_channels", .. }) => {}
        other => panic!("{other:?}"),
    }
    let mut wide = tensors("unet_sd15");
    wide.insert("conv_in.weight".into(), (Dtype::F16, vec![0, 1 << 40, 3, 3], Vec::new()));
    match from_weights(&wide) {
        Err(Error::Value { what: "in_channels", .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// TAESD's own names: a decoder that counts its first layer, and halves under names of their own or in files of theirs.
fn as_taesd(halves: [&str; 2]) -> Tensors {
    let renamed = |(name, tensor): (String, _)| {
        let (half, layer) = name.split_once(".layers.").unwrap();
        let (number, rest) = layer.split_once('.').unwrap();
        let number: usize = number.parse().unwrap();
        let name = match half {
            "encoder" => format!("{}{number}.{rest}", halves[0]),
            _ => format!("{}{}.{rest}", halves[1], number + 1),
        };
        (name, tensor)
    };
    tensors("autoencoder_tiny").into_iter().map(renamed).collect()
}

#[test]
fn the_tiny_autoencoder_is_the_same_in_every_layout() {
    let backend = Arc::new(Cpu::new());
    let both = |model: &AutoencoderTiny<Cpu>| {
        let latent = model.encode(&noise("image", &[1, 3, 16, 24])).unwrap();
        (model.decode(&noise("latent", &[1, 4, 5, 3])).unwrap(), latent)
    };
    let expected = AutoencoderTiny::load(backend.clone(), golden("autoencoder_tiny")).unwrap();

    let (folder, _) = written("sd.safetensors", &[]);
    let write = |name: &str, tensors: &Tensors| {
        let path = folder.path().join(name);
        fs::write(&path, serialized(tensors)).unwrap();
        path
    };
    let mut one = as_taesd(["e.", "d."]);
    let mut half = |prefix: &str| -> Tensors {
        let of_half = one.extract_if(.., |name, _| name.starts_with(prefix));
        of_half.map(|(name, tensor)| (name[2..].to_owned(), tensor)).collect()
    };
    write("taesd_encoder.safetensors", &half("e."));
    write("taesd_decoder.safetensors", &half("d."));
    let paths = [
        golden("autoencoder_tiny").join(FILE),
        write("parts.safetensors", &as_taesd(["taesd_encoder.", "taesd_decoder."])),
        write("class.safetensors", &as_taesd(["encoder.", "decoder."])),
        folder.path().to_owned(),
    ];
    for path in paths {
        let model = AutoencoderTiny::load(backend.clone(), &path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(model.config(), expected.config(), "{}", path.display());
        assert_eq!(both(&model), both(&expected), "{}", path.display());
    }

    fs::copy(
        folder.path().join("taesd_encoder.safetensors"),
        folder.path().join("taesd_decoder.safetensors"),
    )
    .unwrap();
    match AutoencoderTiny::load(backend, folder.path()).err() {
        Some(Error::MissingTensor { path, name }) => {
            assert_eq!((path.as_path(), name.as_str()), (folder.path(), "taesd_decoder.1.weight"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn autoencoders_of_no_sense_are_refused() {
    let from =
        |bytes: Vec<u8>| autoencoder::Config::from_weights(&Weights::from_bytes("file", bytes).unwrap());
    match from(with_header("{}", &[])) {
        Err(Error::MissingTensor { name, .. }) => assert_eq!(name, "encoder.layers.0.weight"),
        other => panic!("{other:?}"),
    }
    let conv = |name: &str| format!(r#""{name}":{{"dtype":"F16","shape":[0,4,0,0],"data_offsets":[0,0]}}"#);
    let names = [
        "encoder.layers.0.weight",
        "encoder.layers.1.weight",
        "encoder.layers.1.bias",
        "decoder.layers.0.weight",
        "decoder.layers.2.weight",
        "decoder.layers.2.bias",
    ];
    match from(with_header(&format!("{{{}}}", names.map(conv).join(",")), &[])) {
        Err(Error::Value { op: "AutoencoderTiny", what: "out_channels", .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// All values of the narrow types, as torch widens them.
#[test]
fn narrow_floats_widen_as_in_torch() {
    let weights = Weights::open(golden("f8.safetensors")).unwrap();
    for name in ["f8_e4m3fn", "f8_e5m2"] {
        let got = weights.tensor(name, [256]).unwrap();
        let want = weights.tensor(&format!("{name}/f32"), [256]).unwrap();
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(got.data().iter().zip(want.data()).all(same), "{name}");
        assert_eq!(
            got.data().iter().filter(|value| value.is_finite()).count(),
            if name == "f8_e5m2" { 248 } else { 254 }
        );
    }
    weights.expect_all_used().unwrap();
}

/// Every value of the half types, aligned and not, and long enough to be cut into parts.
#[test]
fn half_floats_widen_exactly_wherever_they_lie() {
    const COPIES: usize = 3;
    let bits: Vec<u16> = (0..COPIES).flat_map(|_| 0..=u16::MAX).collect();
    let halves: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let floats: Vec<u8> = bits.iter().flat_map(|&bits| f32::from(bits).to_le_bytes()).collect();
    for odd in [0, 1] {
        let mut header = String::new();
        let mut data = vec![7; odd];
        for (name, dtype, bytes) in
            [("f16", "F16", &halves), ("bf16", "BF16", &halves), ("f32", "F32", &floats)]
        {
            let (start, end) = (data.len(), data.len() + bytes.len());
            header += &format!(
                r#""{name}":{{"dtype":"{dtype}","shape":[3,65536],"data_offsets":[{start},{end}]}},"#
            );
            data.extend(bytes);
        }
        header += &format!(r#""pad":{{"dtype":"U8","shape":[{odd}],"data_offsets":[0,{odd}]}}"#);
        let weights = Weights::from_bytes("memory", with_header(&format!("{{{header}}}"), &data)).unwrap();
        let check = |name: &str, widen: &dyn Fn(u16) -> f32| {
            let got = weights.tensor(name, [COPIES, 65536]).unwrap();
            let same = |(got, &bits): (&f32, &u16)| {
                let want = widen(bits);
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan()
            };
            assert!(got.data().iter().zip(&bits).all(same), "{name}");
        };
        check("f16", &|bits| f16::from_bits(bits).to_f32());
        check("bf16", &|bits| bf16::from_bits(bits).to_f32());
        check("f32", &f32::from);
        assert!(matches!(weights.tensor("pad", [odd]), Err(Error::FileTensor { .. })));
        match weights.tensor("absent", [1]) {
            Err(Error::MissingTensor { path, .. }) => assert_eq!(path, Path::new("memory")),
            other => panic!("{other:?}"),
        }
    }
}

/// The same values whenever they are asked for, others under another seed or name, and scaled by the inputs.
#[test]
fn synthetic_values_depend_on_seed_and_name_alone() {
    let tensor = |seed, name: &str, shape: &[usize]| {
        let shape = Shape::try_from_slice(shape).unwrap();
        Weights::synthetic(seed).tensor(name, shape).unwrap()
    };
    let weight = tensor(7, "a.weight", &[200, 30, 3, 3]);
    assert_eq!(weight, tensor(7, "a.weight", &[200, 30, 3, 3]));
    assert_ne!(weight, tensor(8, "a.weight", &[200, 30, 3, 3]));
    assert_ne!(weight, tensor(7, "b.weight", &[200, 30, 3, 3]));
    let moments = |tensor: &Tensor| {
        let n = tensor.data().len() as f64;
        let mean = tensor.data().iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = tensor.data().iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, square.sqrt())
    };
    let expected = [
        ("a.weight", vec![200, 30, 3, 3], 0.0, 270.0_f64.powf(-0.5)),
        ("a.weight", vec![200, 300], 0.0, 300.0_f64.powf(-0.5)),
        ("norm.weight", vec![50_000], 1.0, 0.1),
        ("norm.bias", vec![50_000], 0.0, 0.1),
    ];
    for (name, shape, mean, deviation) in expected {
        let (got_mean, got_deviation) = moments(&tensor(7, name, &shape));
        // Five standard errors of at least 50,000 values.
        let close = |got: f64, want: f64| (got - want).abs() < 5.0 * deviation / 50_000.0_f64.sqrt();
        assert!(
            close(got_mean, mean) && close(got_deviation, deviation),
            "{name} {shape:?}: {got_mean} {got_deviation}"
        );
    }
    for shape in [&[][..], &[0], &[0, usize::MAX, 2], &[3, 0]] {
        assert!(tensor(7, "empty", shape).data().iter().all(|v| v.is_finite()));
    }
    let too_large = Weights::synthetic(0).tensor("a.weight", [1 << 40, 1 << 20]);
    assert!(matches!(too_large, Err(Error::Value { what: "memory", .. })));
}

/// A made-up model computes: what it predicts is finite, neither vanishing nor exploding.
#[test]
fn a_synthetic_model_predicts_numbers_of_order_one() {
    let json = fs::read_to_string(golden("unet_sdxl").join("config.json")).unwrap();
    let config = Config::from_json(&json).unwrap();
    let unet = UNet::from_parts(Arc::new(Cpu::new()), config, &Weights::synthetic(1)).unwrap();
    let predicted = predict(unet);
    let square = predicted.iter().map(|v| v * v).sum::<f32>() / predicted.len() as f32;
    assert!((0.1..10.0).contains(&square), "{square}");
}
