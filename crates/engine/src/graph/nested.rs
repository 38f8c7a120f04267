//! Paths that are a file to one task and a folder to another: there can never be both.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Decl, Fault, Place, Role};
use planexe_base::pattern;

/// Folders that paths lie in, in lower case, each with the first path that lies in it.
type Folders<'a> = HashMap<Cow<'a, str>, Place>;

/// Finds outputs that others have as a folder, and folders of outputs that others have as a file.
pub(super) fn files_that_are_folders(decls: &[Decl]) -> Vec<Fault> {
    let mut of_outputs = Folders::new();
    let mut of_inputs = Folders::new();
    for (decl, role, path) in decls.iter().enumerate().flat_map(|(n, decl)| paths(n, decl)) {
        let folders = if matches!(role, Role::Output(_)) { &mut of_outputs } else { &mut of_inputs };
        add_folders(folders, path, (decl, role));
    }
    if of_outputs.is_empty() && of_inputs.is_empty() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (decl, role, path) in decls.iter().enumerate().flat_map(|(n, decl)| paths(n, decl)) {
        // Of a glob only the folder it begins in is known.
        if is_glob(&decls[decl], role) {
            continue;
        }
        let path = pattern::fold_case(path);
        let is_output = matches!(role, Role::Output(_));
        let inputs = if is_output { of_inputs.get(&path) } else { None };
        for &folder in [of_outputs.get(&path), inputs].into_iter().flatten() {
            // Items of other lists may have other keys.
            let same_keys = folder.0 == decl || decls[folder.0].foreach == decls[decl].foreach;
            if same_keys || !pattern::has_key(&path) {
                faults.push(Fault::FileAndFolder { file: (decl, role), folder });
            }
        }
    }
    faults
}

/// What a task reads and writes below the run directory.
fn paths(n: usize, decl: &Decl) -> impl Iterator<Item = (usize, Role, &str)> {
    let outputs = decl.outputs.iter().enumerate().map(|(at, path)| (Role::Output(at), path.as_str()));
    let inputs = decl.inputs.iter().enumerate().map(|(at, input)| (Role::Input(at), input.pattern.as_str()));
    let items = decl.foreach.iter().map(|foreach| (Role::Items, foreach.source.as_str()));
    let is_inside = |path: &str| !path.is_empty() && !path.starts_with('/') && !path.starts_with("../");
    let all = outputs.chain(inputs).chain(items).filter(move |(_, path)| is_inside(path));
    all.map(move |(role, path)| (n, role, path))
}

fn is_glob(decl: &Decl, role: Role) -> bool {
    match role {
        Role::Output(_) => false,
        Role::Input(at) => decl.inputs[at].glob,
        Role::Items => decl.foreach.as_ref().is_some_and(|foreach| foreach.glob),
    }
}

fn add_folders<'a>(folders: &mut Folders<'a>, path: &'a str, place: Place) {
    let mut path = path;
    while let Some((folder, _)) = path.rsplit_once('/') {
        path = folder;
        // The holes of a glob are none of a key.
        if pattern::literal_prefix(folder) != folder && !pattern::has_key(folder) {
            continue;
        }
        let folder = pattern::fold_case(folder);
        if folders.contains_key(&folder) {
            return;
        }
        folders.insert(folder, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{ForeachDecl, Input};

    /// Outputs before the arrow, inputs after it, and what it runs over.
    fn task(line: &str, items: Option<&str>) -> Decl {
        let (outputs, inputs) = line.split_once(" <- ").unwrap_or((line, ""));
        let input = |pattern: &str| Input {
            name: String::new(),
            pattern: pattern.to_owned(),
            glob: pattern.contains('*'),
            optional: false,
        };
        let foreach = |source: &str| ForeachDecl { source: source.into(), glob: false, rest: String::new() };
        Decl {
            outputs: outputs.split(", ").map(str::to_owned).collect(),
            inputs: inputs.split(", ").filter(|path| !path.is_empty()).map(input).collect(),
            foreach: items.map(foreach),
            ..Decl::default()
        }
    }

    #[test]
    fn no_path_is_a_file_and_a_folder() {
        for (one, two, faults) in [
            ("b.txt", "b.txt/deep.txt", 1),
            ("b.txt/a/b/c.txt", "b.txt", 1),
            ("B.TXT", "b.txt/deep.txt", 1),
            ("a, a/b", "c", 1),
            ("b", "c <- b/deep.txt", 1),
            ("c <- b", "b/deep.txt", 1),
            ("b", "c <- b/*.txt", 1),
            ("b", "c <- b/*/d.txt", 1),
            ("a/b.txt", "a/c.txt", 0),
            ("a/b", "a/bc/d", 0),
            ("a.txt <- b", "c.txt <- b/d", 0),
            ("a", "b <- c/*/a, c/a, ../a/b, /a/b, *a", 0),
            ("a", "c <- */a/b", 0),
        ] {
            let found = files_that_are_folders(&[task(one, None), task(two, None)]);
            assert_eq!(found.len(), faults, "{one} | {two}: {found:?}");
        }
    }

    #[test]
    fn outputs_of_items_are_compared_where_their_keys_are_the_same() {
        for (one, two, items, faults) in [
            ("r/{{ key }}, r/{{ key }}/x.md", "c", ["i.json", "j.json"], 1),
            ("r/{{ key }}", "r/{{ key }}/x.md", ["i.json", "i.json"], 1),
            ("r/{{ key }}", "r/{{ key }}/x.md", ["i.json", "j.json"], 0),
            ("r", "r/{{ key }}.md", ["i.json", "j.json"], 1),
            ("r/{{ key }}.md", "s/{{ key }}/x.md", ["i.json", "i.json"], 0),
            ("i.json/x", "r/{{ key }}.md", ["k.json", "i.json"], 1),
        ] {
            let found = files_that_are_folders(&[task(one, Some(items[0])), task(two, Some(items[1]))]);
            assert_eq!(found.len(), faults, "{one} | {two}: {found:?}");
        }
    }
}
