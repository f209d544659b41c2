use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// How a sampler or a schedule is written down: its name, and its options where they are not the usual ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub name: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Json>,
}
