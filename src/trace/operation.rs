//! Operations by what tells them apart, without their tensors.

use std::fmt;

use crate::error::{Error, Result};
use crate::ops::{
    Activation, Attention, Backend, Blend, Columns, Combine, Concat, Conv2d, Enter, GroupNorm, Inject,
    LayerNorm, Leave, Linear, Rows,
};
use crate::tensor::{Shape, Shaped};

/// An operation: its shapes and options, but no values. Displayed it says what is done to one item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A [`Linear`] layer.
    Linear {
        /// The input's shape.
        x: Shape,
        /// Rows of the weight.
        outputs: usize,
        /// Whether there is one.
        bias: bool,
        /// Whether there is one.
        residual: bool,
        /// Applied last.
        activation: Activation,
    },
    /// A [`Conv2d`].
    Conv2d {
        /// The input's shape.
        x: Shape,
        /// The extent of the square kernel.
        kernel: usize,
        /// Channels of the output.
        outputs: usize,
        /// Whether there is one.
        bias: bool,
        /// Whether there is one.
        shift: bool,
        /// Whether there is one.
        residual: bool,
        /// Applied last.
        activation: Activation,
        /// 1 or 2.
        stride: usize,
        /// The size that the input is upsampled to.
        upsample: Option<[usize; 2]>,
    },
    /// A [`GroupNorm`].
    GroupNorm {
        /// The input's shape.
        x: Shape,
        /// How many groups.
        groups: usize,
        /// Applied last.
        activation: Activation,
    },
    /// A [`LayerNorm`].
    LayerNorm {
        /// The input's shape.
        x: Shape,
    },
    /// An [`Attention`].
    Attention {
        /// The shapes of the tensors with queries, keys and values, and the first column of each.
        columns: [(Shape, usize); 3],
        /// Of the output.
        channels: usize,
        /// How many heads.
        heads: usize,
    },
    /// A [`Concat`].
    Concat {
        /// The shape of what has the first channels.
        a: Shape,
        /// The channels after them.
        b: usize,
    },
    /// A [`Rows`].
    Rows {
        /// The shape of the table.
        table: Shape,
        /// How many rows are taken.
        rows: usize,
        /// How many items share them.
        items: usize,
    },
    /// An [`Enter`].
    Enter {
        /// The shapes of the latents.
        parts: Vec<Shape>,
        /// How many times the batch is repeated.
        copies: usize,
    },
    /// A [`Leave`].
    Leave {
        /// The shape of the network's output.
        x: Shape,
        /// How many copies it holds.
        branches: usize,
    },
    /// A [`Combine`].
    Combine {
        /// The latents' shape.
        y: Shape,
        /// How many there are.
        terms: usize,
    },
    /// An [`Inject`].
    Inject {
        /// The latents' shape.
        y: Shape,
        /// How many there are.
        terms: usize,
        /// Parts of the noise.
        draws: usize,
    },
    /// A [`Blend`].
    Blend {
        /// The latents' shape.
        y: Shape,
        /// The mask's shape.
        mask: Shape,
    },
}

