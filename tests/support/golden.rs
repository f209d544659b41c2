//! Golden files: tensors and the cases they belong to. See `tests/golden/README.md`.

use std::path::Path;

use half::{bf16, f16};
use noisefork::sampling::{Profile, Variations};
use noisefork::tensor::{Shape, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One golden file in memory.
pub struct Golden {
    bytes: Vec<u8>,
    cases: Vec<Value>,
}

/// One case of a golden file: its settings, and the tensors that it owns.
pub struct Case<'a> {
    tensors: SafeTensors<'a>,
    settings: &'a Value,
    index: usize,
}

impl Golden {
    /// The file `tests/golden/NAME.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let path = path.with_extension("safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let cases = metadata.metadata().as_ref().and_then(|map| map.get("cases"));
        let cases = cases.unwrap_or_else(|| panic!("{}: no cases", path.display()));
        let cases = serde_json::from_str(cases).unwrap();
        Golden { bytes, cases }
    }

    /// Every case, in order.
    pub fn cases(&self) -> Vec<Case<'_>> {
        let case = |(index, settings)| Case {
            tensors: SafeTensors::deserialize(&self.bytes).unwrap(),
            settings,
            index,
        };
        self.cases.iter().enumerate().map(case).collect()
    }

    /// The cases whose `kind` is this.
    pub fn cases_of(&self, kind: &str) -> Vec<Case<'_>> {
        self.cases().into_iter().filter(|case| case.has("kind") && case.str("kind") == kind).collect()
    }

    /// A tensor that belongs to no case, such as `sigmas_table/eps`.
    pub fn tensor(&self, name: &str) -> Tensor<f32> {
        tensor(&SafeTensors::deserialize(&self.bytes).unwrap(), name)
    }
}

impl Case<'_> {
    /// The variation node as the case has it set.
    pub fn variations(&self) -> Variations {
        Variations {
            profile: Profile::Comfyui0_3_64,
            noise_seed: self.seed("noise_seed"),
            steps: self.usize("steps"),
            cfg: self.f64("cfg"),
            sampler: self.str("sampler").parse().unwrap(),
            scheduler: self.str("scheduler").parse().unwrap(),
            variation_seed: self.seed("variation_seed"),
            variation_strength: self.f64("variation_strength"),
            cfg_scale: self.f64("cfg_scale"),
        }
    }

    /// Whether the case has this setting, and it is not null.
    pub fn has(&self, key: &str) -> bool {
        !self.settings[key].is_null()
    }

    /// Whether the case has a tensor of this name.
    pub fn has_tensor(&self, field: &str) -> bool {
        self.tensors.tensor(&self.name(field)).is_ok()
    }

    /// A setting as it stands in the file.
    pub fn value(&self, key: &str) -> &Value {
        &self.settings[key]
    }

    /// A text.
    pub fn str(&self, key: &str) -> &str {
        self.expect(key, "text", self.value(key).as_str())
    }

    /// A number.
    pub fn f64(&self, key: &str) -> f64 {
        self.expect(key, "a number", self.value(key).as_f64())
    }

    /// A count or an index.
    pub fn usize(&self, key: &str) -> usize {
        self.expect(key, "a count", count(self.value(key)))
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> bool {
        self.expect(key, "true or false", self.value(key).as_bool())
    }

    /// A 64-bit seed, which is text in the file, or a number if it is small.
    pub fn seed(&self, key: &str) -> u64 {
        self.expect(key, "a seed", seed(self.value(key)))
    }

    /// A list of seeds.
    pub fn seeds(&self, key: &str) -> Vec<u64> {
        self.list(key).iter().map(|value| self.expect(key, "a list of seeds", seed(value))).collect()
    }

    /// A list of counts: a shape, or batch indices.
    pub fn usizes(&self, key: &str) -> Vec<usize> {
        self.list(key).iter().map(|value| self.expect(key, "a list of counts", count(value))).collect()
    }

    /// A list.
    pub fn list(&self, key: &str) -> &[Value] {
        self.expect(key, "a list", self.value(key).as_array().map(Vec::as_slice))
    }

    /// A floating-point tensor of the case, as `f32`.
    pub fn tensor(&self, field: &str) -> Tensor<f32> {
        tensor(&self.tensors, &self.name(field))
    }

    /// The element type of a tensor of the case.
    pub fn dtype(&self, field: &str) -> Dtype {
        self.tensors.tensor(&self.name(field)).unwrap().dtype()
    }

    /// An integer tensor of the case.
    pub fn i64s(&self, field: &str) -> Vec<i64> {
        let view = self.tensors.tensor(&self.name(field)).unwrap();
        assert_eq!(view.dtype(), Dtype::I64, "{field} of {self}");
        view.data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()
    }

    fn name(&self, field: &str) -> String {
        format!("{}/{field}", self.index)
    }

    fn expect<T>(&self, key: &str, kind: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| panic!("{key:?} is not {kind} in {self}"))
    }
}

/// The case's number and settings, for messages.
impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "case {} {}", self.index, self.settings)
    }
}

fn count(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn seed(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn tensor(tensors: &SafeTensors, name: &str) -> Tensor<f32> {
    let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let bytes = view.data();
    let data = match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        other => panic!("{name} holds {other}, not floating-point numbers"),
    };
    Tensor::new(Shape::try_from_slice(view.shape()).unwrap(), data).unwrap()
}
