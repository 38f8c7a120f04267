//! What a build would take: the engine of a build on a clock of its own, with the durations of earlier
//! builds. Pure: nothing is looked at but what is handed in.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use planexe_build::eta::Known;
use planexe_build::run_loop::take_place;
use planexe_engine::graph::{Graph, Item, TaskId};
use planexe_engine::scheduler::{Action, AttemptEnd, Engine, Event, Judged, ServiceIs, Work};
use planexe_llm::{Usage, cost};
use planexe_pipeline::manifest::types::Budget;
use planexe_pipeline::project::{Endpoint, Project, Recipe, Spec};
use planexe_store::index::Index;
use planexe_store::usage::{UsageLine, model_name};
use planexe_ui::views::simulate::{BudgetStop, Limit, Predicted, USUAL_TOKENS};

/// What a task takes to run, and for how long; none if it need not run.
type Runs<'a> = dyn FnMut(&Graph, TaskId) -> Option<(Work, Expected)> + 'a;

/// Whether a task may need a service, by its position.
type MayNeed<'a> = dyn Fn(&Graph, TaskId, usize) -> bool + 'a;

/// What one task is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Expected {
    /// From its start to its end, slots not waited for.
    pub seconds: f64,
    /// Calls, tokens and money.
    pub usage: Usage,
    /// Whether it is a guess: nothing like it has run yet.
    pub guessed: bool,
}

/// What is known of earlier builds.
#[derive(Debug)]
pub struct Past {
    seconds: Known<f64>,
    calls: Known<Call>,
}

/// A call that was answered: what it used, and the endpoint that was asked, if the pipeline still has it.
#[derive(Debug, Clone, Copy)]
struct Call {
    usage: Usage,
    endpoint: Option<usize>,
}

impl Past {
    /// From the durations of the index, those that `other` knows of tasks the index does not, and the
    /// log of calls.
    pub fn new(
        project: &Project,
        index: &Index,
        calls: &[UsageLine],
        other: impl Iterator<Item = (String, f64)>,
    ) -> Past {
        let seconds = other.chain(index.usual_durations::<Vec<_>>(|_| true));
        // The last whole answer of each task: what one that is asked again will use. Of one with an evaluator the last
        // two: what it said, and what was said of it.
        let twice = |spec: &&Spec| spec.prompts().count() > 1;
        let twice: HashSet<&str> =
            project.specs.iter().filter(twice).map(|spec| spec.name.as_str()).collect();
        let mut last: HashMap<String, [Option<Call>; 2]> = HashMap::new();
        for call in calls.iter().filter(|call| call.success) {
            let usage = Usage {
                input_tokens: call.input_tokens,
                cached_tokens: call.cached_tokens,
                cache_write_tokens: call.cache_write_tokens,
                output_tokens: call.output_tokens,
                thinking_tokens: call.thinking_tokens,
                cost_usd: call.cost_usd,
                calls: 1,
            };
            let endpoint = project.endpoints.iter().position(|endpoint| logged_as(endpoint) == call.model);
            let calls = last.entry(call.task.clone()).or_default();
            let family = call.task.split('[').next().unwrap_or_default();
            *calls = [Some(Call { usage, endpoint }), calls[0].filter(|_| twice.contains(family))];
        }
        let both = |calls: [Option<Call>; 2]| {
            let [last, before] = calls;
            let mut all = last?;
            if let Some(before) = before {
                all.usage.add(&before.usage);
                all.endpoint = before.endpoint;
            }
            Some(all)
        };
        let last = last.into_iter().filter_map(|(task, calls)| Some((task, both(calls)?)));
        let tokens = |call: &Call| (call.usage.input_tokens + call.usage.output_tokens) as f64;
        Past {
            seconds: Known::new(project, seconds, |&seconds| seconds),
            calls: Known::new(project, last, tokens),
        }
    }

