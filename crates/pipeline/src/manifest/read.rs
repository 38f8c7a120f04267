//! From files to one tree: includes, the chosen profile and `-D` are merges on it, so that every
//! value keeps the place it was written at. Then the typed tables, and the checks on them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use super::diagnostic::{At, Diagnostic, Diagnostics, list_of, nearest, shown_path, suggest};
use super::include::{NotIncluded, include_of, included};
use super::merge::{merge_file, override_model, put};
use super::place::{Entry, Kind, Node, Origin, SourceFile, SourceSpan, TablePath};
use super::toml_text::{self, LARGEST_FILE};
use super::types::Tables;
use super::{check, de, tiers};
use crate::key_path;

/// What is chosen on the command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// `--profile`.
    pub profile: Option<String>,
    /// `-D name=value`: overrides of `[vars]`, the last of a name counts. A value that is a TOML
    /// scalar (`3`, `0.5`, `true`, `"text"`) is read as one, anything else is a string.
    pub defines: Vec<(String, String)>,
    /// `--allow-outside`: folders from which files may be included too.
    pub allow_outside: Vec<PathBuf>,
}

/// A pipeline as it is written, with the places of everything in it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file it was read from.
    pub file: PathBuf,
    /// The pipeline's folder, links resolved.
    pub folder: PathBuf,
    /// What it says, profile and `-D` applied.
    pub tables: Tables,
    /// False if keys had to be left out because they could not be read: what depends on them
    /// (the graph, say) would only repeat the fault in other words.
    pub whole: bool,
    damaged: Vec<TablePath>,
    /// What was left of the tree without them.
    left: Option<Arc<Node>>,
    origin: Arc<Origin>,
}

impl Manifest {
    /// Reads and checks a manifest; any fault is an error.
    pub fn read(file: &Path, options: &ReadOptions) -> Result<Manifest, Diagnostics> {
        let (manifest, faults) = Manifest::read_all(file, options)?;
        manifest.or_faults(faults)
    }

    /// Reads and checks a manifest, and gives what could be read beside the faults found, so that
    /// a caller can look for further ones. `Err` is for a file of which nothing can be read.
    pub fn read_all(file: &Path, options: &ReadOptions) -> Result<(Manifest, Vec<Diagnostic>), Diagnostics> {
        let text = read_file(file)
            .map_err(|fault| Diagnostics::new(Arc::new(Origin::nothing(file)), vec![*fault]))?;
        Manifest::from_text(file, text, options)
    }

    /// The same for a text at hand, as if it stood in `file`.
    pub fn from_text(
        file: &Path,
        text: String,
        options: &ReadOptions,
    ) -> Result<(Manifest, Vec<Diagnostic>), Diagnostics> {
        let folder = folder_of(file);
        let allowed = allowed(&folder, options);
        let mut reader = Reader {
            sources: Vec::new(),
            read: BTreeSet::new(),
            allowed,
            left: toml_text::MOST_VALUES,
            faults: Vec::new(),
        };
        let root = reader.read_tree(file, text);
        let empty =
            Node { place: SourceSpan { source: 0, start: 0, end: 0 }, kind: Kind::Table(IndexMap::new()) };
        let Some(mut root) = root else {
            let origin = Origin { sources: reader.sources, root: empty };
            return Err(Diagnostics::new(Arc::new(origin), reader.faults));
        };
        let keys_as_written = keys_of(&root);
        reader.apply_profile(&mut root, options);
        reader.apply_defines(&mut root, options);
        let Reader { sources, mut faults, .. } = reader;
        let mut unreadable = Vec::new();
        let (tables, left, shown) = match de::read_whole(&mut root) {
            Some(tables) => (tables, None, root),
            // What is wrong is taken out, and still has to be shown.
            None => {
                let shown = root.clone();
                (de::read(&mut root, &TablePath::root(), &mut unreadable), Some(Arc::new(root)), shown)
            }
        };
        let damaged: Vec<TablePath> = unreadable.iter().filter_map(|fault| fault.path().cloned()).collect();
        let origin = Arc::new(Origin { sources, root: shown });
        faults.extend(once(unreadable, &origin));
        let whole = faults.is_empty();
        let mut found = Vec::new();
        check::check(&tables, file, &damaged, &mut found);
        let mut tables = Tables { keys_as_written, ..tables };
        tiers::resolve(&mut tables);
        let manifest = Manifest { file: file.to_owned(), folder, tables, whole, damaged, left, origin };
        faults.extend(manifest.further(found));
        Ok((manifest, faults))
    }