impl Operation {
    /// As that of the method of [`Backend`].
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Linear { .. } => "linear",
            Operation::Conv2d { .. } => "conv2d",
            Operation::GroupNorm { .. } => "group_norm",
            Operation::LayerNorm { .. } => "layer_norm",
            Operation::Attention { .. } => "attention",
            Operation::Concat { .. } => "concat",
            Operation::Rows { .. } => "rows",
            Operation::Enter { .. } => "enter",
            Operation::Leave { .. } => "leave",
            Operation::Combine { .. } => "combine",
            Operation::Inject { .. } => "inject",
            Operation::Blend { .. } => "blend",
        }
    }

    /// The first of what it reads.
    fn input(&self) -> Shape {
        match self {
            Operation::Linear { x, .. } | Operation::Conv2d { x, .. } | Operation::GroupNorm { x, .. } => *x,
            Operation::LayerNorm { x } | Operation::Leave { x, .. } | Operation::Concat { a: x, .. } => *x,
            Operation::Rows { table, .. } => *table,
            Operation::Attention { columns: [(q, _), ..], .. } => *q,
            Operation::Enter { parts, .. } => parts.first().copied().unwrap_or([].into()),
            Operation::Combine { y, .. } | Operation::Inject { y, .. } | Operation::Blend { y, .. } => *y,
        }
    }

    /// Refuses what has no [`Operation::output`]: whatever else is wrong with it, the backend that runs it says.
    pub(super) fn check(&self) -> Result<()> {
        let rank = match self {
            Operation::Conv2d { .. } | Operation::Enter { .. } | Operation::Leave { .. } => 4,
            _ => 0,
        };
        let parts = if let Operation::Enter { parts, .. } = self { parts.as_slice() } else { &[] };
        if let Some(&got) = [self.input()].iter().chain(parts).find(|shape| shape.len() < rank) {
            let (op, tensor) = (self.name(), "input");
            return Err(Error::Shape { op, tensor, expected: "4 extents".into(), got });
        }
        let refuse = |what, expected: &str, got: usize| {
            Err(Error::Value { op: self.name(), what, expected: expected.into(), got: got.to_string() })
        };
        match *self {
            Operation::Conv2d { stride, .. } if !matches!(stride, 1 | 2) => {
                refuse("stride", "1 or 2", stride)
            }
            Operation::Leave { branches: 0, .. } => refuse("branches", "at least 1", 0),
            _ => Ok(()),
        }
    }

    /// The shape of what it writes, if it is one that [`Operation::check`] accepts.
    pub(crate) fn output(&self) -> Shape {
        let x = self.input();
        match *self {
            Operation::Linear { outputs, activation: Activation::Geglu, .. } => x.with_channels(outputs / 2),
            Operation::Linear { outputs, .. } => x.with_channels(outputs),
            Operation::Conv2d { outputs, stride, upsample, .. } => {
                let [h, w] = upsample.unwrap_or([x[1], x[2]]).map(|extent| extent.div_ceil(stride));
                [x[0], h, w, outputs].into()
            }
            Operation::Attention { channels, .. } => x.with_channels(channels),
            Operation::Concat { b, .. } => x.with_channels(x.channels().saturating_add(b)),
            Operation::Rows { items, .. } => x.with_batch(items),
            Operation::Enter { ref parts, copies } => {
                let channels = parts.iter().fold(0_usize, |channels, part| channels.saturating_add(part[1]));
                [copies.saturating_mul(x[0]), x[2], x[3], channels].into()
            }
            Operation::Leave { branches, .. } => [x[0] / branches, x[3], x[1], x[2]].into(),
            _ => x,
        }
    }

    /// How many items it has at a time: the first extent of what it reads.
    pub fn batch(&self) -> usize {
        match *self {
            Operation::Rows { items, .. } => items,
            _ => self.input().first().copied().unwrap_or(1),
        }
    }
}

/// `conv2d 64x64x320, 3x3 to 640, halved`: the name, an item's input, and what is done.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let item = |shape: &Shape| {
            let extents: Vec<String> = shape.iter().skip(1).map(usize::to_string).collect();
            extents.join("x")
        };
        let tokens = |shape: &Shape| shape.rows() / shape.first().copied().unwrap_or(1).max(1);
        let when = |there: bool, text: &'static str| if there { text } else { "" };
        write!(f, "{} ", self.name())?;
        match self {
            Operation::Linear { x, outputs, residual, activation, .. } => {
                let (residual, activation) = (when(*residual, ", residual"), name(*activation));
                write!(f, "{} to {outputs}{residual}{activation}", item(x))
            }
            Operation::Conv2d {
                x, kernel, outputs, shift, residual, activation, stride, upsample, ..
            } => {
                let (halved, doubled) =
                    (when(*stride == 2, ", halved"), when(upsample.is_some(), ", doubled"));
                let (shift, residual) = (when(*shift, ", shift"), when(*residual, ", residual"));
                let activation = name(*activation);
                write!(f, "{}, {kernel}x{kernel} to {outputs}", item(x))?;
                write!(f, "{halved}{doubled}{shift}{residual}{activation}")
            }
            Operation::GroupNorm { x, activation, .. } => write!(f, "{}{}", item(x), name(*activation)),
            Operation::LayerNorm { x } => write!(f, "{}", item(x)),
            Operation::Attention { columns: [(q, _), (k, _), _], channels, heads } => {
                write!(f, "{} to {}, {heads} heads of {}", tokens(q), tokens(k), channels / heads.max(&1))
            }
            Operation::Concat { a, b } => write!(f, "{} and {b}", item(a)),
            Operation::Rows { table, rows, items } => write!(f, "{}, {rows} for {items}", item(table)),
            Operation::Enter { parts, copies } => {
                let parts: Vec<String> = parts.iter().map(item).collect();
                write!(f, "{}, {copies} copies", parts.join(" and "))
            }
            Operation::Leave { x, .. } => write!(f, "{}", item(x)),
            Operation::Combine { y, terms } => write!(f, "{}, {terms} terms", item(y)),
            Operation::Inject { y, terms, draws } => write!(f, "{}, {terms} terms, {draws} draws", item(y)),
            Operation::Blend { y, mask } => write!(f, "{}, mask {}", item(y), item(mask)),
        }
    }
}