    /// What a task is expected to take; `calls`: whether it asks a model.
    pub fn expected(&self, project: &Project, graph: &Graph, id: TaskId, calls: bool) -> Expected {
        let task = &graph[id];
        let spec = project.spec(task);
        let recipe = &spec.recipe;
        let known = self.seconds.get(project, task);
        let usage = if calls {
            let call = self.calls.get(project, task);
            let once = call.map_or_else(usual_call, |call| call.usage);
            let used = times(&once, spec.rounds().0);
            let models = spec.prompts().next().map_or(&[][..], |prompt| &prompt.models);
            let name = |at: usize| logged_as(&project.endpoints[at]);
            // By the price of the model that will be asked; what was paid may have been another's.
            let first = models.first().map(|&first| &project.endpoints[first].model);
            let cost_usd = match first.and_then(|model| Some((model, model.price?))) {
                Some((model, price)) => cost(&used, &price) * model.expected_share(),
                None => {
                    let asked = call.and_then(|call| call.endpoint).map(name);
                    let again = models.iter().any(|&at| Some(name(at)) == asked);
                    if again { used.cost_usd } else { 0.0 }
                }
            };
            Usage { calls: u64::from(spec.asks().0), cost_usd, ..used }
        } else {
            Usage::default()
        };
        let guessed = known.is_none() && matches!(recipe, Recipe::Prompt(_) | Recipe::Command(_));
        Expected { seconds: self.seconds.seconds(project, task), usage, guessed }
    }
}

/// What a call is taken to use where none was made yet.
fn usual_call() -> Usage {
    Usage { input_tokens: USUAL_TOKENS.0, output_tokens: USUAL_TOKENS.1, ..Usage::default() }
}

/// What so many rounds use, each as much as one.
fn times(once: &Usage, rounds: u32) -> Usage {
    let times = |tokens: u64| tokens.saturating_mul(rounds.into());
    Usage {
        input_tokens: times(once.input_tokens),
        output_tokens: times(once.output_tokens),
        cached_tokens: times(once.cached_tokens),
        cache_write_tokens: times(once.cache_write_tokens),
        thinking_tokens: times(once.thinking_tokens),
        calls: times(once.calls),
        cost_usd: once.cost_usd * f64::from(rounds),
    }
}

/// What the log of calls names an endpoint.
fn logged_as(endpoint: &Endpoint) -> String {
    model_name(endpoint.api(), endpoint.model_name())
}

/// Slots a task takes when it runs; a prompt that `asks` takes one of the model it asks first.
pub fn work(project: &Project, graph: &Graph, id: TaskId, asks: bool, tokens: u64) -> Work {
    let spec = project.spec(&graph[id]);
    let endpoints = match &spec.recipe {
        Recipe::Prompt(prompt) if asks => prompt.models.clone(),
        _ => Vec::new(),
    };
    let mut work = Work { endpoints, tokens, pool: spec.pool, lane: spec.lane(), ..Work::default() };
    if matches!(spec.recipe, Recipe::Command(_)) {
        take_place(project, &graph[id], &mut work);
        work.service = spec.service;
    }
    work
}

/// The limit of a budget that is reached, if one is, by the time and the calls that ended; and since when.
fn reached(budget: &Budget, now: Duration, spent: &Usage) -> Option<(Limit, Duration)> {
    let tokens = spent.input_tokens + spent.output_tokens;
    if let Some(limit) = budget.time.filter(|limit| now >= limit.0) {
        Some((Limit::Time, limit.0))
    } else if budget.tokens.is_some_and(|limit| tokens >= limit) && spent.calls > 0 {
        Some((Limit::Tokens, now))
    } else if budget.cost.is_some_and(|limit| spent.cost_usd >= limit) && spent.calls > 0 {
        Some((Limit::Cost, now))
    } else {
        None
    }
}

/// Whether a task is left that may need a service. `left`: by service, how many tasks from the first on are known to be
/// none: no task is looked at twice.
fn is_needed(engine: &Engine, left: &mut Vec<usize>, service: usize, may_need: &MayNeed<'_>) -> bool {
    if left.len() <= service {
        left.resize(service + 1, 0);
    }
    let graph = engine.graph();
    let is_over =
        |id: TaskId| !engine.is_wanted(id) || engine.settled(id).is_some() || !may_need(graph, id, service);
    let from = left[service];
    let found = graph.ids().skip(from).position(|id| !is_over(id));
    left[service] = found.map_or(graph.len(), |more| from + more);
    found.is_some()
}

