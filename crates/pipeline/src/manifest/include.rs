//! Which files `include` names.

use std::fs;
use std::path::{Path, PathBuf};

use super::place::{Kind, Node, SourceSpan};
use planexe_base::pattern::Glob;

/// Why an entry of `include` names no files.
pub(super) enum NotIncluded {
    Missing(PathBuf),
    NoPattern(String),
}

/// The files an entry of `include` of a file names, and the folders that were listed for it. A pattern may well match
/// none: a folder of stages that is still empty.
pub(super) fn included(file: &Path, pattern: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>), NotIncluded> {
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    if pattern.trim().is_empty() {
        return Err(NotIncluded::NoPattern("it is empty".to_owned()));
    }
    if !pattern.contains(['*', '?', '[', '{']) {
        let path = folder.join(pattern);
        return if path.is_file() { Ok((vec![path], Vec::new())) } else { Err(NotIncluded::Missing(path)) };
    }
    let matcher = Glob::of_paths(pattern).map_err(NotIncluded::NoPattern)?;
    let fixed: PathBuf = Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
        .collect();
    let (mut found, mut listed) = (Vec::new(), Vec::new());
    walk(&folder, &fixed, 0, &mut listed, &mut |relative| {
        if matcher.is_match(relative) {
            found.push(folder.join(relative));
        }
    });
    found.sort();
    Ok((found, listed))
}

/// `pipeline.include` of one file, as far as it is a list of strings; what is not is found later.
pub(super) fn include_of(root: &Node) -> Vec<(String, SourceSpan)> {
    let Some(Kind::List(items)) = root.get("pipeline").and_then(|p| p.get("include")).map(|n| &n.kind) else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| match &item.kind {
            Kind::Text(text) => Some((text.clone(), item.place)),
            _ => None,
        })
        .collect()
}

/// Calls back with every file under a folder, relative to `base`; hidden folders are passed over. Those that are not
/// are added to `listed`.
fn walk(base: &Path, folder: &Path, depth: usize, listed: &mut Vec<PathBuf>, found: &mut dyn FnMut(&Path)) {
    if depth > 16 {
        return;
    }
    let here = base.join(folder);
    let here = if here.as_os_str().is_empty() { PathBuf::from(".") } else { here };
    listed.push(here.clone());
    let Ok(entries) = fs::read_dir(here) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let path = folder.join(&name);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(base, &path, depth + 1, listed, found),
            Ok(_) => found(&path),
            Err(_) => {}
        }
    }
}
