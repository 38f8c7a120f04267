//! Makes a run from the folder of another program: its plan, and the answers that hold here too.
//!
//! An answer is kept like one that arrived from a model (`.planexe/calls/`), with where it came from. The next build finds
//! it, checks it once more, and asks nobody. It belongs to the plan: if the plan is edited first, it is not used.

mod convert;
mod folder;
mod records;
mod sort;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Map;

use crate::ops::Session;
use crate::ops::new::{Source, Wanted, check_empty, end_line, make};
use folder::{Folder, Plan, Program};
use planexe_base::clock;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::record::{Digest, Imported, SCHEMA};
use planexe_base::style::{clean, shell_path};
use planexe_engine::graph::TaskId;
use planexe_llm::{Reply, Usage};
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Recipe;
use planexe_store::KeptRequest;
use planexe_store::calls::{AnswerState, CallRecord, Calls};
use records::Records;
use sort::{Importer, Sorted};

/// Files that have the whole plan: an answer to one of them sums up or judges a plan that is another one here.
const WHOLE_PLAN: [&str; 3] = ["plan_digest.md", "facts_as_planned.json", "shared_figures.json"];

/// Endings of results.
const ENDINGS: [&str; 5] = [".json", ".md", ".txt", ".csv", ".html"];

/// Endings of documents that people read.
const DOCUMENTS: [&str; 3] = [".md", ".csv", ".html"];

/// What PlanExe2 says of figures and decisions, which is computed and gathered here.
const TO_READ: [&str; 4] =
    ["canonical_facts.json", "consistency_review.json", "consistency_repair.json", "decision_register.json"];

/// Answers that PlanExe asks of the plan alone: what they were asked has it, or another.
const OF_THE_PLAN: [&str; 5] = [
    "redline_gate_raw.json",
    "premise_attack_raw.json",
    "identify_purpose_raw.json",
    "plan_type_raw.json",
    "extract_constraints_raw.json",
];

/// Where documents are kept that no task reads here.
const REFERENCE: &str = "imported";

/// What is imported, and to where.
#[derive(Debug, Clone)]
pub struct ImportOptions<'a> {
    /// The folder.
    pub dir: &'a Path,
    /// The run to make.
    pub into: &'a Path,
    /// The pipeline it runs.
    pub source: Source,
    /// Make nothing.
    pub dry_run: bool,
}

/// An answer that was taken, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Taken {
    /// The task.
    pub task: String,
    /// How many answers: one, or one for each item of a loop.
    pub answers: usize,
    /// Where it came from.
    #[serde(flatten)]
    pub imported: Imported,
}

/// A file that was not taken, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LeftOut {
    /// Its name.
    pub file: String,
    /// The task that makes it here.
    pub task: String,
    /// Why, in a word.
    pub code: &'static str,
    /// Why, for people, after the name.
    pub why: String,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImportView {
    /// `PlanExe` or `PlanExe2`.
    pub program: &'static str,
    /// How that shows.
    pub because: &'static str,
    /// The folder.
    pub folder: String,
    /// Whether nothing was made.
    pub dry_run: bool,
    /// The file the plan is from.
    pub plan_from: &'static str,
    /// The file of the run that has it.
    pub plan: String,
    /// Its words.
    pub plan_words: usize,
    /// The day the folder's run was started.
    pub started: Option<String>,
    /// Answers that were taken.
    pub taken: Vec<Taken>,
    /// Documents that are kept to be read, in `imported/`.
    pub reference: Vec<String>,
    /// Results that are not used.
    pub left_out: Vec<LeftOut>,
    /// Files that are no result of a task here.
    pub other_files: usize,
    /// What is to be known of the folder.
    pub notes: Vec<String>,
    /// Tasks that ask a model.
    pub tasks_that_ask: usize,
    /// Those that the next build asks for.
    pub asked_next: usize,
    /// What to type next.
    pub next: Vec<String>,
}

/// Makes the run: whole, under its name at the end, or nothing.
pub fn import(session: &Session, options: ImportOptions<'_>) -> Result<ImportView, Error> {
    let folder = Folder::open(options.dir)?;
    let (program, because) = folder.program()?;
    let target = fs::resolved(options.into);
    if target.starts_with(folder.dir()) {
        let text = format!(
            "the run cannot lie in `{}`, which is only read",
            clean(&options.dir.display().to_string())
        );
        return Err(Error::usage(text).code("inside").hint("`--into DIR` names another folder"));
    }
    check_empty(options.into)?;
    let parent = target.parent().unwrap_or(Path::new("/"));
    let missing: Vec<PathBuf> =
        parent.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    // What an import of this name left when it was killed. What cannot be removed is only in the way.
    let _ = fs::sweep_temp_dirs(&target);
    let temp = fs::temp_beside(&target);
    let made = fill(session, &folder, (program, because), &temp, &options);
    let cannot = |error: fs::FsError| {
        let text = format!("the run `{}` cannot be made", clean(&options.into.display().to_string()));
        Error::new(Kind::Internal, text).because(&error)
    };
    let made = match made {
        Ok(view) if !options.dry_run => {
            fs::rename(&temp, &target, Durability::Synced).map(|()| view).map_err(cannot)
        }
        other => other,
    };
    if options.dry_run || made.is_err() {
        // What cannot be removed is only in the way.
        let _ = fs::remove_tree(&temp);
        for folder in &missing {
            let _ = fs::remove_empty_dir(folder);
        }
    }
    made
}

