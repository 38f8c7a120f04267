//! Builds over the disk: what tasks write and in which order, what is judged, and crashes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::Careless;
use super::disk::{Disk, Step, folder};
use super::random::Rng;
use planexe_base::limits::Limits;
use planexe_base::record::{By, Digest, Done, LastAttempt, Marker, OutputRecord, SCHEMA, State, Status};
use planexe_engine::fingerprint::Fingerprint;
use planexe_engine::graph::{Decl, Graph, Item, Kind, TaskId, Why};
use planexe_engine::scheduler::{Action, AttemptEnd, Engine, Event, Judged, Mode, Options, TaskInfo, Work};
use planexe_engine::slots::Slots;
use planexe_engine::staleness::{self, Content, Decision, Facts, Rules, Seen};
use planexe_store::StatusRead;
use planexe_store::sidecar::{parse_done, parse_status};

/// Puts a file into the world: its path, its bytes, whether it is synced.
type PutFn<'a> = dyn FnMut(&mut World, String, Vec<u8>, bool) + 'a;

pub(super) struct Worker {
    pub(super) steps: VecDeque<Step>,
    pub(super) question: Option<String>,
    pub(super) asked: bool,
    pub(super) kept: bool,
}

pub(super) struct World {
    pub(super) decls: Vec<Decl>,
    /// The content of the one source file.
    pub(super) plan: String,
    pub(super) careless: Careless,
    pub(super) capacity: [u32; 2],
    pub(super) disk: Disk,
    pub(super) boot: u32,
    pub(super) temps: usize,
    /// Calls by what was asked, and how many there may be.
    pub(super) asked: HashMap<String, u32>,
    pub(super) allowed: HashMap<String, u32>,
}

fn json(record: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("JSON")
}

/// Says that there are files that were not synced.
const WORD: &str = "planexe/unsynced.json";

/// Two in three tasks are paid for.
fn is_paid(name: &str) -> bool {
    !name.trim_start_matches('t').bytes().next().unwrap_or(0).is_multiple_of(3)
}

impl World {
    pub(super) fn graph(&self) -> Graph {
        Graph::build(self.decls.clone()).expect("acyclic by construction")
    }

    /// What a task reads: its name, the plan, and what it needs.
    pub(super) fn inputs(
        &self,
        graph: &Graph,
        id: TaskId,
        contents: &dyn Fn(&str) -> Vec<u8>,
    ) -> Vec<(String, Vec<u8>)> {
        let mut inputs = vec![("plan".to_owned(), self.plan.clone().into_bytes())];
        for need in &graph[id].needs {
            if matches!(need.why, Why::After | Why::Expanded) {
                continue;
            }
            let members = graph.instances(need.task);
            let all: Vec<TaskId> = if members.is_empty() { vec![need.task] } else { members.to_vec() };
            for task in all {
                if graph[task].kind != Kind::Family {
                    for output in &graph[task].outputs {
                        inputs.push((output.clone(), contents(output)));
                    }
                }
            }
        }
        inputs.sort();
        inputs.dedup();
        inputs
    }

