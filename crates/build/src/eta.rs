//! How long tasks take, as far as is known, and how long a build still does: one rule for builds, for
//! `status` and for forecasts. Pure.

use std::collections::HashMap;

use planexe_engine::graph::{Graph, Kind, Task, TaskId};
use planexe_engine::slots::AtOnce;
use planexe_pipeline::project::{Project, PromptSpec, Recipe, Spec};

/// One figure of tasks: by item, else by declaration, else by recipe; the last two are medians.
#[derive(Debug)]
pub struct Known<T> {
    by_item: HashMap<String, T>,
    by_decl: Vec<Option<T>>,
    by_recipe: HashMap<&'static str, T>,
}

impl<T: Copy> Known<T> {
    /// From what is known by name, each name once; `key` orders the figures.
    pub fn new(
        project: &Project,
        by_name: impl IntoIterator<Item = (String, T)>,
        key: impl Fn(&T) -> f64,
    ) -> Known<T> {
        let mut by_item = HashMap::new();
        let mut lists: Vec<Vec<T>> = vec![Vec::new(); project.specs.len()];
        for (task, figure) in by_name {
            let family = task.split_once('[').map_or(task.as_str(), |(family, _)| family);
            let Some(id) = project.graph.find(family) else { continue };
            let is_family = project.graph[id].kind == Kind::Family;
            // One task may have been a fan-out once: what its items took says nothing of it.
            if is_family || task.len() == family.len() {
                lists[project.graph[id].decl].push(figure);
            }
            if is_family {
                by_item.insert(task, figure);
            }
        }
        let median = |list: &mut Vec<T>| {
            list.sort_by(|a, b| key(a).total_cmp(&key(b)));
            list.get(list.len() / 2).copied()
        };
        let by_decl: Vec<Option<T>> = lists.iter_mut().map(median).collect();
        let mut recipes: HashMap<&'static str, Vec<T>> = HashMap::new();
        for (spec, figure) in project.specs.iter().zip(&by_decl) {
            if let Some(figure) = figure {
                recipes.entry(spec.recipe.name()).or_default().push(*figure);
            }
        }
        let by_recipe =
            recipes.iter_mut().filter_map(|(&recipe, list)| Some((recipe, median(list)?))).collect();
        Known { by_item, by_decl, by_recipe }
    }

    /// What is known of a task, or of others of its declaration.
    pub fn of_decl(&self, task: &Task) -> Option<T> {
        let own = if self.by_item.is_empty() { None } else { self.by_item.get(&task.name) };
        own.copied().or_else(|| *self.by_decl.get(task.decl)?)
    }

    /// The same, or what is known of others of its recipe.
    pub fn get(&self, project: &Project, task: &Task) -> Option<T> {
        let recipe = || self.by_recipe.get(project.spec(task).recipe.name()).copied();
        self.of_decl(task).or_else(recipe)
    }
}

impl Known<f64> {
    /// Seconds a task is expected to take.
    pub fn seconds(&self, project: &Project, task: &Task) -> f64 {
        self.get(project, task).unwrap_or_else(|| usual_seconds(project, project.spec(task)))
    }
}

/// Seconds of a task of a kind of which none has run yet. A model on this machine is taken to be slower.
pub fn usual_seconds(project: &Project, spec: &Spec) -> f64 {
    let is_local = |prompt: &PromptSpec| {
        let first = prompt.models.first().map(|&at| &project.endpoints[at].model);
        first.is_some_and(|model| planexe_llm::concurrency_online(model) == 1)
    };
    match &spec.recipe {
        Recipe::Prompt(prompt) if is_local(prompt) => 30.0,
        Recipe::Prompt(_) => 10.0,
        Recipe::Command(_) => 1.0,
        _ => 0.01,
    }
}

/// Seconds to go: the longest path of what is left, or what is left for one model, for the cores or for a pool
/// over its slots, whichever is longest. `left`: seconds a task still takes by itself; it is not asked of fan-outs
/// whose items are known.
pub fn time_left(project: &Project, graph: &Graph, at_once: AtOnce, left: impl Fn(TaskId) -> f64) -> f64 {
    let endpoints = project.endpoints.len();
    let models =
        project.endpoints.iter().map(|endpoint| planexe_llm::limits_of(&endpoint.model).max_concurrent);
    let pools = project.pools.iter().map(|(_, slots)| *slots);
    let slots: Vec<u32> = models.chain([at_once.cores, at_once.all]).chain(pools).collect();
    let takes = |id: TaskId| {
        let spec = project.spec(&graph[id]);
        let model = spec.recipe.prompt().and_then(|prompt| prompt.models.first().copied());
        let core = matches!(spec.recipe, Recipe::Command(_)).then_some(endpoints);
        let pool = spec.pool.map(|pool| endpoints + 2 + pool);
        [model, core, Some(endpoints + 1), pool].into_iter().flatten()
    };
    longest(graph, &slots, takes, left)
}

