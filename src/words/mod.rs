//! Prompts without a language model: a table that has one row for each word it knows.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::tensor::Tensor;

/// A table of word embeddings, as small models use in place of a text encoder.
#[derive(Debug, Clone)]
pub struct Words {
    vocab: Vec<String>,
    /// `[vocab, width]`; row 0 is the empty word.
    embeddings: Tensor,
    width: usize,
    context_length: usize,
    latent_scaling_factor: f32,
}

#[derive(Deserialize)]
struct Table {
    vocab: Vec<String>,
    context_length: usize,
    latent_scaling_factor: f32,
}

impl Words {
    /// Reads a table: `json` holds `vocab`, `context_length` and `latent_scaling_factor`, and `weights` the rows as
    /// `word_embedding.weight` `[vocab, width]`. `path` is where `json` came from, for errors.
    ///
    /// # Errors
    /// [`Error::File`] for JSON of another form, and those of [`Weights::tensor`].
    pub fn from_parts(path: &Path, json: &str, weights: &Weights, width: usize) -> Result<Self> {
        let refuse = |got: String| Error::File {
            path: path.to_owned(),
            expected: "a table of words: vocab, context_length of at least 1, latent_scaling_factor".into(),
            got,
        };
        let table: Table = serde_json::from_str(json).map_err(|error| refuse(error.to_string()))?;
        let Table { vocab, context_length, latent_scaling_factor } = table;
        if context_length == 0 || !(latent_scaling_factor.is_finite() && latent_scaling_factor > 0.0) {
            return Err(refuse(format!("context_length {context_length}, factor {latent_scaling_factor}")));
        }
        let embeddings = weights.tensor("word_embedding.weight", [vocab.len(), width])?;
        Ok(Words { vocab, embeddings, width, context_length, latent_scaling_factor })
    }

    /// The words that prompts may hold.
    pub fn vocab(&self) -> impl Iterator<Item = &str> {
        self.vocab.iter().map(String::as_str).filter(|word| !word.is_empty())
    }

    /// What the model's latents are divided by before they are decoded.
    pub fn latent_scaling_factor(&self) -> f32 {
        self.latent_scaling_factor
    }

    /// The context of a prompt, `[1, context_length, width]`: one token a word, the rest the empty word. A prompt of no
    /// words is the unconditional one. Case and the space between words do not matter.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a word that the table lacks, [`Error::Value`] for more words than the context holds.
    pub fn context(&self, prompt: &str) -> Result<Tensor> {
        let prompt = prompt.to_lowercase();
        let words: Vec<&str> = prompt.split_whitespace().collect();
        if words.len() > self.context_length {
            let (op, what) = ("prompt", "number of words");
            let (expected, got) = (format!("at most {}", self.context_length), words.len().to_string());
            return Err(Error::Value { op, what, expected, got });
        }
        let mut data = Vec::with_capacity(self.context_length * self.width);
        for token in 0..self.context_length {
            let row = words.get(token).map_or(Ok(0), |word| self.row(word))?;
            data.extend_from_slice(&self.embeddings.data()[row * self.width..][..self.width]);
        }
        Tensor::new([1, self.context_length, self.width], data)
    }

    fn row(&self, word: &str) -> Result<usize> {
        let row = self.vocab.iter().position(|known| known == word);
        row.ok_or_else(|| Error::unknown_name("prompt word", word, self.vocab()))
    }
}
