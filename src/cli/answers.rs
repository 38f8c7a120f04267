//! The JSON Schema of what commands print with `--json`. Each comes from the type that is printed.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::commands::schema::Answers;
use crate::commands::{
    Answer, WrittenView, archive, clean, complexity, delete, diff, doctor, done, evidence, files, gc,
    history, interview, keys, list, new, optimize, record, retry, touch, ui,
};
use crate::ops;
use planexe_base::event::Event;
use planexe_plan_execution::gantt::Chart;
use planexe_prompt_lab::view::ExperimentsView;
use planexe_ui::views::edit_plan::EditPlanView;
use planexe_ui::views::timeline::Timeline;
use planexe_ui::views::{
    CheckView, CheckpointsView, ErrorView, ExplainView, FailuresView, FaultsView, GraphView, PlanView,
    ShowView, SimulateView, StatusView, SteerView, SummaryView, UsageView, WaitView,
};

/// What makes the schemas of an answer; an answer with several has one of these forms.
type Make = fn(&mut SchemaGenerator) -> Vec<Schema>;

/// The schemas of types.
macro_rules! of {
    ($($type:ty),+) => {
        |generator| vec![$(generator.subschema_for::<$type>()),+]
    };
}

/// Every answer: its name, what prints it, its types.
const ANSWERS: &[(&str, &str, Make)] = &[
    ("abort", "planexe abort --json", of!(SteerView)),
    ("archive", "planexe archive --json", of!(Answer<'static, archive::View>)),
    ("build", "planexe build --json, and planexe build -n --json", of!(SummaryView, PlanView)),
    ("check", "planexe check --json", of!(CheckView)),
    ("checkpoints", "planexe checkpoints --json", of!(CheckpointsView)),
    ("clean", "planexe clean --json", of!(Answer<'static, clean::View<'static>>)),
    ("complexity", "planexe complexity --json", of!(Answer<'static, complexity::View>)),
    ("delete", "planexe delete --json", of!(Answer<'static, delete::View>)),
    ("deliver", "planexe events --deliver --json", of!(Answer<'static, ops::deliver::Deliveries>)),
    ("diff", "planexe diff --json", of!(Answer<'static, diff::View>)),
    ("doctor", "planexe doctor --json", of!(Answer<'static, doctor::View>)),
    ("done", "planexe done --json", of!(Answer<'static, done::View<'static>>)),
    ("edit-plan", "planexe edit-plan --json", of!(Answer<'static, EditPlanView>)),
    ("error", "any command that could not do what it was asked, with --json", of!(ErrorView, FaultsView)),
    ("events", "a line of events.jsonl, of planexe events --json and of --progress json", of!(Event)),
    (
        "evidence",
        "planexe evidence --json",
        of!(Answer<'static, evidence::View>, Answer<'static, evidence::RemovedView<'static>>),
    ),
    ("execute", "planexe execute --json", of!(Answer<'static, ops::execute::ExecuteView>)),
    (
        "explain",
        "planexe explain TASK --json; a list of these for several tasks",
        of!(ExplainView, Vec<ExplainView>),
    ),
    ("failures", "planexe failures --json", of!(FailuresView)),
    (
        "files",
        "planexe files --json",
        of!(Answer<'static, files::ListView<'static>>, Answer<'static, ops::files::FileInfo>),
    ),
    (
        "gantt",
        "planexe gantt --json, and with --html",
        of!(Answer<'static, Chart>, Answer<'static, WrittenView>),
    ),
    ("gc", "planexe gc --json", of!(Answer<'static, gc::View>)),
    ("graph", "planexe graph --format json", of!(GraphView)),
    ("history", "planexe history --json", of!(Answer<'static, history::View>)),
    ("import", "planexe import planexe --json", of!(Answer<'static, ops::import::ImportView>)),
    ("interview", "planexe interview --json", of!(Answer<'static, interview::View<'static>>)),
    ("keys", "planexe keys --json", of!(Answer<'static, keys::View>)),
    ("list", "planexe list --json", of!(list::View<'static>)),
    ("new", "planexe new --json", of!(Answer<'static, new::View>)),
    ("optimize", "planexe optimize --json, and with --list", of!(optimize::Told<'static>, ExperimentsView)),
    ("pause", "planexe pause --json", of!(SteerView)),
    ("record", "planexe record --json", of!(Answer<'static, record::View<'static>>)),
    ("report", "planexe report --html FILE --json", of!(Answer<'static, WrittenView>)),
    ("restore", "planexe restore --json", of!(Answer<'static, ops::restore::RestoreView>)),
    ("resume", "planexe resume --json, and planexe resume --dry-run --json", of!(SummaryView, PlanView)),
    ("retry", "planexe retry --json", of!(Answer<'static, retry::View>)),
    ("show", "planexe show TASK --json", of!(ShowView)),
    ("simulate", "planexe simulate --json", of!(SimulateView)),
    ("status", "planexe status --json", of!(StatusView)),
    ("stop", "planexe stop --json", of!(SteerView)),
    ("timeline", "GET /api/timeline of planexe ui", of!(Timeline)),
    ("touch", "planexe touch --json", of!(Answer<'static, touch::View<'static>>)),
    ("trace", "planexe trace -o FILE --json", of!(Answer<'static, WrittenView>)),
    ("ui", "planexe ui --json", of!(Answer<'static, ui::View>)),
    ("usage", "planexe usage --json", of!(UsageView)),
    ("wait", "planexe wait --json", of!(WaitView)),
];

/// The schemas, for the command that prints them.
pub fn answers() -> Answers {
    Answers { names: ANSWERS.iter().map(|(name, ..)| *name).collect(), of, all }
}

fn generator() -> SchemaGenerator {
    // Of what is written, not of what is read: a field that is always written is required.
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// One of them, with the types it needs.
fn of(name: &str) -> Option<Schema> {
    let (_, prints, make) = ANSWERS.iter().find(|(known, ..)| *known == name)?;
    let mut generator = generator();
    let forms = make(&mut generator);
    let schema = match &forms[..] {
        [only] => only.clone(),
        several => json_schema!({ "anyOf": several }),
    };
    Some(document(name, prints, schema, generator))
}

/// All of them in one document, each under `$defs` by its name.
fn all() -> Schema {
    let mut generator = generator();
    let mut named = Vec::new();
    for (name, prints, make) in ANSWERS {
        let forms = make(&mut generator);
        named.push((*name, json!({ "description": prints, "anyOf": forms })));
    }
    let each: Vec<Value> =
        named.iter().map(|(name, _)| json!({ "$ref": format!("#/$defs/{name}") })).collect();
    let definitions = generator.definitions_mut();
    for (name, schema) in named {
        definitions.insert(name.to_owned(), schema);
    }
    document("answers", "what commands print with --json", json_schema!({ "anyOf": each }), generator)
}

fn document(name: &str, prints: &str, schema: Schema, mut generator: SchemaGenerator) -> Schema {
    let mut whole = json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("{name}.schema.json"),
        "title": format!("planexe {name}"),
        "description": format!("The JSON of: {prints}. Later versions may add fields."),
    });
    for (key, value) in schema.as_object().into_iter().flatten() {
        whole.insert(key.clone(), value.clone());
    }
    whole.insert("$defs".to_owned(), generator.take_definitions(true).into());
    whole
}
