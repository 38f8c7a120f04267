//! A finished plan made into a pipeline of its own: every step of its work breakdown a task that a model, a program or a
//! person does.
//!
//! [`plan`] reads what the plan's run made, [`rules`] says who does which step, [`order`] what waits for what, [`project`]
//! puts that together, [`files`] turns it into texts, the same bytes for the same plan, and [`place`] puts them into a
//! folder without writing over what somebody edited. Everything from a model is data here: names of tasks and files are reduced to
//! letters, digits, `.`, `_` and `-` ([`names`]), all else stands in quoted strings and in JSON.

pub mod files;
pub mod gantt;
pub mod models;
pub mod names;
pub mod order;
pub mod pipeline;
pub mod place;
pub mod plan;
pub mod project;
pub mod readme;
pub mod rules;
