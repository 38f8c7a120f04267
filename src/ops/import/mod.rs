//! Makes a run from the folder of another program: its plan, and the answers that hold here too.
//!
//! An answer is kept like one that arrived from a model (`.planexe/calls/`), with where it came from. The next build finds
//! it, checks it once more, and asks nobody. It belongs to the plan: if the plan is edited first, it is not used.

mod convert;
mod folder;
mod records;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::ops::Session;
use crate::ops::new::{Source, Wanted, check_empty, end_line, make};
use folder::{Fault, Folder, Plan, Program, words};
use planexe_base::clock;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::record::{Digest, Imported, SCHEMA};
use planexe_base::style::{clean, shell_path};
use planexe_engine::graph::{Graph, Kind as NodeKind, TaskId, Why};
use planexe_llm::{Reply, Usage};
use planexe_pipeline::check;
use planexe_pipeline::open::{self, Opened};
use planexe_pipeline::project::Recipe;
use planexe_store::KeptRequest;
use planexe_store::calls::{AnswerState, CallRecord, Calls};
use records::Records;

/// Files that are the plan in other words: what rests on them rests on the plan.
const PLAN_TEXTS: [&str; 1] = ["plan_in_brief.md"];
/// Endings of results.
const ENDINGS: [&str; 5] = [".json", ".md", ".txt", ".csv", ".html"];

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
#[derive(Debug, Serialize)]
pub struct Taken {
    /// The task.
    pub task: String,
    /// Where it came from.
    #[serde(flatten)]
    pub imported: Imported,
}

/// A file that was not taken, as data.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
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
    /// Results that were not.
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
    let mut importer = Importer { folder, program, records, plan: &plan, opened: &opened };
    let (taken, left_out, other_files) = importer.sort()?;
    keep(&opened, &Digest::of(written.as_bytes()), &taken)?;
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
        left_out,
        other_files,
        notes,
        tasks_that_ask,
        next: vec![format!("planexe -C {shown} doctor"), format!("planexe -C {shown} build")],
    })
}

/// An answer that is taken, with its text and how it was asked there.
struct Answer {
    taken: Taken,
    text: String,
    asked: String,
    system: String,
}

/// Keeps the answers where a build finds them.
fn keep(opened: &Opened, plan: &Digest, taken: &[Answer]) -> Result<(), Error> {
    let store = &opened.store;
    if taken.is_empty() {
        return Ok(());
    }
    let planexe = store.planexe_dir();
    fs::make_dirs(&planexe, Durability::Synced)?;
    // Prompts and answers are private. Where permissions cannot be changed there are none.
    let _ = fs::make_private(&planexe);
    for answer in taken {
        let Taken { task, imported } = &answer.taken;
        let now = clock::now_utc();
        let reply = Reply {
            text: answer.text.clone(),
            reasoning: String::new(),
            usage: Usage::default(),
            model: imported.model.clone(),
            finish: None,
            id: None,
            sample: false,
            first_token_s: None,
            duration_s: 0.0,
        };
        store.calls().keep(&CallRecord {
            schema: SCHEMA,
            task: task.clone(),
            digest: Calls::imported_digest(task, plan),
            endpoint: String::new(),
            model: imported.model.clone().unwrap_or_else(|| imported.from.clone()),
            api: "imported".to_owned(),
            request: KeptRequest {
                system: answer.system.clone(),
                prompt: answer.asked.clone(),
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
        })?;
    }
    Ok(())
}

/// Decides on each file of the folder.
struct Importer<'a> {
    folder: &'a Folder,
    program: Program,
    records: Option<Result<Records, String>>,
    plan: &'a Plan,
    opened: &'a Opened,
}

