//! `planexe mcp`: serves an agent over standard input and output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use parking_lot::Mutex;

use crate::commands::Session;
use crate::commands::args::parse_jobs;
use crate::mcp::{Pipeline, Server, serve};
use crate::ops::new::BUILT_IN;
use planexe_base::exit::{self, Error};
use planexe_pipeline::allowed_pipelines::Only;
use planexe_pipeline::manifest::{Manifest, ReadOptions};
use planexe_pipeline::open::OpenError;
use planexe_pipeline::runs::Runs;

/// So many builds at once, unless it is said otherwise.
const MOST_BUILDS: u32 = 8;

/// What `planexe mcp` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct McpArgs {
    /// The folder of the runs; created if missing
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,

    /// A pipeline the agent may make runs of, beside strategic-plan; the first is its default; may be repeated
    #[arg(long = "pipeline", value_name = "FILE")]
    pub pipelines: Vec<PathBuf>,

    /// Let the agent make and read runs, but neither start nor end builds
    #[arg(long)]
    pub no_build: bool,

    /// Start no further build while N runs of the folder are being built, whoever started them
    #[arg(long, value_name = "N", default_value_t = MOST_BUILDS, value_parser = parse_jobs, conflicts_with = "no_build")]
    pub max_builds: u32,
}

/// Serves until the agent closes its side.
pub fn run(session: &Session, args: &McpArgs) -> Result<u8, Error> {
    if session.globals.run_dir.is_some() || session.globals.file.is_some() {
        return Err(Error::usage("`planexe mcp` serves a folder of runs, not one run")
            .code("command_line")
            .hint("`planexe mcp --runs DIR` names the folder, `--pipeline FILE` a pipeline"));
    }
    if args.runs.exists() && !args.runs.is_dir() {
        return Err(Error::usage(format!("`{}` is no folder", args.runs.display()))
            .code("no_folder")
            .hint("`planexe mcp --runs DIR` names the folder the runs stand in, or are to"));
    }
    let mut base = session.base();
    for path in &mut base.place.allow_outside {
        *path = std::path::absolute(&*path)?;
    }
    let pipelines = pipelines(session, &args.pipelines)?;
    let files = pipelines.iter().filter_map(|pipeline| pipeline.file.clone()).collect();
    let copied = pipelines.iter().any(|pipeline| pipeline.file.is_none());
    let copy_of = if copied { session.bundle } else { &[] };
    base.place.only = Some(Arc::new(Only { files, copy_of, in_run: true }));
    let server = Server {
        pipelines,
        options: options(&base.place.defines, &base.place.allow_outside),
        base,
        runs: Runs::new(&args.runs),
        profile: session.globals.profile.clone(),
        may_build: !args.no_build,
        max_builds: args.max_builds,
        starting: Mutex::default(),
    };
    if session.in_is_terminal {
        session.say(&format!(
            "serving `{}` to an agent on standard input, one JSON-RPC message a line; Ctrl-D ends it",
            server.runs.root().display()
        ));
        session.say("hint: docs/mcp.md says how a client is told to start this");
    }
    planexe_base::signals::survive_file_size_limit();
    serve(Arc::new(server), std::io::stdin().lock(), std::io::stdout())
        .map_err(|error| Error::from(error).hint("the client's side of standard input cannot be read"))?;
    Ok(exit::DONE)
}

/// What plans may be made of. Each must be readable now: who starts the server is told, not the agent.
fn pipelines(session: &Session, files: &[PathBuf]) -> Result<Vec<Pipeline>, Error> {
    let mut pipelines: Vec<Pipeline> = Vec::new();
    for file in files {
        let file = if file.is_dir() { file.join("pipeline.toml") } else { file.clone() };
        let shown = file.display().to_string();
        if !file.is_file() {
            return Err(Error::usage(format!("there is no pipeline `{shown}`")).code("no_pipeline"));
        }
        let file = file.canonicalize()?;
        let options = ReadOptions {
            defines: session.globals.repeated.define.clone(),
            allow_outside: session.globals.repeated.allow_outside.clone(),
            ..ReadOptions::default()
        };
        let manifest = Manifest::read(&file, &options)
            .map_err(|faults| session.open_error(OpenError::Diagnostics(Box::new(faults))))?;
        if manifest.tables.pipeline.plan.is_none() {
            return Err(Error::usage(format!(
                "`{shown}` does not say which file is its plan, so a prompt has no place"
            ))
            .code("no_plan")
            .hint("add `plan = \"plan.txt\"` under `[pipeline]`"));
        }
        let name = manifest.tables.pipeline.name.clone().unwrap_or_else(|| folder_name(&file));
        if let Some(other) = pipelines.iter().find(|other| other.name == name) {
            let other = other.file.as_deref().unwrap_or(Path::new("")).display().to_string();
            return Err(Error::usage(format!("`{other}` and `{shown}` are both called `{name}`"))
                .code("same_name")
                .hint("give one of them another `name` under `[pipeline]`"));
        }
        pipelines.push(Pipeline { name, file: Some(file) });
    }
    let has_built_in = !session.bundle.is_empty() && pipelines.iter().all(|other| other.name != BUILT_IN);
    if has_built_in {
        pipelines.push(Pipeline { name: BUILT_IN.to_owned(), file: None });
    }
    Ok(pipelines)
}

fn folder_name(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name);
    folder.map_or("pipeline".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Options that say how each run is read, for its builds.
fn options(defines: &[(String, String)], outside: &[PathBuf]) -> Vec<OsString> {
    let mut options = Vec::new();
    for (name, value) in defines {
        options.extend([OsString::from("-D"), OsString::from(format!("{name}={value}"))]);
    }
    for path in outside {
        options.extend([OsString::from("--allow-outside"), path.clone().into_os_string()]);
    }
    options
}
