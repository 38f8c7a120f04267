//! Lanes of isolated tasks, as the graph has them: what is merged together must not wait for itself.

use std::collections::{BTreeSet, HashMap};

use planexe_engine::graph::{Graph, TaskId};

/// Tasks of lanes that could never be merged: one of a lane waits for the merge of another, by way of a task that is in
/// none of it, or in another lane that waits for the first. By lane.
pub fn entangled(graph: &Graph, lane: impl Fn(TaskId) -> Option<usize>) -> Vec<Vec<TaskId>> {
    // Each lane is one node, and each other task.
    let node = |id: TaskId| lane(id).map_or((0, id.index()), |lane| (1, lane));
    let mut needs: HashMap<(u8, usize), BTreeSet<(u8, usize)>> = HashMap::new();
    let mut readers = needs.clone();
    for id in graph.ids() {
        needs.entry(node(id)).or_default();
        for need in &graph[id].needs {
            if node(need.task) != node(id) {
                needs.entry(node(id)).or_default().insert(node(need.task));
                readers.entry(node(need.task)).or_default().insert(node(id));
            }
        }
    }
    // What waits for nothing, or for what nobody waits, is in no circle; what is left is.
    let mut open: BTreeSet<(u8, usize)> = needs.keys().copied().collect();
    for edges in [&needs, &readers] {
        loop {
            let free = |node: &(u8, usize)| {
                edges.get(node).is_none_or(|all| all.iter().all(|it| !open.contains(it)))
            };
            let gone: Vec<_> = open.iter().filter(|node| free(node)).copied().collect();
            if gone.is_empty() {
                break;
            }
            gone.iter().for_each(|node| {
                open.remove(node);
            });
        }
    }
    let lanes = open.iter().filter(|(kind, _)| *kind == 1);
    lanes.map(|(_, of)| graph.ids().filter(|id| lane(*id) == Some(*of)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_engine::graph::{Decl, Input};

    fn graph(tasks: &[(&str, &[&str])]) -> Graph {
        let input = |name: &&str| Input {
            name: (*name).into(),
            pattern: format!("{name}.txt"),
            glob: false,
            optional: false,
        };
        let decl = |(name, reads): &(&str, &[&str])| Decl {
            name: (*name).into(),
            recipe: true,
            inputs: reads.iter().map(input).collect(),
            outputs: vec![format!("{name}.txt")],
            ..Decl::default()
        };
        Graph::build(tasks.iter().map(decl).collect()).unwrap_or_else(|_| panic!("a sound graph"))
    }

    fn of(tasks: &[(&str, &[&str])]) -> Vec<Vec<String>> {
        let graph = graph(tasks);
        let lane = |id: TaskId| graph[id].name.strip_prefix("l").and_then(|rest| rest[..1].parse().ok());
        let name = |id: &TaskId| graph[*id].name.clone();
        entangled(&graph, lane).iter().map(|all| all.iter().map(name).collect()).collect()
    }

    #[test]
    fn a_lane_does_not_wait_for_itself() {
        assert!(of(&[("l1a", &[]), ("l1b", &["l1a"]), ("x", &["l1b"])]).is_empty());
        assert_eq!(of(&[("l1a", &[]), ("x", &["l1a"]), ("l1b", &["x"]), ("y", &["l1b"])]), [["l1a", "l1b"]]);
        let crossed: &[(&str, &[&str])] = &[("l1a", &[]), ("l2a", &["l1a"]), ("l2b", &[]), ("l1b", &["l2b"])];
        assert_eq!(of(crossed), [["l1a", "l1b"], ["l2a", "l2b"]]);
        assert!(of(&[("l1a", &[]), ("l2a", &["l1a"]), ("l1b", &[]), ("l2b", &["l1b"])]).is_empty());
    }
}