    /// Faults found in the tables, at the places they have in the file; without those that only follow from a key
    /// that was left out.
    pub fn further(&self, mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        if let Some(left) = &self.left {
            for fault in &mut found {
                let related = fault.related.iter_mut().map(|(at, _)| at);
                for at in std::iter::once(&mut fault.at).chain(related) {
                    if let At::Path(path) = at {
                        *path = left.as_written(path);
                    }
                }
            }
        }
        found.retain(|fault| !fault.path().is_some_and(|path| path.is_damaged(&self.damaged)));
        found
    }

    /// A path into the tables as one into the file.
    fn as_written<'p>(&self, path: &'p TablePath) -> Cow<'p, TablePath> {
        match &self.left {
            Some(left) => Cow::Owned(left.as_written(path)),
            None => Cow::Borrowed(path),
        }
    }

    /// A manifest of tables at hand, as if they had been read from a file.
    pub fn of_tables(file: &Path, tables: Tables) -> Manifest {
        Manifest {
            file: file.to_owned(),
            folder: folder_of(file),
            tables,
            whole: true,
            damaged: Vec::new(),
            left: None,
            origin: Arc::new(Origin::nothing(file)),
        }
    }

    /// The manifest if there are no faults, else the faults, ready to be shown.
    pub fn or_faults(self, faults: Vec<Diagnostic>) -> Result<Manifest, Diagnostics> {
        if faults.is_empty() { Ok(self) } else { Err(self.faults(faults)) }
    }

    /// Faults in this manifest's files, ready to be shown.
    pub fn faults(&self, faults: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics::new(self.origin.clone(), faults)
    }

    /// Whether something at, in or around a key path could not be read and was left out, so that
    /// what is missing there says nothing.
    pub fn is_damaged(&self, path: &TablePath) -> bool {
        path.is_damaged(&self.damaged)
    }

    /// Where a value stands.
    pub fn place(&self, path: &TablePath) -> Option<SourceSpan> {
        self.origin.place(&self.as_written(path), false)
    }

    /// File, line and column of a key path, for messages: `pipeline.toml:12:9`.
    pub fn location(&self, path: &TablePath) -> Option<String> {
        let place = self.origin.place(&self.as_written(path), true)?;
        let source = self.origin.sources.get(place.source as usize)?;
        let (line, column) = source.line_column(place.start as usize);
        Some(format!("{}:{line}:{column}", shown_path(&source.path)))
    }

    /// The place of a piece of a string value, counted in the string's own bytes; none if the
    /// string is written with escapes, so that the two do not run alike.
    pub fn place_within(
        &self,
        path: &TablePath,
        value: &str,
        span: &std::ops::Range<usize>,
    ) -> Option<SourceSpan> {
        let place = self.place(path)?;
        let source = self.origin.sources.get(place.source as usize)?;
        let raw = source.text.get(place.start as usize..place.end as usize)?;
        let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| raw.starts_with(quotes))?;
        let inside = raw.strip_prefix(quotes)?.strip_suffix(quotes)?;
        let trimmed = match quotes.len() {
            3 => inside.strip_prefix("\r\n").or_else(|| inside.strip_prefix('\n')).unwrap_or(inside),
            _ => inside,
        };
        if trimmed != value || value.get(span.clone()).is_none() {
            return None;
        }
        let start = place.start + (quotes.len() + inside.len() - trimmed.len()) as u32;
        Some(SourceSpan {
            source: place.source,
            start: start + span.start as u32,
            end: start + span.end as u32,
        })
    }

    /// Every file read, the pipeline itself first.
    pub fn sources(&self) -> impl Iterator<Item = &SourceFile> {
        self.origin.sources.iter().filter(|source| source.path != Path::new(COMMAND_LINE))
    }
}

/// Faults without those of what a profile says that are told where it stands in the profile.
fn once(mut faults: Vec<Diagnostic>, origin: &Origin) -> Vec<Diagnostic> {
    let of_profile = |path: &&TablePath| path.is_within(&key_path!["profiles"]);
    let place = |path: &TablePath| origin.place(path, false);
    let told: Vec<SourceSpan> =
        faults.iter().filter_map(Diagnostic::path).filter(of_profile).filter_map(place).collect();
    faults.retain(|fault| {
        let merged = fault.path().filter(|path| !of_profile(path));
        !merged.and_then(place).is_some_and(|place| told.contains(&place))
    });
    faults
}

/// In whose name faults in a `-D` are shown.
const COMMAND_LINE: &str = "<command line>";