/// Runs a build to its end on a virtual clock, and notes where `budget` would end it. `runs` tells what a task takes if
/// it runs, none if it is up to date; `items` those of a fan-out, none if they are not known yet; `may_need` whether a
/// task may need a service.
pub fn predict(
    mut engine: Engine,
    budget: &Budget,
    may_need: &MayNeed<'_>,
    runs: &mut Runs<'_>,
    items: &mut dyn FnMut(&Graph, TaskId) -> Option<Vec<Item>>,
) -> Predicted {
    let mut now = Duration::ZERO;
    let mut predicted = Predicted::default();
    // By number of the task, from its verdict to its end.
    let mut expected: Vec<Expected> = vec![Expected::default(); engine.graph().len()];
    // By the time of their end, and in order of their start.
    let mut running: BinaryHeap<Reverse<(Duration, u64, TaskId)>> = BinaryHeap::new();
    // Since when it could start, and how many could and do not.
    let mut ready: Vec<Duration> = vec![Duration::ZERO; engine.graph().len()];
    let (mut waiting, mut waited) = (0u64, Duration::ZERO);
    let mut spent = Usage::default();
    let mut over = reached(budget, now, &spent);
    // By service: no task before this one is left for it.
    let mut left: Vec<usize> = Vec::new();
    loop {
        loop {
            let actions = engine.poll(now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                match action {
                    Action::Judge { task, .. } => {
                        let judged = match runs(engine.graph(), task) {
                            None => Judged::Fresh,
                            Some((work, takes)) => {
                                expected.resize(engine.graph().len(), Expected::default());
                                expected[task.index()] = takes;
                                ready.resize(engine.graph().len(), Duration::ZERO);
                                ready[task.index()] = now;
                                waiting += 1;
                                Judged::Stale(work)
                            }
                        };
                        engine.on(Event::Judged(task, judged), now);
                    }
                    Action::Expand(family) => {
                        let known = items(engine.graph(), family);
                        predicted.unknown_items += u64::from(known.is_none());
                        let one = || vec![Item { key: "1".into(), index: 0, value: serde_json::Value::Null }];
                        engine.on(Event::Expanded(family, Some(known.unwrap_or_else(one))), now);
                    }
                    Action::Start { task, .. } => {
                        let takes = expected[task.index()];
                        let wait = now.saturating_sub(ready[task.index()]);
                        waiting = waiting.saturating_sub(1);
                        waited += wait;
                        predicted.queue.longest_s = predicted.queue.longest_s.max(wait.as_secs_f64());
                        // A limit that is reached when nothing is left to start ends nothing.
                        if predicted.budget_stop.is_none()
                            && let Some((limit, at)) = over
                        {
                            let (after_s, tasks) = (at.as_secs_f64(), predicted.tasks);
                            predicted.budget_stop = Some(BudgetStop { limit, after_s, tasks });
                        }
                        predicted.tasks += 1;
                        predicted.guessed += u64::from(takes.guessed);
                        predicted.usage.add(&takes.usage);
                        if takes.usage.calls > 0 {
                            engine.call_ended(task, Ok(takes.usage), None);
                        }
                        let end = now + Duration::try_from_secs_f64(takes.seconds).unwrap_or_default();
                        running.push(Reverse((end, predicted.tasks, task)));
                    }
                    Action::Settled(_) | Action::Mixed { .. } | Action::CancelAll => {}
                }
            }
        }
        // A service that no task is left for ends, and one that nobody uses makes room.
        let unused = engine.unused_services();
        let over_services =
            unused.into_iter().filter(|&service| !is_needed(&engine, &mut left, service, may_need));
        for service in over_services.collect::<Vec<_>>() {
            engine.service_is(service, ServiceIs::Gone);
        }
        let crowding = engine.crowding(now);
        if !crowding.is_empty() {
            crowding.into_iter().for_each(|service| engine.service_is(service, ServiceIs::Gone));
            continue;
        }
        predicted.queue.most = predicted.queue.most.max(waiting);
        let next = running.peek().map(|&Reverse((end, ..))| end);
        let held = engine.wakeup(now).filter(|&at| at > now);
        match (next, held) {
            (Some(end), held) if held.is_none_or(|at| end <= at) => {
                now = end;
                while let Some(&Reverse((end, _, task))) = running.peek()
                    && end <= now
                {
                    running.pop();
                    spent.add(&expected[task.index()].usage);
                    engine.on(Event::Ended(task, AttemptEnd::Done), now);
                }
            }
            (_, Some(at)) => now = at,
            (_, None) => break,
        }
        over = over.or_else(|| reached(budget, now, &spent));
    }
    predicted.seconds = now.as_secs_f64();
    predicted.queue.mean_s = waited.as_secs_f64() / predicted.tasks.max(1) as f64;
    predicted
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_build::eta;
    use planexe_engine::graph::{Decl, Input};
    use planexe_engine::scheduler::{Mode, Options, TaskInfo};
    use planexe_engine::slots::Slots;
    use planexe_llm::limits::Limits;
    use planexe_pipeline::manifest::types::Span;

    fn decl(name: &str, reads: &[&str]) -> Decl {
        let input = |name: &&str| Input {
            name: (*name).into(),
            pattern: format!("{name}.txt"),
            glob: false,
            optional: false,
        };
        Decl {
            name: name.into(),
            recipe: true,
            inputs: reads.iter().map(input).collect(),
            outputs: vec![format!("{name}.txt")],
            ..Decl::default()
        }
    }

    /// A build of tasks that each ask one model, with so many slots and seconds by name.
    fn seconds(decls: Vec<Decl>, slots: u32, rpm: Option<u32>, takes: impl Fn(&str) -> f64) -> Predicted {
        within(&Budget::default(), decls, slots, rpm, takes)
    }

    /// The same with a budget.
    fn within(
        budget: &Budget,
        decls: Vec<Decl>,
        slots: u32,
        rpm: Option<u32>,
        takes: impl Fn(&str) -> f64,
    ) -> Predicted {
        let limits = Limits { max_concurrent: slots, rpm, tpm: None, local: false };
        let infos = decls
            .iter()
            .map(|decl| TaskInfo { expected_s: takes(&decl.name), ..TaskInfo::default() })
            .collect();
        let graph = Graph::build(decls).expect("a graph");
        let targets: Vec<_> = graph.ids().map(|id| (id, None)).collect();
        let slots = Slots::new(&[limits], &[], 1, u32::MAX);
        let mut engine = Engine::new(graph, Mode::Build, Options::default(), infos, slots);
        engine.want(&targets);
        let mut runs = |graph: &Graph, id: TaskId| {
            let usage = Usage { calls: 1, cost_usd: 0.5, output_tokens: 10, ..Usage::default() };
            let expected = Expected { seconds: takes(&graph[id].name), usage, guessed: false };
            Some((Work { endpoints: vec![0], ..Work::default() }, expected))
        };
        predict(engine, budget, &|_, _, _| false, &mut runs, &mut |_, _| None)
    }

    /// Seconds of a list schedule, the longest remaining path first: nothing else costs anything.
    fn ideal(needs: &[Vec<usize>], takes: &[f64], slots: u32) -> f64 {
        let mut remaining = takes.to_vec();
        for n in (0..needs.len()).rev() {
            for &need in &needs[n] {
                remaining[need] = remaining[need].max(takes[need] + remaining[n]);
            }
        }
        let (mut now, mut running, mut begun) = (0.0, Vec::<(f64, usize)>::new(), vec![false; needs.len()]);
        let mut done = vec![false; needs.len()];
        loop {
            while running.len() < slots as usize {
                let ready = |n: &usize| !begun[*n] && needs[*n].iter().all(|&need| done[need]);
                let best = (0..needs.len()).filter(ready);
                let Some(n) = best.max_by(|&a, &b| remaining[a].total_cmp(&remaining[b])) else { break };
                begun[n] = true;
                running.push((now + takes[n], n));
            }
            let Some(first) = running.iter().map(|&(end, _)| end).min_by(f64::total_cmp) else { return now };
            now = first;
            running.retain(|&(end, n)| {
                done[n] |= end <= now;
                end > now
            });
        }
    }

    #[test]
    fn a_build_is_as_long_as_the_list_schedule() {
        let mut dice = 63u64;
        let mut roll = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % below
        };
        for seed in 0..60 {
            let mut needs: Vec<Vec<usize>> = Vec::new();
            let mut takes = Vec::new();
            for n in 0..63u64 {
                let count = if n > 8 { roll(3) } else { 0 };
                needs.push((0..count).map(|_| (n - 1 - roll(12.min(n))) as usize).collect());
                // Each its own, so that there is one order.
                takes.push((500 + roll(1500)) as f64 / 1000.0 + n as f64 / 1e6);
            }
            let name = |n: usize| format!("t{n:02}");
            let decls = (0..needs.len()).map(|n| {
                let reads: Vec<String> = needs[n].iter().map(|&need| name(need)).collect();
                decl(&name(n), &reads.iter().map(String::as_str).collect::<Vec<_>>())
            });
            let decls: Vec<Decl> = decls.collect();
            let of = |task: &str| takes[task[1..].parse::<usize>().unwrap_or(0)];
            let graph = Graph::build(decls.clone()).expect("a graph");
            for slots in [1, 4, 8, 16, 63] {
                let took = seconds(decls.clone(), slots, None, of).seconds;
                // What `status` says before it begins is never more, and the same if nothing waits for a slot.
                let eta = eta::longest(&graph, &[slots], |_| Some(0), |id| of(&graph[id].name));
                assert!(eta < took + 1e-3, "graph {seed}, {slots} slots: {took} s, ETA {eta} s");
                assert!(
                    ![1, 63].contains(&slots) || eta > took - 1e-3,
                    "graph {seed}: {took} s, ETA {eta} s"
                );
                let ideal = ideal(&needs, &takes, slots);
                assert!(
                    (took - ideal).abs() < 1e-3,
                    "graph {seed}, {slots} slots: {took} s, ideal {ideal} s"
                );
            }
        }
    }

    #[test]
    fn the_longest_path_or_the_work_over_the_slots() {
        let diamond = || {
            vec![
                decl("a", &[]),
                decl("b", &["a"]),
                decl("c", &["a"]),
                decl("d", &["a"]),
                decl("e", &["b", "c", "d"]),
            ]
        };
        for (slots, wanted) in [(1, 5.0), (2, 4.0), (3, 3.0), (16, 3.0)] {
            let predicted = seconds(diamond(), slots, None, |_| 1.0);
            assert_eq!((predicted.seconds, predicted.tasks), (wanted, 5), "{slots} slots");
            assert_eq!((predicted.usage.calls, predicted.usage.cost_usd), (5, 2.5));
        }
    }

    #[test]
    fn tasks_wait_for_their_turn() {
        // Six of 2 s, two at once: two start, four wait, for 2 s and for 4 s.
        let decls: Vec<Decl> = ["a", "b", "c", "d", "e", "f"].map(|name| decl(name, &[])).into();
        let queue = seconds(decls, 2, None, |_| 2.0).queue;
        assert_eq!((queue.most, queue.mean_s, queue.longest_s), (4, 2.0, 4.0));
    }

    #[test]
    fn the_longest_remaining_path_starts_first() {
        // In the order of the file: a, b, then c alone, 6 s. The longest first: c beside a and b, 4 s.
        let decls = vec![decl("a", &[]), decl("b", &[]), decl("c", &[])];
        let takes = |name: &str| if name == "c" { 4.0 } else { 2.0 };
        assert_eq!(seconds(decls, 2, None, takes).seconds, 4.0);
    }

    #[test]
    fn requests_per_minute_hold() {
        let decls = vec![decl("a", &[]), decl("b", &[]), decl("c", &[])];
        let predicted = seconds(decls, 8, Some(2), |_| 1.0);
        assert!(predicted.seconds > 30.0, "{predicted:?}");
    }

    #[test]
    fn a_budget_stops_it_where_something_is_left_to_start() {
        // Four calls of 2 s, one after the other, each of 10 tokens and half a dollar.
        let decls = ["a", "b", "c", "d"].map(|name| decl(name, &[]));
        let seconds_of = |seconds| Some(Span(Duration::from_secs(seconds)));
        let budget = |cost, tokens, time| Budget { cost, tokens, time };
        for (budget, wanted) in [
            (budget(Some(1.0), None, None), Some((Limit::Cost, 4.0, 2))),
            (budget(Some(0.9), None, None), Some((Limit::Cost, 4.0, 2))),
            (budget(None, Some(30), None), Some((Limit::Tokens, 6.0, 3))),
            (budget(None, None, seconds_of(3)), Some((Limit::Time, 3.0, 2))),
            (budget(Some(1.5), Some(15), seconds_of(7)), Some((Limit::Tokens, 4.0, 2))),
            (budget(Some(0.0), None, None), Some((Limit::Cost, 2.0, 1))),
            (budget(None, None, seconds_of(0)), Some((Limit::Time, 0.0, 0))),
            // Reached by the last of them.
            (budget(Some(2.0), None, seconds_of(8)), None),
            (budget(None, None, seconds_of(7)), None),
        ] {
            let predicted = within(&budget, decls.to_vec(), 1, None, |_| 2.0);
            let stop = predicted.budget_stop.map(|stop| (stop.limit, stop.after_s, stop.tasks));
            assert_eq!(stop, wanted, "{budget:?}");
            assert_eq!((predicted.tasks, predicted.seconds), (4, 8.0), "the whole is told all the same");
        }
    }

    #[test]
    fn nothing_to_do_takes_no_time() {
        let graph = Graph::build(vec![decl("a", &[])]).expect("a graph");
        let targets: Vec<_> = graph.ids().map(|id| (id, None)).collect();
        let slots = Slots::new(&[], &[], 1, 1);
        let mut engine = Engine::new(graph, Mode::Build, Options::default(), Vec::new(), slots);
        engine.want(&targets);
        assert_eq!(
            predict(engine, &Budget::default(), &|_, _, _| false, &mut |_, _| None, &mut |_, _| None),
            Predicted::default()
        );
    }
}
