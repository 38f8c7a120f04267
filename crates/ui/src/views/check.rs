//! `planexe check`: a pipeline without faults, and one with.

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::{ErrorBody, SCHEMA, Server};
use planexe_base::exit::Kind;
use planexe_base::style::{self, clean};
use planexe_pipeline::manifest::{Diagnostics, FaultView};

/// A pipeline that was read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CheckView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The pipeline file.
    pub file: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Tasks declared.
    pub tasks: u32,
    /// Models declared.
    pub models: u32,
    /// Empty here; with faults the answer is their list.
    #[schemars(with = "Vec<FaultView>")]
    pub faults: Vec<serde_json::Value>,
    /// What is most likely a mistake, in the form of faults.
    #[schemars(with = "Vec<FaultView>")]
    pub warnings: serde_json::Value,
}

impl CheckView {
    /// For people.
    pub fn text(&self) -> String {
        let warnings = self.warnings.as_array().map_or(0, Vec::len) as u64;
        let also =
            if warnings == 0 { String::new() } else { format!(", {}", style::count(warnings, "warning")) };
        let tasks = style::count(u64::from(self.tasks), "task");
        format!("{}: {tasks}, no faults{also}\n", clean(&self.file))
    }
}

/// A pipeline that cannot be used: the answer of any command to it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FaultsView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// As of any other error; its code is `faults`.
    pub error: ErrorBody,
    /// Every fault, with file, line and column.
    #[schemars(with = "Vec<FaultView>")]
    pub faults: serde_json::Value,
}

impl FaultsView {
    /// The data of faults.
    pub fn new(faults: &Diagnostics, server: Server) -> FaultsView {
        FaultsView {
            schema: SCHEMA,
            server,
            error: ErrorBody {
                code: "faults".to_owned(),
                message: format!("the pipeline has {}", style::count(faults.len() as u64, "fault")),
                causes: Vec::new(),
                hints: Vec::new(),
                next: vec!["planexe check".to_owned()],
                exit_code: Kind::Manifest.exit_code(),
            },
            faults: faults.to_json(),
        }
    }
}
