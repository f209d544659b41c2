//! What is computed once for all steps of a run: from the prompts keys and values, from the timesteps what they add to
//! each residual block.

use std::sync::Arc;

use super::config::{Addition, Config};
use super::{UNet, misshapen, refuse};
use crate::error::Result;
use crate::nn::{KeysValues, Run};
use crate::ops::Backend;
use crate::tensor::{Shape, Shaped, Tensor};

/// SDXL's second conditioning.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// The pooled text, `[K, width]`, where `K` divides the batch: each row is for as many items, one after the other.
    pub text_embeds: Tensor,
    /// Original size, crop and target size in pixels, `[K, numbers]`, where `K` need not be the same.
    pub time_ids: Tensor,
}

/// Whatever a [`UNet`] computes from its conditioning alone, once for all steps.
pub struct Conditioning<B: Backend> {
    pub(super) model: Arc<()>,
    /// Tells it from others, whose second conditioning [`Times`] may hold.
    pub(super) identity: Arc<()>,
    pub(super) batch: usize,
    pub(super) tokens: usize,
    /// Of every cross-attention, in the order in which they run.
    pub(super) contexts: Vec<KeysValues<B>>,
    /// What goes into SDXL's addition to the time embedding, `[K, inputs]`.
    add_embeds: Option<Tensor>,
}

impl<B: Backend> Conditioning<B> {
    /// How many items it is for.
    pub fn batch(&self) -> usize {
        self.batch
    }
}

/// Whatever a [`UNet`] computes from timesteps before the steps that they belong to: what each residual block adds to its
/// pixels. With SDXL's second conditioning, which is part of it, it is of use with that [`Conditioning`] alone; otherwise
/// with any for as many items.
pub struct Times<B: Backend> {
    pub(super) model: Arc<()>,
    /// The conditioning that they depend on: any, where it adds nothing.
    pub(super) conditioning: Option<Arc<()>>,
    pub(super) batch: usize,
    pub(super) steps: usize,
    /// Rows of the table for each step, evenly shared by the items.
    pub(super) rows: usize,
    /// `[steps rows, W]`, the columns being those of all residual blocks.
    pub(super) table: B::Tensor,
}

impl<B: Backend> UNet<B> {
    /// Computes what depends on the conditioning alone: the keys and values of every cross-attention. `context` is
    /// `[K, tokens, cross_attention_dim]`, where `K` divides `batch`: each item is for as many of the batch, one after the
    /// other.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::error::Error::Shape) for tensors that do not fit the model or `batch`,
    /// [`Error::Value`](crate::error::Error::Value) for no items, for `added` that the model does not take, or that it
    /// wants and does not get.
    pub fn prepare(&self, context: &Tensor, batch: usize, added: Option<&Added>) -> Result<Conditioning<B>> {
        if batch == 0 {
            return Err(refuse("batch", "at least 1", 0));
        }
        let width = self.config.cross_attention_dim;
        let &[_, tokens, _] = &*context.shape() else {
            let expected = format!("[a divisor of {batch}, tokens, {width}]");
            return Err(misshapen("context", expected, context.shape()));
        };
        let context = shared_by("context", context, batch, [tokens, width])?;
        let context = self.backend.upload(&context)?;
        let contexts =
            self.cross_attentions().map(|attention| attention.keys_values(&self.backend, &context));
        Ok(Conditioning {
            model: self.identity.clone(),
            identity: Arc::default(),
            batch,
            tokens,
            contexts: contexts.collect::<Result<_>>()?,
            add_embeds: self.add_embeds(batch, added)?,
        })
    }

    /// What goes into SDXL's addition to the time embedding: pooled text and embedded numbers, side by side.
    fn add_embeds(&self, batch: usize, added: Option<&Added>) -> Result<Option<Tensor>> {
        let Some((addition, added)) = self.config.added(added)? else { return Ok(None) };
        let Added { text_embeds, time_ids } = added;
        // As few rows as both can share; as many as the batch if their numbers do not divide each other.
        let [texts, ids] = [text_embeds, time_ids].map(|t| t.shape().first().copied().unwrap_or(0).max(1));
        let (fewer, more) = (texts.min(ids), texts.max(ids));
        let rows = if more.is_multiple_of(fewer) && batch.is_multiple_of(more) { more } else { batch };

        let numbers = time_ids.shape().channels();
        let time_ids = shared_by("time_ids", time_ids, rows, [numbers])?;
        let embedded = addition.add_time_proj.embed(time_ids.data());
        let (embedded_width, width) = (embedded.len() / rows, addition.text_width(time_ids.shape())?);
        let text = shared_by("text_embeds", text_embeds, rows, [width])?;
        let values = (0..rows).flat_map(|row| {
            let text = &text.data()[row * width..][..width];
            text.iter().chain(&embedded[row * embedded_width..][..embedded_width]).copied()
        });
        Tensor::new([rows, addition.inputs], values.collect()).map(Some)
    }

