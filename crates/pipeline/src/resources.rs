//! What an attempt takes where it runs, templates over its item filled in.

use minijinja::Value;

use crate::manifest::executors::{Taken, amounts, read};
use crate::manifest::types::{Amount, Resources};
use crate::template::{self, Source};

/// What an attempt takes: what its task says, else what its executor says. `context`: what templates see.
pub fn taken(
    own: Option<&Resources>,
    of_executor: Option<&Resources>,
    context: &Value,
) -> Result<Taken, String> {
    let mut taken = Taken { cpus: 1, ..Taken::default() };
    for resources in [of_executor, own].into_iter().flatten() {
        for (key, amount) in amounts(resources) {
            let Some(amount) = amount else { continue };
            match amount {
                Amount::Text(text) if amount.is_template() => {
                    let source = Source::new(format!("resources.{key}"), text.as_str());
                    let text = template::render(&source, context, false)
                        .map_err(|error| format!("`resources.{key}`: {error}"))?;
                    read(key, &Amount::Text(text), &mut taken)
                }
                plain => read(key, plain, &mut taken),
            }
            .map_err(|fault| format!("`resources.{key}`: {fault}"))?;
        }
    }
    Ok(taken)
}
