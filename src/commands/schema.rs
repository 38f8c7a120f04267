//! `planexe schema`: prints the JSON Schema of pipeline.toml, or of what a command prints with `--json`.

use clap::Args;
use schemars::Schema;

use crate::commands::Session;
use planexe_base::exit::{self, Error};
use planexe_pipeline::manifest::schema::json_schema;
use planexe_pipeline::manifest::suggest;

/// What `planexe schema` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct SchemaArgs {
    /// Of what a command prints with --json: its name, or events, error, answers (all of them), … [default: of pipeline.toml]
    #[arg(value_name = "NAME")]
    pub of: Option<String>,
}

/// The schemas of what commands print.
#[derive(Debug)]
pub struct Answers {
    /// Their names.
    pub names: Vec<&'static str>,
    /// One of them.
    pub of: fn(&str) -> Option<Schema>,
    /// All in one document.
    pub all: fn() -> Schema,
}

/// Prints the schema.
pub fn run(session: &Session, args: &SchemaArgs, answers: &Answers) -> Result<u8, Error> {
    let text = match args.of.as_deref() {
        None | Some("pipeline") => json_schema(),
        Some("answers") => text(&(answers.all)()),
        Some(name) => match (answers.of)(name) {
            Some(schema) => text(&schema),
            None => {
                let known = answers.names.iter().copied().chain(["pipeline", "answers"]);
                let near = suggest(name, known).unwrap_or_default();
                return Err(Error::usage(format!(
                    "there is no schema `{}`",
                    planexe_base::style::clean(name)
                ))
                .hint(format!("{near}; these are there: pipeline, answers, {}", answers.names.join(", "))));
            }
        },
    };
    session.print(&text)?;
    Ok(exit::DONE)
}

fn text(schema: &Schema) -> String {
    serde_json::to_string_pretty(schema).expect("BUG: a schema is JSON") + "\n"
}