/// [`time_left`] over things of which there are so many slots; `takes`: of which of them a task takes one.
pub fn longest<T: IntoIterator<Item = usize>>(
    graph: &Graph,
    slots: &[u32],
    takes: impl Fn(TaskId) -> T,
    left: impl Fn(TaskId) -> f64,
) -> f64 {
    // Seconds from the start of each task to the end of all.
    let mut paths = vec![0.0f64; graph.len()];
    let mut load = vec![0.0; slots.len()];
    let mut own = |id: TaskId| {
        let seconds = left(id);
        if seconds > 0.0 {
            takes(id).into_iter().for_each(|at| load[at] += seconds);
        }
        seconds
    };
    for &id in graph.order().iter().rev() {
        let instances = graph.instances(id);
        // A fan-out over the same items waits for this one item by item.
        let by_item = |reader: TaskId| !graph.instances(reader).is_empty() && graph.is_peer(reader, id);
        let readers = graph[id].readers.iter().filter(|reader| !by_item(**reader));
        let after = readers.map(|reader| paths[reader.index()]).fold(0.0, f64::max);
        if instances.is_empty() {
            paths[id.index()] = own(id) + after;
            continue;
        }
        let mut all = after;
        for &one in instances.iter().rev() {
            let readers = graph[one].readers.iter();
            let path = own(one) + readers.map(|reader| paths[reader.index()]).fold(after, f64::max);
            paths[one.index()] = path;
            all = all.max(path);
        }
        paths[id.index()] = all;
    }
    let over_slots = load.iter().zip(slots).map(|(seconds, &slots)| seconds / f64::from(slots.max(1)));
    over_slots.chain(paths.iter().copied()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_engine::graph::{Decl, ForeachDecl, Input, Item};

    fn decl(name: &str, reads: &[&str]) -> Decl {
        let input = |path: &&str| Input {
            name: (*path).into(),
            pattern: (*path).into(),
            glob: path.contains('*'),
            optional: false,
        };
        Decl {
            name: name.into(),
            recipe: true,
            inputs: reads.iter().map(input).collect(),
            outputs: vec![name.into()],
            ..Decl::default()
        }
    }

    fn each(name: &str, reads: &[&str], sequential: bool) -> Decl {
        let foreach = Some(ForeachDecl { source: "list".into(), glob: false, rest: String::new() });
        Decl { outputs: vec![format!("{name}/{{{{ key }}}}")], foreach, sequential, ..decl(name, reads) }
    }

    /// A graph in which every fan-out has these items.
    fn graph(decls: Vec<Decl>, items: &[&str]) -> Graph {
        let mut graph = Graph::build(decls).expect("a graph");
        for id in graph.order().to_vec() {
            if graph[id].kind == planexe_engine::graph::Kind::Family && !items.is_empty() {
                let item = |(index, key): (usize, &&str)| Item {
                    key: (*key).into(),
                    index,
                    value: serde_json::Value::Null,
                };
                graph.add_instances(id, items.iter().enumerate().map(item).collect(), true);
            }
        }
        graph
    }

    #[test]
    fn the_longest_path_or_the_calls_over_the_slots() {
        let chain =
            || graph(vec![decl("a", &[]), decl("b", &["a"]), decl("c", &["b"]), decl("d", &["a"])], &[]);
        let fan = |sequential| {
            let decls = vec![
                decl("list", &[]),
                decl("plan", &[]),
                each("draft", &["plan"], sequential),
                each("check", &["draft/{{ key }}"], false),
                decl("sum", &["check/*"]),
            ];
            move |items: &[&str]| graph(decls.clone(), items)
        };
        // Seconds left by name, 0 of what is not named; slots of the one thing all take; seconds to go.
        type Case<'a> = (&'a str, Graph, &'a [(&'a str, f64)], u32, f64);
        let cases: &[Case<'_>] = &[
            ("nothing is left", chain(), &[], 1, 0.0),
            ("a path", chain(), &[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 9.0)], 9, 10.0),
            ("one slot for all", chain(), &[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 9.0)], 1, 15.0),
            ("what is done counts for nothing", chain(), &[("c", 3.0), ("d", 9.0)], 9, 9.0),
            ("items not known: one", fan(false)(&[]), &[("list", 1.0), ("draft", 4.0), ("sum", 2.0)], 9, 7.0),
            ("the fan-out itself takes nothing", fan(false)(&["x"]), &[("draft", 4.0), ("sum", 2.0)], 9, 2.0),
            (
                "item by item",
                fan(false)(&["x", "y"]),
                &[("draft[x]", 5.0), ("check[x]", 1.0), ("draft[y]", 1.0), ("check[y]", 4.0), ("sum", 2.0)],
                9,
                8.0,
            ),
            (
                "one after the other",
                fan(true)(&["x", "y"]),
                &[("draft[x]", 5.0), ("check[x]", 1.0), ("draft[y]", 1.0), ("check[y]", 4.0), ("sum", 2.0)],
                9,
                12.0,
            ),
            ("what all items read", fan(false)(&["x", "y"]), &[("plan", 7.0), ("draft[y]", 1.0)], 9, 8.0),
        ];
        for (name, graph, seconds, slots, wanted) in cases {
            let left = |id: TaskId| {
                let task = &graph[id].name;
                seconds.iter().find(|(name, _)| name == task).map_or(0.0, |(_, seconds)| *seconds)
            };
            assert_eq!(longest(graph, &[*slots], |_| Some(0), left), *wanted, "{name}");
        }
    }
}
