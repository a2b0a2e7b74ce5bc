//! A JSON Schema, judged by a validator that is not ours.

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::Value;

/// A schema, ready to judge.
pub(crate) struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    /// Compiles the schema, which checks it against the schema of schemas.
    pub(crate) fn of(schema: &str) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.set_default_draft(Draft::V2020_12);
        compiler.add_resource("schema.json", serde_json::from_str(schema).unwrap()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// What is wrong with a value; empty if nothing is.
    pub(crate) fn faults(&self, value: &Value) -> Vec<String> {
        self.schemas.validate(value, self.index).err().map(|error| format!("{error:#}")).into_iter().collect()
    }
}
