//! What a folder of PlanExe's holds, sorted: which answers fit which task, and what is left out.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::convert::{self, Old};
use super::folder::{Fault, Folder, Plan, Program, words};
use super::records::Records;
use super::{Answers, DOCUMENTS, ENDINGS, LeftOut, OF_THE_PLAN, TO_READ, Taken, WHOLE_PLAN};
use planexe_base::exit::Error;
use planexe_base::record::Imported;
use planexe_base::style::clean;
use planexe_engine::graph::{Graph, Kind as NodeKind, TaskId, Why};
use planexe_pipeline::check::{self, CompiledCheck};
use planexe_pipeline::open::{self, Opened};
use planexe_pipeline::project::Recipe;

/// What becomes of the files of a folder.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) taken: Vec<Answers>,
    pub(super) reference: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
    /// Files that are no result of a task.
    pub(super) other_files: usize,
}

/// Decides on each file of the folder.
pub(super) struct Importer<'a> {
    pub(super) folder: &'a Folder,
    pub(super) program: Program,
    pub(super) records: Option<Result<Records, String>>,
    pub(super) plan: &'a Plan,
    pub(super) opened: &'a Opened,
    /// Whether each answer that tells its plan was given to this one, and one does.
    pub(super) one_plan: OnceCell<bool>,
}

impl Importer<'_> {
    /// What becomes of each file.
    pub(super) fn sort(&mut self) -> Result<Sorted, Error> {
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
