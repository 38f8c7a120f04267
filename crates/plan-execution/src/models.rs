//! `models.toml` of a project of work: the models of the plan's pipeline and its profiles, without what only the plan's
//! own prompts can use: recorded answers.

use serde_json::Value;

use planexe_pipeline::manifest::run::quoted;
use planexe_pipeline::manifest::types::{Api, Map, Model, Profile, Tables};

/// The user's file.
pub const FILE: &str = "models.toml";

/// What stands there when the plan's pipeline has no model that can be asked for something new.
const LOCAL: &str = "\
[models.local]
api = \"openai\"
base_url = \"http://127.0.0.1:1234/v1\"     # LM Studio, llama.cpp, vLLM and others speak it
model = \"local-model\"
";

/// The text of the file, from the tables as written, no profile applied.
pub fn text(tables: &Tables) -> String {
    let mut text = String::from(
        "# The models that do the work, copied from the plan's pipeline. Yours to change: it is not written again.\n\n",
    );
    let models: Vec<(&String, &Model)> = usable(&tables.models).collect();
    for (name, model) in &models {
        text += &table(&format!("models.{}", key(name)), model);
    }
    if models.is_empty() {
        text += LOCAL;
        text.push('\n');
    }
    let known = |name: &&String| models.iter().any(|(known, _)| known == name);
    let named = tables.defaults.model.as_ref().map_or(&[][..], |names| names.as_slice());
    let default: Vec<&String> = named.iter().filter(known).collect();
    let default = match &default[..] {
        [] => quoted(models.first().map_or("local", |(name, _)| name)),
        [one] => quoted(one),
        many => format!("[{}]", many.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")),
    };
    text += &format!("[defaults]\nmodel = {default}\n");
    for (name, profile) in &tables.profiles {
        text += &profile_text(name, profile, |model| models.iter().any(|(known, _)| *known == model));
    }
    text
}

/// Whether a profile goes along.
pub fn keeps(profile: &Profile) -> bool {
    usable(&profile.models).count() == profile.models.len() && !profile.models.is_empty()
}

fn usable(models: &Map<Model>) -> impl Iterator<Item = (&String, &Model)> {
    models.iter().filter(|(_, model)| model.api != Some(Api::Recorded) && model.file.is_none())
}

fn profile_text(name: &str, profile: &Profile, is_base: impl Fn(&str) -> bool) -> String {
    // An override of a model that did not come along would be none.
    let whole = profile.models.iter().all(|(name, model)| model.api.is_some() || is_base(name));
    if !keeps(profile) || !whole {
        return String::new();
    }
    let at = format!("profiles.{}", key(name));
    let mut text = String::new();
    if let Some(description) = &profile.description {
        text += &format!("\n[{at}]\ndescription = {}\n", quoted(description));
    }
    for (model, table_of) in &profile.models {
        text.push('\n');
        text += table(&format!("{at}.models.{}", key(model)), table_of).trim_end();
        text.push('\n');
    }
    if let Some(names) = &profile.defaults.model {
        let names: Vec<String> = names.as_slice().iter().map(|name| quoted(name)).collect();
        text += &format!("\n[{at}.defaults]\nmodel = [{}]\n", names.join(", "));
    }
    text
}

/// A table with what is said in it.
fn table(at: &str, model: &Model) -> String {
    let mut text = format!("[{at}]\n");
    if let Ok(Value::Object(members)) = serde_json::to_value(model) {
        for (name, value) in members {
            if let Some(value) = said(&value) {
                text += &format!("{} = {value}\n", key(&name));
            }
        }
    }
    text.push('\n');
    text
}

/// A value as TOML; none if nothing is said in it.
fn said(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(list) if list.is_empty() => return None,
        Value::Array(list) => format!("[{}]", list.iter().filter_map(said).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members =
                members.iter().filter_map(|(name, value)| Some(format!("{} = {}", key(name), said(value)?)));
            let members: Vec<String> = members.collect();
            if members.is_empty() {
                return None;
            }
            format!("{{ {} }}", members.join(", "))
        }
    })
}

/// A key as TOML writes it.
pub fn key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}