/// An activation as a suffix.
fn name(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "",
        Activation::Relu => ", ReLU",
        Activation::Silu => ", SiLU",
        Activation::Geglu => ", GEGLU",
    }
}

impl<B: Backend> From<&Linear<'_, B>> for Operation {
    fn from(op: &Linear<'_, B>) -> Self {
        Operation::Linear {
            x: op.x.shape(),
            outputs: op.weight.shape()[0],
            bias: op.bias.is_some(),
            residual: op.residual.is_some(),
            activation: op.activation,
        }
    }
}

impl<B: Backend> From<&Conv2d<'_, B>> for Operation {
    fn from(op: &Conv2d<'_, B>) -> Self {
        let weight = op.weight.shape();
        Operation::Conv2d {
            x: op.x.shape(),
            kernel: weight[1],
            outputs: weight[0],
            bias: op.bias.is_some(),
            shift: op.shift.is_some(),
            residual: op.residual.is_some(),
            activation: op.activation,
            stride: op.stride,
            upsample: op.upsample,
        }
    }
}

impl<B: Backend> From<&GroupNorm<'_, B>> for Operation {
    fn from(op: &GroupNorm<'_, B>) -> Self {
        Operation::GroupNorm { x: op.x.shape(), groups: op.groups, activation: op.activation }
    }
}

impl<B: Backend> From<&LayerNorm<'_, B>> for Operation {
    fn from(op: &LayerNorm<'_, B>) -> Self {
        Operation::LayerNorm { x: op.x.shape() }
    }
}

impl<B: Backend> From<&Attention<'_, B>> for Operation {
    fn from(op: &Attention<'_, B>) -> Self {
        let place = |columns: &Columns<'_, B>| (columns.tensor.shape(), columns.first);
        let columns = [place(&op.q), place(&op.k), place(&op.v)];
        Operation::Attention { columns, channels: op.channels, heads: op.heads }
    }
}

impl<B: Backend> From<&Concat<'_, B>> for Operation {
    fn from(op: &Concat<'_, B>) -> Self {
        Operation::Concat { a: op.a.shape(), b: op.b.shape().channels() }
    }
}

impl<B: Backend> From<&Rows<'_, B>> for Operation {
    fn from(op: &Rows<'_, B>) -> Self {
        Operation::Rows { table: op.table.shape(), rows: op.rows.len(), items: op.items }
    }
}

impl<B: Backend> From<&Enter<'_, B>> for Operation {
    fn from(op: &Enter<'_, B>) -> Self {
        let parts = op.parts.iter().map(|(_, part)| part.shape()).collect();
        Operation::Enter { parts, copies: op.copies }
    }
}

impl<B: Backend> From<&Leave<'_, B>> for Operation {
    fn from(op: &Leave<'_, B>) -> Self {
        Operation::Leave { x: op.x.shape(), branches: op.branches }
    }
}

impl<B: Backend> From<&Combine<'_, B>> for Operation {
    fn from(op: &Combine<'_, B>) -> Self {
        let y = op.terms.first().map_or([].into(), |(_, term)| term.shape());
        Operation::Combine { y, terms: op.terms.len() }
    }
}

impl<B: Backend> From<(&Inject<'_, B>, Shape)> for Operation {
    fn from((op, y): (&Inject<'_, B>, Shape)) -> Self {
        Operation::Inject { y, terms: op.terms.len(), draws: op.noise.1.len() }
    }
}

impl<B: Backend> From<&Blend<'_, B>> for Operation {
    fn from(op: &Blend<'_, B>) -> Self {
        Operation::Blend { y: op.a.shape(), mask: op.mask.shape() }
    }
}
