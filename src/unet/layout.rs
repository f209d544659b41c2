//! What files call the tensors that go by diffusers' names here.

use crate::nn::Weights;

/// How the names of a file are made.
pub(super) enum Layout {
    /// As in diffusers.
    Diffusers,
    /// As in the original implementation (CompVis' latent-diffusion and stable-diffusion, Stability's
    /// generative-models), after a prefix.
    Ldm {
        prefix: &'static str,
        /// What each of diffusers' modules is called there.
        modules: Vec<(String, String)>,
    },
}

/// What the names of a UNet begin with: in a whole checkpoint, in one that ComfyUI saved a UNet alone to, in a UNet's
/// own file.
const PREFIXES: [&str; 3] = ["model.diffusion_model.", "diffusion_model.", ""];

/// Modules that every model has one of, as diffusers and as ldm call them.
const SINGLE: [(&str, &str); 10] = [
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
];

/// The layers of a residual block. Those of transformers have the same names in both.
const RESNET: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

impl Layout {
    /// The layout of a file; diffusers' if it has none that is known.
    pub fn of(weights: &Weights) -> Self {
        let ldm = |prefix: &&str| weights.contains(&format!("{prefix}input_blocks.0.0.weight"));
        match PREFIXES.into_iter().find(ldm) {
            None => Layout::Diffusers,
            Some(prefix) => Layout::Ldm { prefix, modules: ldm_modules(weights, prefix) },
        }
    }

    /// What all names of the UNet begin with.
    pub fn prefix(&self) -> &'static str {
        match self {
            Layout::Diffusers => "",
            Layout::Ldm { prefix, .. } => prefix,
        }
    }

    /// The file's name of the tensor that diffusers calls `name`.
    pub fn in_file(&self, name: &str) -> String {
        let Layout::Ldm { prefix, modules } = self else { return name.to_owned() };
        let within = |module: &str| name.strip_prefix(module)?.strip_prefix('.');
        let found = modules.iter().find_map(|(ours, theirs)| Some((ours, theirs, within(ours)?)));
        match found {
            Some((ours, theirs, rest)) if ours.contains("resnets") => {
                format!("{prefix}{theirs}.{}", resnet_layer(rest))
            }
            Some((_, theirs, rest)) => format!("{prefix}{theirs}.{rest}"),
            None => format!("{prefix}{name}"),
        }
    }
}

fn resnet_layer(name: &str) -> String {
    let renamed = |(ours, theirs): (&str, &str)| Some(format!("{theirs}{}", name.strip_prefix(ours)?));
    RESNET.into_iter().find_map(renamed).unwrap_or_else(|| name.to_owned())
}

/// The modules of a file in ldm's layout. It numbers blocks through, where diffusers counts them level by level: on the
/// way down a downsampler ends a level; on the way up there is one block more on each, and an upsampler after the last.
fn ldm_modules(weights: &Weights, prefix: &str) -> Vec<(String, String)> {
    let has = |module: &str| weights.contains(&format!("{prefix}{module}.weight"));
    let mut modules = SINGLE.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())).to_vec();
    let mut layers = vec![0];
    for n in 1.. {
        let (level, layer) = (layers.len() - 1, layers[layers.len() - 1]);
        if has(&format!("input_blocks.{n}.0.op")) {
            modules
                .push((format!("down_blocks.{level}.downsamplers.0.conv"), format!("input_blocks.{n}.0.op")));
            layers.push(0);
        } else if has(&format!("input_blocks.{n}.0.in_layers.2")) {
            modules.push((format!("down_blocks.{level}.resnets.{layer}"), format!("input_blocks.{n}.0")));
            modules.push((format!("down_blocks.{level}.attentions.{layer}"), format!("input_blocks.{n}.1")));
            layers[level] += 1;
        } else {
            break;
        }
    }
    let mut n = 0;
    for (block, layers) in layers.into_iter().rev().enumerate() {
        for layer in 0..=layers {
            modules.push((format!("up_blocks.{block}.resnets.{layer}"), format!("output_blocks.{n}.0")));
            modules.push((format!("up_blocks.{block}.attentions.{layer}"), format!("output_blocks.{n}.1")));
            n += 1;
        }
        // It comes after the residual block, or after the transformer if there is one.
        let last = format!("output_blocks.{}", n - 1);
        let slot = if has(&format!("{last}.1.conv")) { 1 } else { 2 };
        modules.push((format!("up_blocks.{block}.upsamplers.0.conv"), format!("{last}.{slot}.conv")));
    }
    modules
}
