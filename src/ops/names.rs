//! Tasks, items and outputs by the names a person or an agent gives them.

use planexe_base::exit::Error;
use planexe_pipeline::open::{self, Named, Opened};
use planexe_query::selection::{Part, Units};

/// The parts of the run that names mean; each must exist.
pub fn find_parts(opened: &Opened, units: &Units<'_>, names: &[String]) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    for name in names {
        let named = find_task(opened, name)?;
        let part = units.check(&named).map_err(|message| Error::usage(message).code("unknown_item"))?;
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// The task that a name means.
pub fn find_task(opened: &Opened, name: &str) -> Result<Named, Error> {
    let project = &opened.project;
    open::find(project, name).or_else(|hint| {
        if let Some((task, number)) = open::find_numbered(project, name) {
            let mut keys = Units::new(project, &opened.store).declared_keys(task);
            let (family, count) = (&project.graph[task].name, keys.len());
            if (1..=count).contains(&number) {
                return Ok(Named { task, key: Some(keys.swap_remove(number - 1)) });
            }
            let error = match count {
                0 => format!("`{name}` is item {number} of `{family}`, which has no items yet"),
                _ => format!("`{name}` is item {number} of `{family}`, which has {count}, counted from 1"),
            };
            return Err(Error::usage(error)
                .code("unknown_item")
                .hint(format!("`planexe explain {family}` tells of its items")));
        }
        let error = Error::usage(format!("no task or output is called `{name}`")).code("unknown_task");
        Err(match hint {
            Some(hint) => error.hint(hint),
            None => error.hint("`planexe status` lists the tasks"),
        })
    })
}
