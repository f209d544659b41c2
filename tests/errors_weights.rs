//! Weight files and configurations that are not what a model needs: each a typed error that names what is wrong.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use noisefork::autoencoder::{self, AutoencoderTiny};
use noisefork::cpu::Cpu;
use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::unet::{self, UNet};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use support::files::{FILE, Tensors, config, golden, serialized, tensors, with_header, written};

/// Loads the inpainting UNet with its tensors changed.
fn load_with(change: impl FnOnce(&mut Tensors)) -> Error {
    let mut tensors = tensors("unet_sd15_inpaint");
    change(&mut tensors);
    let (folder, _) = written(FILE, &serialized(&tensors));
    fs::copy(golden("unet_sd15_inpaint").join("config.json"), folder.path().join("config.json")).unwrap();
    UNet::load(Arc::new(Cpu::new()), folder.path()).map(drop).expect_err("a refusal")
}

/// Reads the inpainting UNet's configuration with a field changed.
fn config_with(field: &str, value: Value) -> Result<unet::Config> {
    let mut config = config("unet_sd15_inpaint");
    config[field] = value;
    unet::Config::from_json(&config.to_string())
}

#[test]
fn a_missing_tensor_is_named() {
    let name = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    match load_with(|tensors| drop(tensors.remove(name))) {
        Error::MissingTensor { path, name: got } => {
            assert_eq!(got, name);
            assert!(path.ends_with(FILE), "{}", path.display());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tensor_too_many_is_named() {
    let error = load_with(|tensors| {
        let tensor = tensors["conv_in.bias"].clone();
        tensors.insert("class_embedding.weight".into(), tensor);
    });
    match error {
        Error::UnusedTensors { path, names } => {
            assert!(path.ends_with(FILE), "{}", path.display());
            assert_eq!(names, ["class_embedding.weight"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_smaller_than_its_file_is_noticed() {
    let mut config = config("unet_sdxl");
    config["transformer_layers_per_block"] = json!(1);
    let config = unet::Config::from_json(&config.to_string()).unwrap();
    let weights = Weights::open(golden("unet_sdxl")).unwrap();
    let error = UNet::from_parts(Arc::new(Cpu::new()), config, &weights).err().unwrap();
    assert!(error.to_string().contains("transformer_blocks.1."), "{error}");
}

#[test]
fn a_tensor_of_another_shape_or_dtype_is_named() {
    let name = "mid_block.resnets.1.conv2.weight";
    let error = load_with(|tensors| tensors.get_mut(name).unwrap().1.reverse());
    match &error {
        Error::FileTensor { name: got, expected, got: shape, .. } => {
            assert_eq!(
                (got.as_str(), expected.as_str(), shape.as_str()),
                (name, "[64, 64, 3, 3]", "F16 [3, 3, 64, 64]")
            );
        }
        other => panic!("{other:?}"),
    }
    let error = load_with(|tensors| tensors.get_mut(name).unwrap().0 = Dtype::I16);
    match &error {
        Error::FileTensor { name: got, expected, .. } => {
            assert_eq!((got.as_str(), expected.as_str()), (name, "f32, f16, bf16, f8_e4m3 or f8_e5m2"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = fs::read(golden("autoencoder_tiny").join(FILE)).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let end = |name: String| (name.clone(), metadata.info(&name).unwrap().data_offsets.1);
    let offsets: Vec<_> = metadata.offset_keys().into_iter().map(end).collect();
    let around = |at: usize| at.saturating_sub(2)..at + 2;
    let lengths =
        (0..20).chain(around(header)).chain(around(bytes.len() - 1)).chain((0..bytes.len()).step_by(4999));
    for length in lengths.filter(|&length| length < bytes.len()) {
        let (_folder, path) = written(FILE, &bytes[..length]);
        match Weights::open(&path).err() {
            Some(Error::File { path: got, .. }) if length < header => assert_eq!(got, path),
            Some(Error::FileTensor { path: got, name, expected, .. }) if length >= header => {
                assert_eq!(got, path);
                assert_eq!(
                    expected,
                    format!("whole in the {} bytes of data that the file holds", length - header)
                );
                // The first tensor that is cut, of those that lie end to end.
                let whole: Vec<_> = offsets.iter().filter(|(_, end)| *end <= length - header).collect();
                assert_eq!(name, offsets[whole.len()].0, "{length} bytes");
            }
            other => panic!("{length} bytes: {other:?}"),
        }
    }
}

#[test]
fn bytes_that_are_no_safetensors_are_refused() {
    let garbage = [
        with_header("not JSON", &[0; 0]),
        with_header("[]", &[0; 0]),
        with_header(r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]),
        with_header(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, &[0; 4]),
        with_header("{}", &[0; 1]),
        [&4_u64.to_le_bytes()[..], b"\xff\xfe{}"].concat(),
        u64::MAX.to_le_bytes().to_vec(),
        100_000_001_u64.to_le_bytes().to_vec(),
        [&9_u64.to_le_bytes()[..], b"{}"].concat(),
        vec![b'{'; 100],
        vec![],
    ];
    for bytes in garbage {
        let (_folder, path) = written(FILE, &bytes);
        match Weights::open(&path).err() {
            Some(Error::File { path: got, .. }) => assert_eq!(got, path),
            other => panic!("{}: {other:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    let (_folder, path) = written("model.ckpt", b"PK\x03\x04 and what else a zip file holds");
    assert!(Weights::open(&path).err().unwrap().to_string().contains("pickle"));
}

/// What a header says of a tensor that cannot be so is refused with the tensor's name.
#[test]
fn tensors_that_do_not_lie_end_to_end_are_named() {
    let four = r#""b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;
    let absurd = [
        // Another size than its shape makes.
        ("a", r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#.to_owned()),
        ("a", r#""a":{"dtype":"F32","shape":[],"data_offsets":[0,2]}"#.into()),
        ("a", r#""a":{"dtype":"F4","shape":[7],"data_offsets":[0,4]}"#.into()),
        ("a", r#""a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}"#.into()),
        ("a", format!(r#""a":{{"dtype":"U8","shape":[{max}],"data_offsets":[0,{max}]}}"#, max = u64::MAX)),
        // Backwards, after a gap, over the one before, beyond the end.
        ("a", r#""a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#.into()),
        ("a", r#""a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#.into()),
        ("a", format!(r#"{four},"a":{{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#)),
        ("b", format!(r#"{four},"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#)),
        ("a", format!(r#"{four},"a":{{"dtype":"U8","shape":[9],"data_offsets":[4,13]}}"#)),
    ];
    for (name, header) in absurd {
        let (_folder, path) = written(FILE, &with_header(&format!("{{{header}}}"), &[0; 8]));
        match Weights::open(&path).err() {
            Some(Error::FileTensor { path: got_path, name: got, .. }) => {
                assert_eq!((got_path, got.as_str()), (path, name), "{header}");
            }
            other => panic!("{header}: {other:?}"),
        }
    }
}

#[test]
fn folders_without_weights_or_configuration_are_refused() {
    let load = |folder: &Path| match UNet::load(Arc::new(Cpu::new()), folder).err() {
        Some(Error::File { path, expected, .. }) => (path, expected),
        other => panic!("{other:?}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("config.json");
    assert_eq!(load(folder.path()), (json.clone(), "the model's configuration".into()));
    fs::copy(golden("unet_sd15").join("config.json"), &json).unwrap();
    let (path, expected) = load(folder.path());
    assert_eq!(path, folder.path());
    assert!(expected.contains(FILE), "{expected}");
    fs::write(&json, [0xff, 0xfe]).unwrap();
    assert_eq!(load(folder.path()).0, json);
    assert!(matches!(Weights::open(folder.path().join("absent")), Err(Error::File { .. })));
}

#[test]
fn a_configuration_that_is_no_json_object_is_refused() {
    for text in ["", "{", "[]", "null", "in_channels: 4", "{\"in_channels\": 1e999}"] {
        assert!(matches!(unet::Config::from_json(text), Err(Error::File { .. })), "{text}");
        assert!(matches!(autoencoder::Config::from_json(text), Err(Error::File { .. })), "{text}");
    }
}

#[test]
fn an_absent_field_has_diffusers_default() {
    let unet = json!({
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1280,
        "down_block_types":
            ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "attention_head_dim": [8, 8, 8, 8],
        "layers_per_block": 2,
        "norm_eps": 1e-5,
        "norm_num_groups": 32,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "in_channels": 4,
        "out_channels": 4,
        "transformer_layers_per_block": 1,
        "use_linear_projection": false,
    });
    assert_eq!(unet::Config::from_json("{}"), unet::Config::from_json(&unet.to_string()));
    let tiny = json!({
        "encoder_block_out_channels": [64, 64, 64, 64],
        "decoder_block_out_channels": [64, 64, 64, 64],
        "num_encoder_blocks": [1, 3, 3, 3],
        "num_decoder_blocks": [3, 3, 3, 1],
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
    });
    let tiny = autoencoder::Config::from_json(&tiny.to_string()).unwrap();
    assert_eq!(autoencoder::Config::from_json("{}"), Ok(tiny));
}

#[test]
fn fields_that_are_not_implemented_are_named() {
    let unimplemented = [
        ("_class_name", json!("UNet3DConditionModel")),
        ("act_fn", json!("gelu")),
        ("addition_embed_type", json!("text")),
        ("attention_type", json!("gated")),
        ("center_input_sample", json!(true)),
        ("class_embed_type", json!("timestep")),
        ("class_embeddings_concat", json!(true)),
        ("conv_in_kernel", json!(1)),
        ("conv_out_kernel", json!(5)),
        ("cross_attention_dim", json!([32, 32])),
        ("cross_attention_norm", json!("layer_norm")),
        ("down_block_types", json!(["CrossAttnDownBlock2D", "AttnDownBlock2D"])),
        ("downsample_padding", json!(0)),
        ("dual_cross_attention", json!(true)),
        ("encoder_hid_dim", json!(64)),
        ("encoder_hid_dim_type", json!("text_proj")),
        ("mid_block_only_cross_attention", json!(true)),
        ("mid_block_scale_factor", json!(2)),
        ("mid_block_type", json!(null)),
        ("mid_block_type", json!("UNetMidBlock2D")),
        ("num_attention_heads", json!(8)),
        ("num_class_embeds", json!(10)),
        ("only_cross_attention", json!(true)),
        ("resnet_out_scale_factor", json!(0.5)),
        ("resnet_skip_time_act", json!(true)),
        ("resnet_time_scale_shift", json!("scale_shift")),
        ("reverse_transformer_layers_per_block", json!([1, 1])),
        ("time_cond_proj_dim", json!(256)),
        ("time_embedding_act_fn", json!("silu")),
        ("time_embedding_dim", json!(256)),
        ("time_embedding_type", json!("fourier")),
        ("timestep_post_act", json!("silu")),
        ("up_block_types", json!(["UpBlock2D", "SimpleCrossAttnUpBlock2D"])),
    ];
    for (field, value) in unimplemented {
        match config_with(field, value) {
            Err(Error::Value { op: "UNet2DConditionModel", what, .. }) => assert_eq!(what, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    match config_with("only_cross_atention", json!(true)) {
        Err(Error::UnknownName { got, nearest, .. }) => {
            assert_eq!(got, "only_cross_atention");
            assert_eq!(nearest[0], "only_cross_attention");
        }
        other => panic!("{other:?}"),
    }
    for (field, value) in [("act_fn", json!("silu")), ("upsample_fn", json!("bilinear"))] {
        let json = json!({ field: value }).to_string();
        match autoencoder::Config::from_json(&json) {
            Err(Error::Value { op: "AutoencoderTiny", what, .. }) => assert_eq!(what, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn values_that_make_no_sense_are_named() {
    let senseless = [
        ("in_channels", json!(0)),
        ("in_channels", json!(-1)),
        ("in_channels", json!("four")),
        ("out_channels", json!(u64::MAX)),
        ("block_out_channels", json!([])),
        ("block_out_channels", json!([0, 0])),
        ("block_out_channels", json!([32, u64::MAX])),
        ("block_out_channels", json!([32, 48])),
        ("attention_head_dim", json!(0)),
        ("attention_head_dim", json!([4, 7])),
        ("attention_head_dim", json!([4, 4, 4])),
        ("attention_head_dim", json!(null)),
        ("layers_per_block", json!([1])),
        ("layers_per_block", json!(0)),
        ("layers_per_block", json!([1, u64::MAX])),
        ("transformer_layers_per_block", json!([[1], [1]])),
        ("down_block_types", json!(["CrossAttnDownBlock2D"])),
        ("up_block_types", json!(vec!["UpBlock2D"; 1000])),
        ("norm_num_groups", json!(0)),
        ("norm_num_groups", json!(null)),
        ("norm_eps", json!(0)),
        ("norm_eps", json!(-1e-5)),
        ("norm_eps", json!(1e300)),
        ("freq_shift", json!(16)),
        ("freq_shift", json!(-1)),
    ];
    for (field, value) in senseless {
        match config_with(field, value.clone()) {
            Err(Error::Value { what, got, .. }) => {
                let blames_another = field == "norm_num_groups" && what == "block_out_channels";
                assert!(what == field || blames_another, "{field} = {value}: {what}, got {got}");
            }
            other => panic!("{field} = {value}: {other:?}"),
        }
    }
}

/// Whatever a configuration says, loading ends with a model or an error.
#[test]
fn no_configuration_can_make_loading_panic() {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(1 << 20),
        json!(u64::MAX),
        json!(1e300),
        json!("text_time"),
        json!([]),
        json!([1, 1]),
        json!([1 << 20, 1 << 20]),
        json!(vec![32; 100]),
        json!([[1, 1], [1, 1]]),
        json!({}),
    ];
    let backend = Arc::new(Cpu::new());
    for name in ["unet_sd15_inpaint", "unet_sdxl", "autoencoder_tiny"] {
        let weights = Weights::open(golden(name)).unwrap();
        let original = config(name);
        for field in original.as_object().unwrap().keys() {
            for value in &values {
                let mut config = original.clone();
                config[field] = value.clone();
                let config = config.to_string();
                let _ = match name {
                    "autoencoder_tiny" => autoencoder::Config::from_json(&config).and_then(|config| {
                        AutoencoderTiny::from_parts(backend.clone(), config, &weights).map(drop)
                    }),
                    _ => unet::Config::from_json(&config)
                        .and_then(|config| UNet::from_parts(backend.clone(), config, &weights).map(drop)),
                };
            }
        }
    }
}

/// An index and the files that it names load as the one file does.
#[test]
fn shards_load_like_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, mut map) = (tensors("autoencoder_tiny"), BTreeMap::new());
    let second = first.split_off("decoder.layers.5.weight");
    for (file, shard) in [("a.safetensors", &first), ("b.safetensors", &second)] {
        fs::write(folder.path().join(file), serialized(shard)).unwrap();
        map.extend(shard.keys().map(|name| (name.clone(), file)));
    }
    fs::copy(golden("autoencoder_tiny").join("config.json"), folder.path().join("config.json")).unwrap();
    let index = folder.path().join("diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index, json!({ "metadata": {}, "weight_map": map }).to_string()).unwrap();
    AutoencoderTiny::load(Arc::new(Cpu::new()), folder.path()).unwrap();

    let refused = |text: String| {
        fs::write(&index, text).unwrap();
        match Weights::open(&index) {
            Err(Error::File { path, .. }) => path,
            other => panic!("{:?}", other.err()),
        }
    };
    assert_eq!(refused(json!({ "weight_map": { "x": "../a.safetensors" } }).to_string()), index);
    assert_eq!(refused(json!({ "weight_map": { "x": "/etc/passwd" } }).to_string()), index);
    assert_eq!(refused("{}".into()), index);
    assert_eq!(refused("not JSON".into()), index);
    let absent = json!({ "weight_map": { "x": "absent.safetensors" } }).to_string();
    assert_eq!(refused(absent), folder.path().join("absent.safetensors"));

    let misplaced = |map: &BTreeMap<String, &str>| {
        fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        match Weights::open(&index).err() {
            Some(Error::FileTensor { path, name, expected, got }) if path == index => (name, expected, got),
            other => panic!("{other:?}"),
        }
    };
    let [in_a, in_b] = ["a", "b"].map(|file| format!("in {}/{file}.safetensors", folder.path().display()));
    let name = first.keys().next().unwrap().clone();
    let as_it_says = |place: &str| format!("{place}, as the index says");
    map.insert(name.clone(), "b.safetensors");
    assert_eq!(misplaced(&map), (name.clone(), as_it_says(&in_b), in_a.clone()));
    map.insert(name.clone(), "a.safetensors");
    map.insert("nowhere".into(), "a.safetensors");
    assert_eq!(misplaced(&map), ("nowhere".into(), as_it_says(&in_a), "in none".into()));
    map.remove("nowhere");
    let mut both = second.clone();
    both.insert(name.clone(), first[&name].clone());
    fs::write(folder.path().join("b.safetensors"), serialized(&both)).unwrap();
    assert_eq!(misplaced(&map), (name, "in one file".into(), format!("{in_a} and {}", &in_b[3..])));
}
