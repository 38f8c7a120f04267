//! `planexe graph`: the tasks and the files between them, in the languages of others.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::Server;
use planexe_base::record::State;
use planexe_base::style::clean;

/// Tasks and what goes between them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GraphView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The tasks, in topological order.
    pub nodes: Vec<GraphNode>,
    /// What goes between them.
    pub edges: Vec<GraphEdge>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GraphNode {
    /// Its name.
    pub task: String,
    /// prompt, command, template, gate, human, group.
    pub recipe: String,
    /// One instance for each item.
    pub foreach: bool,
    /// Source files it reads: files that no task makes.
    pub sources: Vec<String>,
    /// Files it writes.
    pub outputs: Vec<String>,
    /// Its state, if it was judged.
    pub state: Option<State>,
    /// Of a fan-out that was judged: how many of its items are in which state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub items: BTreeMap<State, u32>,
    /// Of a graph that was judged: it lies on the path that took, or takes, longest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub critical: bool,
}

/// One task needs another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GraphEdge {
    /// The task that comes first.
    pub from: String,
    /// The task that needs it.
    pub to: String,
    /// The file that goes between them; none for `after`.
    pub file: Option<String>,
}

impl GraphView {
    /// Graphviz.
    pub fn dot(&self) -> String {
        let mut text = format!("digraph {} {{\n", dot_text(&self.pipeline));
        text += "  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"Helvetica\"];\n";
        text += "  edge [fontname=\"Helvetica\", fontsize=10];\n";
        for node in &self.nodes {
            let shape = match node.recipe.as_str() {
                "command" => ", shape=component",
                "template" => ", shape=note",
                "gate" => ", shape=diamond",
                "human" => ", shape=house",
                "group" => ", shape=folder",
                _ => "",
            };
            let many = if node.foreach { ", peripheries=2" } else { "" };
            let colour = node.state.map(|state| format!(", color=\"{}\"", hex(state)));
            let _ = writeln!(
                text,
                "  {} [tooltip={}{shape}{many}{}];",
                dot_text(&node.task),
                dot_text(&node.outputs.join(", ")),
                colour.unwrap_or_default()
            );
        }
        for edge in &self.edges {
            let how = match &edge.file {
                Some(file) => format!("label={}", dot_text(file)),
                None => "style=dashed, label=\"after\"".to_owned(),
            };
            let _ = writeln!(text, "  {} -> {} [{how}];", dot_text(&edge.from), dot_text(&edge.to));
        }
        text + "}\n"
    }

    /// Mermaid.
    pub fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        let numbers: HashMap<&str, usize> =
            self.nodes.iter().enumerate().map(|(at, node)| (node.task.as_str(), at)).collect();
        for (at, node) in self.nodes.iter().enumerate() {
            let (open, close) = match (node.recipe.as_str(), node.foreach) {
                (_, true) => ("[[", "]]"),
                ("gate", _) => ("{", "}"),
                ("human", _) => ("[/", "\\]"),
                ("template", _) => ("(", ")"),
                _ => ("[", "]"),
            };
            let _ = writeln!(text, "  t{at}{open}\"{}\"{close}", mermaid_text(&node.task));
        }
        for edge in &self.edges {
            let number = |task: &str| numbers.get(task).copied();
            let (Some(from), Some(to)) = (number(&edge.from), number(&edge.to)) else { continue };
            let _ = match &edge.file {
                Some(file) => writeln!(text, "  t{from} -->|\"{}\"| t{to}", mermaid_text(file)),
                None => writeln!(text, "  t{from} -.->|after| t{to}"),
            };
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if let Some(state) = node.state {
                let _ = writeln!(text, "  style t{at} stroke:{},stroke-width:2px", hex(state));
            }
        }
        text
    }
}

/// The colour of a state, as web pages write it.
fn hex(state: State) -> String {
    let rgb = state.colour();
    format!("#{:02x}{:02x}{:02x}", rgb.0, rgb.1, rgb.2)
}

/// A quoted string of Graphviz. A final backslash would quote the quote, so each is doubled.
fn dot_text(text: &str) -> String {
    format!("\"{}\"", clean(text).replace('\\', "\\\\").replace('"', "\\\""))
}

/// Text between the quotes of Mermaid, which has entities but no escapes.
fn mermaid_text(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '|' | '[' | ']' | '{' | '}' | '\\' => {
                let _ = write!(out, "#{};", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}