/// Makes the run in a folder of its own.
fn fill(
    session: &Session,
    folder: &Folder,
    (program, because): (Program, &'static str),
    temp: &Path,
    options: &ImportOptions<'_>,
) -> Result<ImportView, Error> {
    let mut records = (program == Program::PlanExe2).then(|| Records::read(folder));
    let edited_plan = match &mut records {
        Some(Ok(records)) => records.is_edited(folder, "plan.txt") == Ok(true),
        _ => false,
    };
    let Plan { text, file, started, note } = folder.plan(edited_plan)?;
    let mut notes: Vec<String> = note.into_iter().collect();
    if let Some(Err(why)) = &records {
        notes.push(format!("{why}: nothing can be verified, so no answer is taken"));
    }
    let plan = Plan { text, file, started, note: None };
    let mut written = plan.text.clone();
    end_line(&mut written);
    let label = options.into.file_name().map(|name| name.to_string_lossy().into_owned());
    let wanted = Wanted {
        dir: temp,
        source: options.source.clone(),
        prompt: Some(written.clone()),
        label,
        parent: None,
        beside: Vec::new(),
    };
    let made = make(session, wanted)?;
    let opened = session.base().session(temp).open(false)?;
    let mut importer =
        Importer { folder, program, records, plan: &plan, opened: &opened, one_plan: OnceCell::new() };
    let Sorted { taken, reference, left_out, other_files } = importer.sort()?;
    if !options.dry_run {
        keep(&opened, &Digest::of(written.as_bytes()), &taken)?;
        copy(folder, &temp.join(REFERENCE), &reference)?;
    }
    let asks =
        |id: &TaskId| matches!(opened.project.spec(&opened.project.graph[*id]).recipe, Recipe::Prompt(_));
    let tasks_that_ask = opened.project.graph.order().iter().filter(|id| asks(id)).count();
    let shown = shell_path(options.into);
    Ok(ImportView {
        program: program.name(),
        because,
        folder: folder.dir().display().to_string(),
        dry_run: options.dry_run,
        plan_from: plan.file,
        plan: made.plan.unwrap_or_default(),
        plan_words: plan.text.split_whitespace().count(),
        started: plan.started.clone(),
        asked_next: tasks_that_ask - taken.len(),
        taken: taken.into_iter().map(|answer| answer.taken).collect(),
        reference,
        left_out,
        other_files,
        notes,
        tasks_that_ask,
        next: vec![format!("planexe -C {shown} doctor"), format!("planexe -C {shown} build")],
    })
}

/// What is taken from a file, with its texts and how it was asked there.
struct Answers {
    taken: Taken,
    /// The task, or the item of it, and the answer.
    texts: Vec<(String, String)>,
    asked: String,
    system: String,
}

/// Copies documents to where they can be read.
fn copy(folder: &Folder, to: &Path, files: &[String]) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    fs::make_dirs(to, Durability::Synced)?;
    for file in files {
        // It was read before; what changed since is told as such.
        let bytes = folder
            .read(file)
            .map_err(|(code, why)| Error::usage(format!("`{}` {why}", clean(file))).code(code))?;
        fs::write_atomic(&to.join(file), &bytes, Durability::Synced)?;
    }
    Ok(())
}

/// Keeps the answers where a build finds them.
fn keep(opened: &Opened, plan: &Digest, taken: &[Answers]) -> Result<(), Error> {
    let store = &opened.store;
    if taken.is_empty() {
        return Ok(());
    }
    let planexe = store.planexe_dir();
    fs::make_dirs(&planexe, Durability::Synced)?;
    // Prompts and answers are private. Where permissions cannot be changed there are none.
    let _ = fs::make_private(&planexe);
    for answers in taken {
        for (task, text) in &answers.texts {
            store.calls().keep(&record(answers, task, text, plan))?;
        }
    }
    Ok(())
}

/// An answer like one that arrived from a model.
fn record(of: &Answers, task: &str, text: &str, plan: &Digest) -> CallRecord {
    let imported = &of.taken.imported;
    let now = clock::now_utc();
    let reply = Reply {
        text: text.to_owned(),
        reasoning: String::new(),
        usage: Usage::default(),
        model: imported.model.clone(),
        finish: None,
        id: None,
        sample: false,
        first_token_s: None,
        duration_s: 0.0,
    };
    CallRecord {
        schema: SCHEMA,
        task: task.to_owned(),
        digest: Calls::imported_digest(task, plan),
        endpoint: String::new(),
        model: imported.model.clone().unwrap_or_else(|| imported.from.clone()),
        api: "imported".to_owned(),
        request: KeptRequest {
            system: of.system.clone(),
            prompt: of.asked.clone(),
            ..KeptRequest::default()
        },
        started_utc: now.clone(),
        ended_utc: now,
        reply: Some(reply),
        error: None,
        verdict: AnswerState::Accepted,
        attempt: 0,
        error_id: None,
        evaluation: false,
        wire: None,
        imported: Some(imported.clone()),
        other: Map::new(),
    }
}
