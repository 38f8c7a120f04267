//! The JSON Schema of `pipeline.toml`, generated from the types, for editors.

use schemars::generate::SchemaSettings;

use super::types::Tables;

/// The schema as it is shipped: the same bytes every time, with a final newline.
pub fn json_schema() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Tables>();
    let mut text = serde_json::to_string_pretty(&schema).expect("BUG: a schema is JSON");
    text.push('\n');
    text
}
