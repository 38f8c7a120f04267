//! Makes a run from the folder of another program: its plan, and the answers that hold here too.
//!
//! An answer is kept like one that arrived from a model (`.planexe/calls/`), with where it came from. The next build finds
//! it, checks it once more, and asks nobody. It belongs to the plan: if the plan is edited first, it is not used.

mod convert;
mod folder;
mod records;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::ops::Session;
use crate::ops::new::{Source, Wanted, check_empty, end_line, make};
use convert::Old;
use folder::{Fault, Folder, Plan, Program, words};
use planexe_base::clock;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::record::{Digest, Imported, SCHEMA};
use planexe_base::style::{clean, shell_path};
use planexe_engine::graph::{Graph, Kind as NodeKind, TaskId, Why};
use planexe_llm::{Reply, Usage};
use planexe_pipeline::check::{self, CompiledCheck};
use planexe_pipeline::open::{self, Opened};
use planexe_pipeline::project::Recipe;
use planexe_store::KeptRequest;
use planexe_store::calls::{AnswerState, CallRecord, Calls};
use records::Records;

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
#[derive(Debug, Serialize)]
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

/// What becomes of the files of a folder.
#[derive(Default)]
struct Sorted {
    taken: Vec<Answers>,
    reference: Vec<String>,
    left_out: Vec<LeftOut>,
    /// Files that are no result of a task.
    other_files: usize,
}

/// Decides on each file of the folder.
struct Importer<'a> {
    folder: &'a Folder,
    program: Program,
    records: Option<Result<Records, String>>,
    plan: &'a Plan,
    opened: &'a Opened,
    /// Whether each answer that tells its plan was given to this one, and one does.
    one_plan: OnceCell<bool>,
}