    /// Computes what `timesteps` add to each residual block: one for each step of a run, or in each step one for each item
    /// of the batch.
    ///
    /// # Errors
    /// [`Error::Value`](crate::error::Error::Value) for no steps, for timesteps that are not finite, and for steps that
    /// have neither one nor as many as the batch; what the backend reports.
    pub fn times(&self, timesteps: &[impl AsRef<[f32]>], conditioning: &Conditioning<B>) -> Result<Times<B>> {
        let (backend, batch, time_proj) = (&*self.backend, conditioning.batch, self.config.time_proj);
        let add_embeds = conditioning.add_embeds.as_ref();
        let each = timesteps.first().map_or(0, |step| step.as_ref().len());
        if ![1, batch].contains(&each) || timesteps.iter().any(|step| step.as_ref().len() != each) {
            let lengths: Vec<usize> = timesteps.iter().map(|step| step.as_ref().len()).collect();
            return Err(refuse("timesteps", format!("{batch} or 1 in every step"), format!("{lengths:?}")));
        }
        let all: Vec<f32> = timesteps.iter().flat_map(|step| step.as_ref()).copied().collect();
        if let Some(timestep) = all.iter().find(|timestep| !timestep.is_finite()) {
            return Err(refuse("timesteps", "finite", timestep));
        }

        let (steps, rows) = (timesteps.len(), each.max(add_embeds.map_or(1, |embeds| embeds.shape()[0])));
        let t_emb = Tensor::new([all.len(), time_proj.channels], time_proj.embed(&all))?;
        let t_emb = shared_by("timesteps", &t_emb, steps * rows, [time_proj.channels])?;
        let aug_emb = match (&self.add_embedding, add_embeds) {
            (Some(embedding), Some(embeds)) => {
                let of_step = shared_by("added", embeds, rows, [embeds.shape().channels()])?;
                Some(embedding.forward(backend, &of_step.repeated(steps))?)
            }
            _ => None,
        };
        let emb = self.time_embedding.forward_silu(backend, &t_emb, aug_emb.as_ref())?;
        let table = self.time_emb_proj.of(&emb).run(backend)?;
        let of_conditioning = add_embeds.map(|_| conditioning.identity.clone());
        Ok(Times { model: self.identity.clone(), conditioning: of_conditioning, batch, steps, rows, table })
    }
}

impl Config {
    /// SDXL's second conditioning and what is given for it; none if the model has none and gets none.
    pub(super) fn added<'a>(&'a self, added: Option<&'a Added>) -> Result<Option<(&'a Addition, &'a Added)>> {
        match (&self.addition, added) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(refuse("added", "absent: the model takes none", "some")),
            (Some(_), None) => Err(refuse("added", "text_embeds and time_ids", "none")),
            (Some(addition), Some(added)) => Ok(Some((addition, added))),
        }
    }
}

impl Addition {
    /// The width of the pooled text beside the numbers of `time_ids`.
    pub(super) fn text_width(&self, time_ids: Shape) -> Result<usize> {
        let embedded = time_ids.channels().checked_mul(self.add_time_proj.channels);
        embedded.and_then(|embedded| self.inputs.checked_sub(embedded)).ok_or_else(|| {
            let expected = format!("as many numbers as {} values can hold", self.inputs);
            misshapen("time_ids", expected, time_ids)
        })
    }
}

/// `tensor` `[K, item..]`, where `K` divides `batch`, with each item as many times as fill the batch.
fn shared_by<const RANK: usize>(
    name: &'static str,
    tensor: &Tensor,
    batch: usize,
    item: [usize; RANK],
) -> Result<Tensor> {
    match tensor.shape().split_first() {
        Some((&items, rest)) if *rest == item && !tensor.data().is_empty() && batch.is_multiple_of(items) => {
            let mut all = Tensor::try_zeros(tensor.shape().with_batch(batch))?;
            let values = item.iter().product();
            for (n, copy) in all.data_mut().chunks_exact_mut(values).enumerate() {
                copy.copy_from_slice(&tensor.data()[n / (batch / items) * values..][..values]);
            }
            Ok(all)
        }
        _ => {
            let item: Vec<String> = item.iter().map(usize::to_string).collect();
            let expected = format!("[a divisor of {batch}, {}], none of them 0", item.join(", "));
            Err(misshapen(name, expected, tensor.shape()))
        }
    }
}