/// The folders files may be included from, links resolved.
fn allowed(folder: &Path, options: &ReadOptions) -> Vec<PathBuf> {
    let outside = options.allow_outside.iter();
    let outside = outside.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
    std::iter::once(folder.to_owned()).chain(outside).collect()
}

/// The folder of a file, links resolved.
fn folder_of(file: &Path) -> PathBuf {
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    parent.canonicalize().unwrap_or_else(|_| parent.to_owned())
}

/// Reads a file's text, or says what is the matter with it.
pub(super) fn read_file(file: &Path) -> Result<String, Box<Diagnostic>> {
    let at = || super::diagnostic::At::File(file.to_owned());
    let name = shown_path(file);
    let no = |error: std::io::Error| {
        Box::new(match error.kind() {
            std::io::ErrorKind::NotFound => Diagnostic::at(at(), format!("there is no `{name}`")).hint(
                "run `planexe new NAME` to start a project, or name the file with `-f FILE`, or in \
                     `run.toml` where that leads here",
            ),
            _ => Diagnostic::at(
                at(),
                format!("`{name}` cannot be read: {}", planexe_base::fs::reason_of(&error)),
            ),
        })
    };
    let meta = fs::metadata(file).map_err(no)?;
    if meta.is_dir() {
        let fault = Diagnostic::at(at(), format!("`{name}` is a folder, wanted a file"));
        return Err(Box::new(fault.hint(format!("did you mean `-C {name}`?"))));
    }
    if !meta.is_file() {
        return Err(Box::new(Diagnostic::at(at(), format!("`{name}` is not a regular file"))));
    }
    let mut bytes = Vec::new();
    let opened = planexe_base::fs::open_named(file).map_err(|error| error.source);
    opened.and_then(|f| f.take(LARGEST_FILE + 1).read_to_end(&mut bytes)).map_err(no)?;
    toml_text::decode(bytes, file).map_err(|message| Box::new(Diagnostic::at(at(), message)))
}

struct Reader {
    sources: Vec<SourceFile>,
    read: BTreeSet<PathBuf>,
    allowed: Vec<PathBuf>,
    /// So many keys and values its files may hold beside those that were read.
    left: usize,
    faults: Vec<Diagnostic>,
}

impl Reader {
    /// The tree of a file and of all it includes; none if the file itself has syntax faults.
    fn read_tree(&mut self, file: &Path, text: String) -> Option<Node> {
        let source = self.sources.len() as u32;
        if let Ok(real) = file.canonicalize() {
            self.read.insert(real);
        }
        let text: Arc<str> = Arc::from(text);
        self.sources.push(SourceFile::new(file, text.clone()));
        let mut root = match toml_text::parse_within(&text, source, &mut self.left) {
            Ok(root) => root,
            Err(faults) => {
                self.faults.extend(faults);
                return None;
            }
        };
        let mut whole = true;
        let include = include_of(&root);
        for (pattern, place) in include {
            for path in self.included(source, file, &pattern, place) {
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                if !self.allowed.iter().any(|folder| real.starts_with(folder)) {
                    let parent = real.parent().map(shown_path).unwrap_or_default();
                    self.faults.push(
                        Diagnostic::at(
                            place,
                            format!("`{}` is outside the pipeline's folder", shown_path(&real)),
                        )
                        .wanted("not included")
                        .hint(format!("copy it here, or allow its folder: `--allow-outside {parent}`")),
                    );
                    whole = false;
                    continue;
                }
                if !self.read.insert(real) {
                    continue;
                }
                match read_file(&path) {
                    Err(mut fault) => {
                        // How to begin a project is of no use for a part of it.
                        fault.hint = None;
                        self.faults.push(fault.related(place, "included here"));
                        whole = false;
                    }
                    Ok(text) => match self.read_tree(&path, text) {
                        Some(other) => merge_file(&mut root, other, &mut self.faults),
                        None => whole = false,
                    },
                }
            }
        }
        // What a broken file holds is not known, so nothing further can be said.
        whole.then_some(root)
    }

    /// The files an entry of `include` names.
    fn included(&mut self, source: u32, file: &Path, pattern: &str, place: SourceSpan) -> Vec<PathBuf> {
        let fault = match included(file, pattern) {
            Ok((files, listed)) => {
                self.sources[source as usize].listed.extend(listed);
                return files;
            }
            Err(NotIncluded::Missing(path)) => {
                let near = near_file(&path)
                    .map(|near| Path::new(pattern).with_file_name(near).display().to_string());
                Diagnostic::at(place, format!("there is no `{}` to include", shown_path(&path)))
                    .wanted("no such file")
                    .maybe_hint(near.map(|near| format!("did you mean `{near}`?")))
            }
            Err(NotIncluded::NoPattern(why)) => {
                Diagnostic::at(place, format!("`{pattern}` is not a pattern: {why}"))
                    .wanted("wanted a path or a glob like \"stages/*.toml\"")
            }
        };
        self.faults.push(fault);
        Vec::new()
    }