impl Importer<'_> {
    /// What is taken, what is not, and how many files are no result of a task.
    fn sort(&mut self) -> Result<(Vec<Answer>, Vec<LeftOut>, usize), Error> {
        let (mut taken, mut left_out, mut other_files): (Vec<Answer>, Vec<LeftOut>, usize) =
            Default::default();
        let mut tasks: HashSet<TaskId> = HashSet::new();
        for file in self.folder.names()? {
            let Some((id, output)) = self.result_of(&file) else {
                other_files += 1;
                continue;
            };
            let task = self.opened.project.graph[id].name.clone();
            match self.answer(&file, id, &output) {
                Ok(answer) if tasks.insert(id) => taken.push(answer),
                Ok(_) => left_out.push(LeftOut {
                    file,
                    task,
                    code: "twice",
                    why: "is there under another name too".to_owned(),
                }),
                Err((code, why)) => left_out.push(LeftOut { file, task, code, why }),
            }
        }
        Ok((taken, left_out, other_files))
    }

    /// The task that makes a file of this name, or one it had in former versions, and the name it has here.
    fn result_of(&self, file: &str) -> Option<(TaskId, String)> {
        let project = &self.opened.project;
        if !ENDINGS.iter().any(|ending| file.ends_with(ending)) {
            return None;
        }
        let output = project.tables.aliases.get(file).cloned().unwrap_or_else(|| file.to_owned());
        let found = open::find(project, file).ok().map(|named| named.task);
        let id = found.or_else(|| open::find_numbered(project, file).map(|(id, _)| id))?;
        Some((id, output))
    }

    /// The answer in a file, for the task; a fault if it is not taken.
    fn answer(&mut self, file: &str, id: TaskId, output: &str) -> Result<Answer, Fault> {
        let (project, graph) = (&self.opened.project, &self.opened.project.graph);
        let (task, spec) = (&graph[id], project.spec(&graph[id]));
        self.folder.look(file)?;
        let Recipe::Prompt(prompt) = &spec.recipe else {
            return Err(("rendered", "is made here from other answers".to_owned()));
        };
        if !matches!(task.kind, NodeKind::Single) {
            return Err(("items", "is asked here item by item".to_owned()));
        }
        if task.outputs.first().map(String::as_str) != Some(output) {
            return Err(("rendered", "is made here from the answer".to_owned()));
        }
        if spec.eval.is_some() || spec.isolate.is_some() {
            return Err(("evaluated", "has to be evaluated or merged here".to_owned()));
        }
        if let Some(other) =
            rests_on(graph, id, &|id| matches!(project.spec(&graph[id]).recipe, Recipe::Prompt(_)))
        {
            return Err((
                "rests_on",
                format!("rests on `{}`, which is asked anew", clean(&graph[other].name)),
            ));
        }
        let edited = match &mut self.records {
            Some(Ok(records)) => records.is_edited(self.folder, file)?,
            Some(Err(_)) => return Err(("no_record", "cannot be verified".to_owned())),
            None => false,
        };
        let (raw, sha256) = (self.folder.object(file)?, self.folder.sha256(file)?);
        let said = |key: &str| raw.get(key).and_then(Value::as_str);
        match said("user_prompt") {
            Some(asked) if words(asked).contains(&words(&self.plan.text)) => {}
            Some(_) => return Err(("other_plan", "was asked of another text of the plan".to_owned())),
            None if self.program == Program::PlanExe2 => {}
            None => return Err(("other_plan", "does not say of which plan it was asked".to_owned())),
        }
        let holds = |answer: &Value| {
            let text = serde_json::to_string(answer).unwrap_or_default();
            check::validate(&text, prompt.schema.as_deref(), spec.recipe.form().1).map(|valid| valid.text)
        };
        let plain = convert::plain(&raw);
        let (text, converted) = match (holds(&Value::Object(plain.clone())), convert::convert(output, &plain))
        {
            (Ok(text), _) => (text, false),
            (Err(_), Some(Err(why))) => return Err(("form", why)),
            (Err(_), Some(Ok(answer))) => (holds(&answer).map_err(|why| unfit(&why))?, true),
            (Err(why), None) => return Err(unfit(&why)),
        };
        let model =
            raw.get("metadata").and_then(|metadata| metadata.get("model_name")).and_then(Value::as_str);
        let imported = Imported {
            from: self.program.name().to_owned(),
            file: file.to_owned(),
            sha256,
            model: model.map(|model| clean(model).chars().take(120).collect()),
            converted,
            edited,
            by_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Answer {
            taken: Taken { task: task.name.clone(), imported },
            text,
            asked: said("user_prompt").unwrap_or_default().to_owned(),
            system: said("system_prompt").unwrap_or_default().to_owned(),
        })
    }
}

/// An answer of another form.
fn unfit(why: &[check::Violation]) -> Fault {
    let first = why.iter().find(|it| it.kind == check::ViolationKind::Missing).or(why.first());
    let told = |it: &check::Violation| match it.kind {
        check::ViolationKind::Missing => it.message.clone(),
        _ => it.to_string(),
    };
    let first = first.map_or(String::new(), |it| format!(": {}", clean(&told(it))));
    ("form", format!("has another form{first}"))
}

/// A task that asks a model, on whose answer another rests by what it reads; the plan in other words does not count.
fn rests_on(graph: &Graph, id: TaskId, asks: &dyn Fn(TaskId) -> bool) -> Option<TaskId> {
    let mut seen: HashSet<TaskId> = HashSet::from([id]);
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        for need in graph[id].needs.iter().filter(|need| need.why != Why::After) {
            let outputs = &graph[need.task].outputs;
            if outputs.iter().any(|output| PLAN_TEXTS.contains(&output.as_str())) || !seen.insert(need.task) {
                continue;
            }
            if asks(need.task) {
                return Some(need.task);
            }
            open.push(need.task);
        }
    }
    None
}
