//! Values that may be written in more than one shape: a name or a list, a text or a table.

use schemars::JsonSchema;
use serde::Serialize;

use planexe_base::by_shape;

use super::{Amount, Calls, Command, Env, Inputs, Isolate, Output};

/// A string, or a list of strings.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One name.
    One(String),
    /// Names in order.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The names, in order.
    pub fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(name) => std::slice::from_ref(name),
            OneOrMany::Many(names) => names,
        }
    }
}

by_shape!(Inputs, "a list of paths or a table of names and paths", list Inputs::List, table Inputs::Table);
by_shape!(Output, "a path or a table `{ path = …, template = … }`", text Output::Path, table Output::Rendered);
by_shape!(OneOrMany, "a name or a list of names", text OneOrMany::One, list OneOrMany::Many);
by_shape!(Command, "a list of arguments or a line for the shell", text Command::Shell, list Command::Argv);
by_shape!(Env, "a list of names or a table of values", list Env::Names, table Env::Table);
by_shape!(Calls, "a model's name or a table `{ model = …, max_calls = … }`", text Calls::Model, table Calls::Limited);
by_shape!(Isolate, "true or a table `{ lane = …, base = … }`", table Isolate::Lane, flag Isolate::Flag);
by_shape!(Amount, "a number, or a text like \"8G\" or \"2h\"", text Amount::Text, number Amount::Number);