impl Importer<'_> {
    /// What becomes of each file.
    fn sort(&mut self) -> Result<Sorted, Error> {
        let mut sorted = Sorted::default();
        let mut results: Vec<(String, TaskId, String)> = Vec::new();
        // Conversions look at files by the names they have here; what no task makes here has its own.
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for file in self.folder.names()? {
            let found = self.result_of(&file);
            let name = found.as_ref().map_or(&file, |(_, output)| output);
            names.entry(name.clone()).or_insert_with(|| file.clone());
            match found {
                Some((id, output)) => results.push((file, id, output)),
                None if TO_READ.contains(&file.as_str()) && self.folder.read(&file).is_ok() => {
                    sorted.reference.push(file);
                }
                None => sorted.other_files += 1,
            }
        }
        // What names the ids of another answer comes after it.
        results.sort_by_key(|(_, _, output)| convert::conversion(output).map_or(usize::MAX, |(at, _)| at));
        let mut tasks: HashSet<String> = HashSet::new();
        for (file, id, output) in results {
            let found = match names.get(&output) == Some(&file) {
                true => self.answers(&file, id, &output, &names, &tasks),
                false => Err(("twice", "is there under another name too".to_owned())),
            };
            let found = match found {
                Ok(answers) if !tasks.insert(answers.taken.task.clone()) => {
                    Err(("twice", format!("`{}` is answered by another file", answers.taken.task)))
                }
                other => other,
            };
            match found {
                Ok(answers) => sorted.taken.push(answers),
                Err(_) if self.is_to_read(&file) => sorted.reference.push(file),
                Err((code, why)) => {
                    let task = self.opened.project.graph[id].name.clone();
                    sorted.left_out.push(LeftOut { file, task, code, why });
                }
            }
        }
        sorted.taken.sort_by(|one, other| one.taken.imported.file.cmp(&other.taken.imported.file));
        sorted.left_out.sort_by(|one, other| one.file.cmp(&other.file));
        sorted.reference.sort();
        Ok(sorted)
    }

    /// Whether a file is kept for people: a document with a plain name that can be read.
    fn is_to_read(&self, file: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let document = DOCUMENTS.iter().any(|ending| file.ends_with(ending)) || TO_READ.contains(&file);
        document && file.chars().all(plain) && self.folder.read(file).is_ok()
    }

    /// The task that makes a file of this name, or one it had in former versions, and the name it has here.
    fn result_of(&self, file: &str) -> Option<(TaskId, String)> {
        let project = &self.opened.project;
        if !ENDINGS.iter().any(|ending| file.ends_with(ending)) {
            return None;
        }
        let output = project.tables.aliases.get(file).cloned().unwrap_or_else(|| file.to_owned());
        let found = open::find(project, file).ok().map(|named| named.task);
        let converted =
            || open::find(project, convert::conversion(&output)?.1.task).ok().map(|named| named.task);
        let id = found.or_else(|| open::find_numbered(project, file).map(|(id, _)| id)).or_else(converted)?;
        Some((id, output))
    }

    /// The answers in a file; a fault if none is taken.
    fn answers(
        &mut self,
        file: &str,
        id: TaskId,
        output: &str,
        names: &BTreeMap<String, String>,
        taken: &HashSet<String>,
    ) -> Result<Answers, Fault> {
        let (project, graph) = (&self.opened.project, &self.opened.project.graph);
        self.folder.look(file)?;
        let conversion = convert::conversion(output).map(|(_, of)| of);
        let find = |task: &str| open::find(project, task).ok().map(|named| named.task);
        let answered = conversion.and_then(|of| find(of.task));
        let id = answered.unwrap_or(id);
        let (task, spec) = (&graph[id], project.spec(&graph[id]));
        let Recipe::Prompt(prompt) = &spec.recipe else {
            return Err(("rendered", "is made here from other answers".to_owned()));
        };
        if spec.eval.is_some() || spec.isolate.is_some() {
            return Err(("evaluated", "has to be evaluated or merged here".to_owned()));
        }
        if answered.is_none() && !matches!(task.kind, NodeKind::Single) {
            return Err(("items", "is asked here item by item".to_owned()));
        }
        if answered.is_none() && task.outputs.first().map(String::as_str) != Some(output) {
            return Err(("rendered", "is made here from the answer".to_owned()));
        }
        if reads(graph, id, &WHOLE_PLAN) {
            let why = "sums up or judges the plan as a whole, which is another one here".to_owned();
            return Err(("whole", why));
        }
        if let Some(Err(_)) = &self.records {
            return Err(("no_record", "cannot be verified".to_owned()));
        }
        if let Some(other) = conversion.and_then(|of| of.names)
            && find(other).is_some()
            && !taken.contains(other)
        {
            return Err(("rests_on", format!("names what is in `{other}`, which is asked anew")));
        }
        let raw = self.folder.json(file)?;
        let holds = |answer: &Value| {
            let text = serde_json::to_string(answer).unwrap_or_default();
            let check = spec.recipe.form().1.map(CompiledCheck::without_wording);
            check::validate(&text, prompt.schema.as_deref(), check.as_ref()).map(|valid| valid.text)
        };
        let single = matches!(task.kind, NodeKind::Single);
        let as_it_is = raw.as_object().filter(|_| single).map(|own| Value::Object(convert::plain(own)));
        let (texts, used, converted) = match (as_it_is.as_ref().map(holds), conversion) {
            (Some(Ok(text)), _) => (vec![(task.name.clone(), text)], BTreeMap::new(), false),
            (Some(Err(why)), None) => return Err(unfit(&why)),
            (None, None) => return Err(("form", "is no JSON object".to_owned())),
            (_, Some(of)) => {
                let source = Old::new(self.folder, names, &self.plan.text);
                let made =
                    (of.convert)(&source).map_err(|why| ("form", clean(&why).chars().take(240).collect()))?;
                let (mut texts, mut fault) = (Vec::new(), ("form", "has no answer in it".to_owned()));
                for answer in made {
                    match (holds(&answer.value), answer.key) {
                        (Ok(text), Some(key)) => texts.push((format!("{}[{key}]", task.name), text)),
                        (Ok(text), None) => texts.push((task.name.clone(), text)),
                        (Err(why), _) => fault = unfit(&why),
                    }
                }
                if texts.is_empty() {
                    return Err(fault);
                }
                (texts, source.used(), true)
            }
        };
        let mut edited = self.vouch(file, output, &raw)?;
        for (name, raw) in used.iter().filter(|(name, _)| *name != file) {
            edited |= self
                .vouch(name, "", raw)
                .map_err(|(code, why)| (code, format!("rests on `{}`, which {why}", clean(name))))?;
        }
        let said = |key: &str| raw.get(key).and_then(Value::as_str);
        let model =
            raw.get("metadata").and_then(|metadata| metadata.get("model_name")).and_then(Value::as_str);
        let imported = Imported {
            from: self.program.name().to_owned(),
            file: file.to_owned(),
            sha256: self.folder.sha256(file)?,
            model: model.map(|model| clean(model).chars().take(120).collect()),
            converted,
            edited,
            by_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Answers {
            taken: Taken { task: task.name.clone(), answers: texts.len(), imported },
            texts,
            asked: said("user_prompt").or(said("query")).unwrap_or_default().to_owned(),
            system: said("system_prompt").unwrap_or_default().to_owned(),
        })
    }

    /// Whether a file that belongs to this plan was edited; a fault if nothing shows that it does.
    fn vouch(&mut self, file: &str, output: &str, raw: &Value) -> Result<bool, Fault> {
        match &mut self.records {
            Some(Ok(records)) => return records.is_edited(self.folder, file),
            Some(Err(_)) => return Err(("no_record", "cannot be verified".to_owned())),
            None => {}
        }
        match self.plan_of(output, raw) {
            Told::This => Ok(false),
            Told::Another => Err(("other_plan", "was asked of another text of the plan".to_owned())),
            Told::Nothing if !OF_THE_PLAN.contains(&output) && self.is_of_one_plan() => Ok(false),
            Told::Nothing => Err(("other_plan", "does not say of which plan it was asked".to_owned())),
        }
    }

    /// What an answer tells of the plan it was given to.
    fn plan_of(&self, output: &str, raw: &Value) -> Told {
        let asked = [raw.get("user_prompt"), raw.get("query"), raw.pointer("/metadata/query")];
        let asked: Vec<String> = asked.into_iter().flatten().filter_map(Value::as_str).map(words).collect();
        let alone = OF_THE_PLAN.contains(&output);
        if asked.iter().any(|asked| asked.contains(&words(&self.plan.text))) {
            return Told::This;
        }
        let shows = |asked: &String| {
            alone || ["'plan.txt'", "'initial-plan.txt'"].iter().any(|name| asked.contains(name))
        };
        match asked.iter().any(shows) {
            true => Told::Another,
            false => Told::Nothing,
        }
    }

    /// Whether all answers of the folder that tell their plan tell this one, and the first one, which tells nothing else,
    /// is there. PlanExe makes a folder for each plan; in one where the plan was changed afterwards, some tell the former.
    fn is_of_one_plan(&self) -> bool {
        let look = || {
            let (mut this, mut another) = (false, false);
            for file in self.folder.names().unwrap_or_default() {
                let Some((_, output)) = self.result_of(&file).filter(|_| file.ends_with(".json")) else {
                    continue;
                };
                let Ok(raw) = self.folder.json(&file) else { continue };
                match self.plan_of(&output, &raw) {
                    Told::This => this = true,
                    Told::Another => another = true,
                    Told::Nothing => {}
                }
            }
            this && !another
        };
        *self.one_plan.get_or_init(look)
    }
}

/// What an answer tells of the plan it was given to.
enum Told {
    This,
    Another,
    Nothing,
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

/// Whether a task is given one of these files.
fn reads(graph: &Graph, id: TaskId, files: &[&str]) -> bool {
    let needs = graph[id].needs.iter().filter(|need| need.why != Why::After);
    needs.flat_map(|need| &graph[need.task].outputs).any(|output| files.contains(&output.as_str()))
}