    pub(super) fn fingerprint(&self, graph: &Graph, id: TaskId) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        let read = |path: &str| self.disk.read(path).unwrap_or(b"missing").to_vec();
        fingerprint.add("prompt", graph[id].name.as_bytes());
        for (name, bytes) in self.inputs(graph, id, &read) {
            fingerprint.add(format!("input.{name}"), &bytes);
        }
        fingerprint
    }

    /// What a task's outputs hold: it follows from the fingerprint alone.
    pub(super) fn output(fingerprint: &Fingerprint) -> Vec<u8> {
        format!("made from {}\n", fingerprint.digest().short()).into_bytes()
    }

    pub(super) fn marker(&self, first: &str) -> Marker {
        self.disk.read(&format!("{first}.DONE")).map_or(Marker::Missing, parse_done)
    }

    pub(super) fn status(&self, first: &str) -> StatusRead {
        self.disk.read(&format!("{first}.status")).map_or(StatusRead::Missing, parse_status)
    }

    pub(super) fn judge(&self, graph: &Graph, id: TaskId) -> (Decision, Fingerprint) {
        let task = &graph[id];
        let in_doubt = !is_paid(&task.name) && self.in_doubt();
        let marker = match self.marker(&task.outputs[0]) {
            Marker::Empty if in_doubt => Marker::Damaged("lost".into()),
            marker => marker,
        };
        let recorded = |path: &str, digest: &Digest| match &marker {
            Marker::Valid(done) => done.outputs.iter().any(|o| o.path == path && o.blake3 == *digest),
            _ => false,
        };
        let status = match self.status(&task.outputs[0]) {
            StatusRead::Valid(status) => Some((status.state, None)),
            _ => None,
        };
        let seen: Vec<Seen> = task
            .outputs
            .iter()
            .map(|path| {
                let content = match self.disk.read(path) {
                    None => Content::Missing,
                    Some(b"") => Content::Empty,
                    Some(bytes) => {
                        let digest = Digest::of(bytes);
                        let lost = in_doubt && !recorded(path, &digest);
                        Content::File { digest, invalid: lost.then(|| "lost".to_owned()) }
                    }
                };
                Seen { path: path.clone(), content }
            })
            .collect();
        let fingerprint = self.fingerprint(graph, id);
        let facts = Facts {
            marker: &marker,
            status,
            outputs: &seen,
            fingerprint: Some(&fingerprint),
            models: &[],
            rules: Rules::default(),
            newer: None,
        };
        (staleness::judge(&facts), fingerprint)
    }

    /// Boots in which files were written that were not synced, as the word on disk has it.
    pub(super) fn doubts(&self) -> Vec<u32> {
        let word = self.disk.read(WORD).and_then(|bytes| serde_json::from_slice(bytes).ok());
        word.unwrap_or_default()
    }

    pub(super) fn in_doubt(&self) -> bool {
        !self.careless.no_doubts && self.doubts().iter().any(|&boot| boot != self.boot)
    }

    pub(super) fn temp(&mut self, path: &str) -> String {
        self.temps += 1;
        format!("{path}.tmp-{}", self.temps)
    }

    /// The steps of an attempt, as `runner` and `store` take them.
    pub(super) fn work(&mut self, graph: &Graph, id: TaskId) -> Worker {
        let task = &graph[id];
        let (decision, fingerprint) = self.judge(graph, id);
        let redraw = matches!(decision, Decision::Stale { redraw: true, .. });
        let (name, first) = (task.name.clone(), task.outputs[0].clone());
        let paid = is_paid(&name);
        let careless = self.careless;
        let mut steps = VecDeque::new();
        let mut steps_first = VecDeque::new();
        let mut write = |world: &mut World, path: &str, bytes: Vec<u8>, synced: bool, named: bool| {
            let temp = world.temp(path);
            steps.push_back(Step::Put(temp.clone(), bytes));
            if synced {
                steps.push_back(Step::Sync(temp.clone()));
            }
            steps.push_back(Step::Move(temp, path.to_owned()));
            if named {
                steps.push_back(Step::SyncFolder(folder(path).to_owned()));
            }
        };
        let status = |state| {
            json(&Status {
                last: LastAttempt { attempt: 1, ..LastAttempt::default() },
                ..Status::new(name.as_str(), state)
            })
        };
        let synced = paid && !careless.status_unsynced;
        if paid {
            steps_first.push_back(Step::SyncAll);
        } else {
            let mut doubts = self.doubts();
            if !doubts.contains(&self.boot) {
                doubts.push(self.boot);
                let temp = self.temp(WORD);
                steps_first.extend([
                    Step::Put(temp.clone(), json(&doubts)),
                    Step::Sync(temp.clone()),
                    Step::Move(temp, WORD.to_owned()),
                    Step::SyncFolder(folder(WORD).to_owned()),
                ]);
            }
        }
        write(self, &format!("{first}.status"), status(State::Running), synced, synced);
        let content = World::output(&fingerprint);
        let mut question = None;
        if paid {
            let asked = format!("calls/{name}/{}.json", fingerprint.digest().short());
            let kept =
                self.disk.read(&asked).and_then(|b| serde_json::from_slice::<serde_json::Value>(b).ok());
            if kept.is_none() || redraw {
                // The call itself, then its answer.
                let answer = json(&String::from_utf8_lossy(&content));
                write(self, &asked, answer, false, false);
                if !careless.answer_unsynced {
                    // Half of it is no JSON: it may get its name before its content is sure.
                    steps.push_back(Step::Sync(asked.clone()));
                    steps.push_back(Step::SyncFolder(folder(&asked).to_owned()));
                }
                // The call comes between the steps of the status and those of the answer.
                steps.insert(if synced { 4 } else { 2 }, Step::Ask);
                steps.push_back(Step::Kept);
                question = Some(asked);
            }
        }
        let mut records = Vec::new();
        let mut renames = Vec::new();
        for output in &task.outputs {
            let temp = self.temp(output);
            steps.push_back(Step::Put(temp.clone(), content.clone()));
            if paid && !careless.outputs_unsynced {
                steps.push_back(Step::Sync(temp.clone()));
            }
            renames.push((temp, output.clone()));
            records.push(OutputRecord {
                path: output.clone(),
                bytes: content.len() as u64,
                blake3: Digest::of(&content),
            });
        }
        let done = Done {
            schema: SCHEMA,
            task: name.clone(),
            fingerprint: fingerprint.digest(),
            parts: fingerprint.parts().clone(),
            inputs: Vec::new(),
            outputs: records,
            completed_utc: "2026-03-01T22:15:04.123Z".into(),
            by: By::Build,
            by_user: None,
            checkpoint_id: None,
            made_with: None,
            call: None,
            sample: false,
            imported: None,
            kept: None,
            eval: None,
            other: Default::default(),
        };
        if paid && !careless.status_unsynced && self.disk.read(&format!("{first}.DONE")).is_some() {
            steps.push_back(Step::Sync(format!("{first}.status")));
            steps.push_back(Step::SyncFolder(folder(&first).to_owned()));
        }
        steps.push_back(Step::Remove(format!("{first}.DONE")));
        if paid {
            steps.push_back(Step::SyncFolder(folder(&first).to_owned()));
        }
        let mut outputs: Vec<Step> = Vec::new();
        for (temp, output) in renames {
            outputs.push(Step::Move(temp, output.clone()));
            if paid && !careless.outputs_unsynced {
                outputs.push(Step::SyncFolder(folder(&output).to_owned()));
            }
        }
        outputs.push(Step::Append("checkpoints.jsonl".into(), b"{}\n".to_vec()));
        if paid {
            outputs.push(Step::Sync("checkpoints.jsonl".into()));
        }
        let mut tail: VecDeque<Step> = VecDeque::new();
        let mut put = |world: &mut World, path: String, bytes: Vec<u8>, synced: bool| {
            let temp = world.temp(&path);
            tail.push_back(Step::Put(temp.clone(), bytes));
            if synced {
                tail.push_back(Step::Sync(temp.clone()));
            }
            tail.push_back(Step::Move(temp, path.clone()));
            if paid {
                tail.push_back(Step::SyncFolder(folder(&path).to_owned()));
            }
        };
        let last = |world: &mut World, put: &mut PutFn<'_>| {
            put(world, format!("{first}.status"), status(State::Done), paid);
        };
        if careless.status_before_marker {
            last(self, &mut put);
        }
        put(self, format!("{first}.DONE"), json(&done), paid);
        if !careless.status_before_marker {
            last(self, &mut put);
        }
        if careless.marker_before_outputs {
            steps.extend(tail);
            steps.extend(outputs);
        } else {
            steps.extend(outputs);
            steps.extend(tail);
        }
        steps_first.extend(steps);
        let steps = steps_first;
        Worker { steps, question, asked: false, kept: false }
    }

    /// A build, until its end or until so many steps were taken. Returns the number of steps, and of
    /// tasks that ran if it came to its end.
    pub(super) fn build(
        &mut self,
        rng: &mut Rng,
        crash_at: Option<usize>,
    ) -> Result<(usize, Option<usize>), String> {
        self.disk.sweep();
        let graph = self.graph();
        let infos: Vec<TaskInfo> = graph.ids().map(|_| TaskInfo::default()).collect();
        let limits: Vec<Limits> = self
            .capacity
            .iter()
            .map(|&max_concurrent| Limits { max_concurrent, rpm: None, tpm: None, local: false })
            .collect();
        let slots = Slots::new(&limits, &[], 2, 8);
        let targets: Vec<_> = graph.ids().map(|id| (id, None)).collect();
        let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos, slots);
        engine.want(&targets);
        let mut workers: BTreeMap<TaskId, Worker> = BTreeMap::new();
        let now = Duration::ZERO;
        let (mut steps, mut ran, mut idle) = (0, 0, 0);
        while !engine.is_finished() {
            let actions = engine.poll(now);
            idle = if actions.is_empty() && workers.is_empty() { idle + 1 } else { 0 };
            if idle > 3 {
                return Err("the build does not end".into());
            }
            for action in actions {
                match action {
                    Action::Judge { task, .. } => {
                        let judged = self.verdict(engine.graph(), task)?;
                        engine.on(Event::Judged(task, judged), now);
                    }
                    Action::Expand(family) => {
                        let items = self.items(engine.graph(), family);
                        engine.on(Event::Expanded(family, Some(items)), now);
                    }
                    Action::Start { task, .. } => {
                        let worker = self.work(engine.graph(), task);
                        workers.insert(task, worker);
                    }
                    Action::Settled(_) | Action::Mixed { .. } | Action::CancelAll => {}
                }
            }
            let Some(&id) = workers.keys().nth(rng.below(workers.len() as u64) as usize) else { continue };
            if crash_at == Some(steps) {
                self.crash(rng, workers);
                return Ok((steps, None));
            }
            steps += 1;
            let worker = workers.get_mut(&id).expect("a worker");
            if let Some(step) = worker.steps.pop_front() {
                self.disk.carry_out(&step);
                match step {
                    Step::Ask => {
                        worker.asked = true;
                        let question = worker.question.clone().expect("a question");
                        *self.asked.entry(question).or_default() += 1;
                    }
                    Step::Kept => worker.kept = true,
                    _ => {}
                }
            }
            if worker.steps.is_empty() {
                workers.remove(&id);
                ran += 1;
                engine.on(Event::Ended(id, AttemptEnd::Done), now);
            }
        }
        if self.disk.read(WORD).is_some() {
            self.disk.carry_out(&Step::SyncAll);
            self.disk.carry_out(&Step::Remove(WORD.to_owned()));
        }
        Ok((steps, Some(ran)))
    }

    pub(super) fn verdict(&self, graph: &Graph, task: TaskId) -> Result<Judged, String> {
        if graph[task].outputs.is_empty() {
            return Ok(Judged::Fresh);
        }
        let (decision, fingerprint) = self.judge(graph, task);
        match decision {
            Decision::Fresh { edited, .. } => {
                if !edited.is_empty() {
                    return Err(format!("{edited:?}: what was lost is taken for an edit"));
                }
                for output in &graph[task].outputs {
                    if self.disk.read(output) != Some(&World::output(&fingerprint)) {
                        return Err(format!("{output} is believed and wrong"));
                    }
                }
                Ok(Judged::Fresh)
            }
            // Of what costs nothing the marker's name is not synced, and may be lost alone.
            Decision::Stale { redraw: true, reasons, .. } if is_paid(&graph[task].name) => {
                Err(format!("a draw for nothing: {reasons:?}"))
            }
            Decision::Stale { .. } if is_paid(&graph[task].name) => {
                Ok(Judged::Stale(Work { endpoints: vec![0, 1], ..Work::default() }))
            }
            Decision::Stale { .. } => Ok(Judged::Stale(Work { cpu: true, ..Work::default() })),
            other => Err(format!("nobody asked for {other:?}")),
        }
    }

    /// A family's items follow from the list it runs over.
    pub(super) fn items(&self, graph: &Graph, family: TaskId) -> Vec<Item> {
        let decl = &self.decls[graph[family].decl];
        let source = decl.foreach.as_ref().map_or("", |foreach| foreach.source.as_str());
        let count = Digest::of(source.as_bytes()).0.bytes().next().unwrap_or(0) % 5;
        (0..usize::from(count))
            .map(|index| Item { key: format!("k{index}"), index, value: serde_json::Value::Null })
            .collect()
    }

    pub(super) fn crash(&mut self, rng: &mut Rng, workers: BTreeMap<TaskId, Worker>) {
        for worker in workers.into_values() {
            if let (Some(question), true, false) = (&worker.question, worker.asked, worker.kept) {
                *self.allowed.entry(question.clone()).or_insert(1) += 1;
            }
            if let Some(step) = worker.steps.front()
                && rng.chance(50)
            {
                self.disk.tear(step);
            }
        }
        if rng.chance(60) {
            self.disk.cut(rng);
            self.boot += 1;
        }
    }

    /// Everything but sidecars, answers, logs and temporary files.
    pub(super) fn outputs(&self) -> BTreeMap<String, Vec<u8>> {
        let ours = |path: &str| {
            path.ends_with(".DONE")
                || path.ends_with(".status")
                || path.starts_with("calls/")
                || path.ends_with(".jsonl")
                || path == WORD
                || path.contains(".tmp-")
        };
        let names = self.disk.live.keys().filter(|path| !ours(path));
        names.map(|path| (path.clone(), self.disk.read(path).unwrap_or_default().to_vec())).collect()
    }
}
