//! The models of a gateway, and the answer to `/v1/models`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::config::{Dialect, ModelConfig};
use crate::dialect::InputRatio;

/// A model with what was learned about it.
#[derive(Debug)]
pub(super) struct Model {
    /// Its place in the configuration.
    pub(super) index: usize,
    pub(super) config: ModelConfig,
    pub(super) ratio: InputRatio,
}

/// The models by name, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Models {
    all: Vec<Arc<Model>>,
    by_id: HashMap<String, usize>,
}

impl Models {
    pub(super) fn new(configs: &[ModelConfig]) -> Self {
        let model = |(index, config): (usize, &ModelConfig)| {
            Arc::new(Model { index, config: config.clone(), ratio: InputRatio::default() })
        };
        let ids = configs.iter().enumerate().map(|(index, config)| (config.id.clone(), index));
        Self { all: configs.iter().enumerate().map(model).collect(), by_id: ids.collect() }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<Model>> {
        self.by_id.get(id).and_then(|index| self.all.get(*index))
    }

    /// The list of all models.
    pub(super) fn list(&self, dialect: Dialect) -> Bytes {
        let models: Vec<_> =
            self.all.iter().map(|model| described(&model.config, dialect)).collect();
        let list = match dialect {
            Dialect::OpenAi => json!({"object": "list", "data": models}),
            Dialect::Anthropic => {
                let id = |model: Option<&Arc<Model>>| model.map(|model| model.config.id.clone());
                json!({
                    "data": models,
                    "has_more": false,
                    "first_id": id(self.all.first()),
                    "last_id": id(self.all.last()),
                })
            }
        };
        list.to_string().into()
    }

    /// The model called `id`.
    pub(super) fn describe(&self, id: &str, dialect: Dialect) -> Option<Bytes> {
        let model = self.get(id)?;
        Some(described(&model.config, dialect).to_string().into())
    }
}

fn described(model: &ModelConfig, dialect: Dialect) -> Value {
    match dialect {
        Dialect::OpenAi => {
            json!({"id": model.id, "object": "model", "created": 0, "owned_by": "tollgate"})
        }
        Dialect::Anthropic => json!({
            "type": "model",
            "id": model.id,
            "display_name": model.id,
            "created_at": "1970-01-01T00:00:00Z",
        }),
    }
}
