//! Templates between the plan and what is asked of it, rendered with the new text.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use minijinja::Value;

use super::found::{Hit, in_order};
use planexe_base::exit::Error;
use planexe_base::fs::{self, Durability};
use planexe_build::check_staleness::Judgement;
use planexe_engine::graph::{Graph, Task};
use planexe_pipeline::project::{Project, Recipe, Template};

/// What templates between the plan and its readers will come to with the new text. Who reads them is judged by that,
/// and what is kept is kept on it: else a task that is made again would be asked with the text from before the edit.
pub(super) struct Carried {
    /// The plan and the outputs of the templates, and where their new text is.
    pub(super) in_place_of: Vec<(String, PathBuf)>,
    /// The templates.
    pub(super) tasks: BTreeSet<String>,
    /// The folder of the new texts.
    dir: PathBuf,
}

impl Carried {
    pub(super) fn new(plan: &str, edited: &Path) -> Carried {
        let dir = edited.parent().unwrap_or(edited).join("carried");
        Carried { in_place_of: vec![(plan.to_owned(), edited.to_owned())], tasks: BTreeSet::new(), dir }
    }

    /// Renders the templates that the edit makes stale and all of whose inputs are known; whether there were any.
    pub(super) fn add(
        &mut self,
        project: &Project,
        graph: &Graph,
        hits: &[Hit],
        fresh: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        let stale: HashSet<&String> =
            hits.iter().map(|hit| &hit.name).filter(|name| !self.tasks.contains(*name)).collect();
        let (before, order) = (self.tasks.len(), in_order(graph));
        let is_template = |hit: &&Hit| matches!(project.spec(&graph[hit.id]).recipe, Recipe::Template(_));
        for hit in hits.iter().filter(|hit| stale.contains(&hit.name)).filter(is_template) {
            let task = &graph[hit.id];
            if task.readers.is_empty() || !fresh.contains(&hit.name) {
                continue;
            }
            let needs = graph.upstream(&[hit.id]);
            let mut others = order.iter().filter(|id| needs[id.index()] && **id != hit.id);
            if !others.all(|&id| fresh.contains(&graph[id].name) && !stale.contains(&graph[id].name)) {
                continue;
            }
            let Some(outputs) = rendered(project, task, &hit.judgement) else { continue };
            fs::make_dirs(&self.dir, Durability::Unsynced)?;
            for (path, text) in outputs {
                let file = self.dir.join(self.in_place_of.len().to_string());
                fs::write_atomic(&file, text.as_bytes(), Durability::Unsynced)?;
                self.in_place_of.push((path, file));
            }
            self.tasks.insert(hit.name.clone());
        }
        Ok(self.tasks.len() > before)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        for (_, file) in &self.in_place_of[1..] {
            let _ = fs::remove(file);
        }
        let _ = fs::remove_empty_dir(&self.dir);
    }
}

/// The outputs of a template as a build would render them; none of another recipe, or if it cannot be rendered.
fn rendered(project: &Project, task: &Task, judgement: &Judgement) -> Option<Vec<(String, String)>> {
    let spec = project.spec(task);
    let Recipe::Template(first) = &spec.recipe else { return None };
    let inputs = &judgement.prepared.as_ref()?.inputs;
    let render = |template: &Template, answer: Option<&str>| {
        let mut values = inputs.context(project, task, &template.names).ok()?;
        values.extend(answer.map(|answer| ("answer".to_owned(), answer.into())));
        template.render(&Value::from_iter(values)).ok()
    };
    let text = render(first, None)?;
    let mut outputs = vec![(task.outputs.first()?.clone(), text)];
    for (path, template) in task.outputs.iter().zip(&spec.templates).skip(1) {
        let more = render(template.as_ref()?, Some(&outputs[0].1))?;
        outputs.push((path.clone(), more));
    }
    Some(outputs)
}