    fn apply_profile(&mut self, root: &mut Node, options: &ReadOptions) {
        let Some(name) = &options.profile else { return };
        let profiles = root.get("profiles").and_then(Node::table);
        let known: Vec<String> = profiles.map(|all| all.keys().cloned().collect()).unwrap_or_default();
        let Some(profile) = profiles.and_then(|all| all.get(name)).map(|entry| entry.value.clone()) else {
            let hint = suggest(name, known.iter().map(String::as_str))
                .unwrap_or_else(|| format!("add a table `[profiles.{name}]`"));
            let message = format!("unknown profile `{name}`");
            self.faults.push(
                Diagnostic::at(key_path!["profiles"], message).on_key().wanted("no such profile").hint(hint),
            );
            return;
        };
        for (key, entry) in profile.table().into_iter().flatten() {
            match key.as_str() {
                "models" => {
                    for (model, over) in entry.value.table().into_iter().flatten() {
                        override_model(root, model, over, entry.key);
                    }
                }
                "defaults" | "vars" | "tiers" => {
                    for (inner, over) in entry.value.table().into_iter().flatten() {
                        put(root, &[key.as_str()], inner, over.clone(), entry.key);
                    }
                }
                _ => {}
            }
        }
    }

    fn apply_defines(&mut self, root: &mut Node, options: &ReadOptions) {
        if options.defines.is_empty() {
            return;
        }
        let source = self.sources.len() as u32;
        let mut text = String::new();
        let known: Vec<String> = root
            .get("vars")
            .and_then(Node::table)
            .map(|all| all.keys().cloned().collect())
            .unwrap_or_default();
        for (name, value) in &options.defines {
            text.push_str("-D ");
            let start = text.len() as u32;
            text.push_str(name);
            let key = SourceSpan { source, start, end: text.len() as u32 };
            text.push('=');
            let start = text.len() as u32;
            text.push_str(value);
            let place = SourceSpan { source, start, end: text.len() as u32 };
            text.push('\n');
            if !known.contains(name) {
                let hint = match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `-D {near}=…`?"),
                    None => {
                        format!("add `{name} = \"…\"` to `[vars]`, so that it has a value without `-D` too")
                    }
                };
                let have = list_of(known.iter().map(String::as_str)).unwrap_or_else(|| "no names".to_owned());
                self.faults.push(
                    Diagnostic::at(key, format!("`-D {name}`: no `{name}` in `[vars]`"))
                        .wanted(format!("`[vars]` has {have}"))
                        .hint(hint),
                );
                continue;
            }
            let node = Node { place, kind: scalar(value) };
            put(root, &["vars"], name, Entry { key, value: node }, key);
        }
        self.sources.push(SourceFile::new(COMMAND_LINE, text));
    }
}

/// The value of a `-D`: a TOML scalar, or a string.
fn scalar(value: &str) -> Kind {
    let text = format!("x = {value}");
    if !value.contains('\n')
        && let Ok(node) = toml_text::parse(&text, 0)
        && let Some(entries) = node.table()
        && entries.len() == 1
        && let Some(entry) = entries.get("x")
        && matches!(entry.value.kind, Kind::Text(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_))
        && !value.contains('#')
    {
        return entry.value.kind.clone();
    }
    Kind::Text(value.to_owned())
}

/// The name in the same folder that is nearest to one that is not there.
pub fn near_file(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let names: Vec<String> = fs::read_dir(parent)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    nearest(&name, names.iter().map(String::as_str)).map(str::to_owned)
}

/// The variables that models name for their keys, those of every profile among them.
fn keys_of(root: &Node) -> Vec<String> {
    let tables = |node: Option<&Node>| -> Vec<Node> {
        let entries = node.and_then(Node::table).into_iter().flatten();
        entries.map(|(_, entry)| entry.value.clone()).collect()
    };
    let mut models = tables(root.get("models"));
    for profile in tables(root.get("profiles")) {
        models.extend(tables(profile.get("models")));
    }
    let key = |model: &Node| match &model.get("api_key_env")?.kind {
        Kind::Text(name) => Some(name.clone()),
        _ => None,
    };
    models.iter().filter_map(key).collect()
}
