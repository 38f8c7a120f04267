//! The pipeline: `pipeline.toml` and the texts it names, made into a graph of tasks, each with its recipe. It reads
//! files and knows nothing of what earlier builds recorded.

pub mod allowed_pipelines;
pub mod check;
pub mod eval_score;
pub mod figures;
pub mod input_files;
pub mod items;
pub mod lanes;
pub mod lint;
pub mod load;
pub mod manifest;
pub mod open;
pub mod project;
pub mod resources;
pub mod runs;
pub mod task_inputs;
pub mod template;
pub mod text;
pub mod texts;
