use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The text of a model's `config.json`.
pub(crate) fn read_config(folder: &Path) -> Result<String> {
    let path = folder.join("config.json");
    fs::read_to_string(&path).map_err(|error| Error::File {
        path,
        expected: "the model's configuration".into(),
        got: error.to_string(),
    })
}

/// The fields of a diffusers `config.json`, each of which must be accounted for: one that nobody knows may change what
/// the model computes.
pub(crate) struct Fields {
    model: &'static str,
    fields: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Parses the configuration of a `model`, as diffusers calls it.
    pub fn parse(model: &'static str, json: &str) -> Result<Self> {
        let fields = serde_json::from_str(json).map_err(|error| Error::File {
            path: "config.json".into(),
            expected: format!("the JSON configuration of {model}"),
            got: error.to_string(),
        })?;
        let mut fields = Fields { model, fields, known: Vec::new() };
        let class = fields.take("_class_name", model.to_owned())?;
        if class != model {
            return Err(fields.refuse("_class_name", model, class));
        }
        Ok(fields)
    }

    /// The value of a field, which is `default` if the field is absent.
    pub fn take<T: DeserializeOwned>(&mut self, name: &'static str, default: T) -> Result<T> {
        self.known.push(name);
        let Some(value) = self.fields.remove(name) else { return Ok(default) };
        let text = value.to_string();
        serde_json::from_value(value).map_err(|error| {
            self.refuse(name, "of the type that diffusers gives it", format!("{text}: {error}"))
        })
    }

    /// Refuses fields with values other than these, written as JSON; an absent field is fine.
    pub fn only(&mut self, implemented: &[(&'static str, &[&str])]) -> Result<()> {
        for &(name, values) in implemented {
            self.known.push(name);
            let Some(value) = self.fields.remove(name).map(|value| value.to_string()) else { continue };
            if !values.contains(&value.as_str()) {
                return Err(self.refuse(name, values.join(" or "), value));
            }
        }
        Ok(())
    }

    /// Drops fields that change nothing in what the model computes here.
    pub fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend(names);
        self.fields.retain(|name, _| !names.contains(&name.as_str()));
    }

    /// Refuses whatever is left, but for diffusers' own notes, which begin with an underscore.
    pub fn finish(self) -> Result<()> {
        match self.fields.keys().find(|name| !name.starts_with('_')) {
            Some(name) => Err(Error::unknown_name("config.json field", name, self.known)),
            None => Ok(()),
        }
    }

    /// The error for a field's value.
    pub fn refuse(&self, name: &'static str, expected: impl Into<String>, got: impl ToString) -> Error {
        refuse(self.model, name, expected, got)
    }
}

/// Refuses counts of a `model` that are 0, and those so large that sums and small products of them might overflow.
pub(crate) fn expect_counts(
    model: &'static str,
    counts: impl IntoIterator<Item = (&'static str, usize)>,
) -> Result<()> {
    const MOST: usize = 1 << 20;
    match counts.into_iter().find(|(_, number)| !(1..=MOST).contains(number)) {
        Some((name, number)) => Err(refuse(model, name, format!("1 to {MOST}"), number)),
        None => Ok(()),
    }
}

/// The error for a value of a `model`'s configuration.
pub(crate) fn refuse(
    model: &'static str,
    name: &'static str,
    expected: impl Into<String>,
    got: impl ToString,
) -> Error {
    Error::Value { op: model, what: name, expected: expected.into(), got: got.to_string() }
}
