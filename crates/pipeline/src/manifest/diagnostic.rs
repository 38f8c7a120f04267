//! What is wrong with a manifest, as data, and its rendering for people and for programs.

mod excerpt;
mod near;

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin as FileOrigin, Renderer, Snippet};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::place::{Origin, SourceSpan, TablePath, line_column};
use excerpt::{Excerpt, LONGEST_LINE, Spot};

pub use excerpt::printable;
pub use near::{list_of, nearest, suggest, worth_a_search};

/// A fault as JSON has it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FaultView {
    /// The file it is in.
    file: Option<String>,
    /// From 1.
    line: Option<usize>,
    /// From 1.
    column: Option<usize>,
    /// `error` or `warning`.
    level: &'static str,
    /// The key it is about.
    key: Option<String>,
    /// What was found.
    message: String,
    /// What was wanted.
    wanted: Option<String>,
    /// What may help.
    hint: Option<String>,
    /// Other places that belong to it.
    related: Vec<RelatedView>,
}

/// A place that belongs to a fault, as JSON has it.
#[derive(Debug, Serialize, JsonSchema)]
struct RelatedView {
    /// The file.
    file: String,
    /// From 1.
    line: usize,
    /// From 1.
    column: usize,
    /// What is there.
    label: String,
}

/// Where a fault is.
#[derive(Debug, Clone)]
pub enum At {
    /// At a key path of the manifest.
    Path(TablePath),
    /// At a place in one of the files read.
    Span(SourceSpan),
    /// In another file, whose text is at hand.
    Text {
        /// The file.
        file: PathBuf,
        /// Its text.
        text: Arc<str>,
        /// The bytes at fault.
        span: Range<usize>,
    },
    /// In a file as a whole.
    File(PathBuf),
}

/// One thing wrong: where, what, what was wanted, and something to type.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// Where.
    pub at: At,
    /// Whether the key is marked rather than its value.
    pub on_key: bool,
    /// What was found, in a line: lower case, names in backticks.
    pub message: String,
    /// What was wanted, written beside the caret.
    pub wanted: Option<String>,
    /// Something to type or do.
    pub hint: Option<String>,
    /// Other places that matter, each with a few words.
    pub related: Vec<(At, String)>,
    /// True if the line holds a secret and must not be shown.
    pub secret: bool,
    /// Most likely a mistake, but the pipeline can be built.
    pub warning: bool,
}

impl From<TablePath> for At {
    fn from(path: TablePath) -> At {
        At::Path(path)
    }
}

impl From<&TablePath> for At {
    fn from(path: &TablePath) -> At {
        At::Path(path.clone())
    }
}

impl From<SourceSpan> for At {
    fn from(place: SourceSpan) -> At {
        At::Span(place)
    }
}

impl Diagnostic {
    /// A fault at a key path (or place), its value marked.
    pub fn at(at: impl Into<At>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            at: at.into(),
            on_key: false,
            message: message.into(),
            wanted: None,
            hint: None,
            related: Vec::new(),
            secret: false,
            warning: false,
        }
    }

    /// The same, with the key marked instead of the value.
    #[must_use]
    pub fn on_key(mut self) -> Diagnostic {
        self.on_key = true;
        self
    }

    /// What was wanted: shown beside the caret.
    #[must_use]
    pub fn wanted(mut self, wanted: impl Into<String>) -> Diagnostic {
        self.wanted = Some(wanted.into());
        self
    }

    /// Something to type or do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// A hint, if there is one.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Diagnostic {
        if hint.is_some() {
            self.hint = hint;
        }
        self
    }

    /// Another place that matters, with a few words.
    #[must_use]
    pub fn related(mut self, at: impl Into<At>, label: impl Into<String>) -> Diagnostic {
        self.related.push((at.into(), label.into()));
        self
    }

    /// Keeps the line itself from being shown.
    #[must_use]
    pub fn secret(mut self) -> Diagnostic {
        self.secret = true;
        self
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(mut self) -> Diagnostic {
        self.warning = true;
        self
    }

    /// The key path, if that is how the fault is placed.
    pub fn path(&self) -> Option<&TablePath> {
        match &self.at {
            At::Path(path) => Some(path),
            _ => None,
        }
    }
}

/// All that is wrong, with the files it is wrong in.
#[derive(Clone)]
pub struct Diagnostics {
    /// The faults, in the order of the files.
    pub list: Vec<Diagnostic>,
    /// Faults beyond the limit, counted only.
    pub more: usize,
    origin: Arc<Origin>,
}

/// Most faults that are shown.
const MOST: usize = 100;

/// A name, or other text between quotes, that is longer than this in characters is cut to [`SHOWN`]: paths are not.
const LONGEST_SHOWN: usize = 400;
const SHOWN: usize = 80;

impl Diagnostics {
    /// Faults found in a manifest's files, put in order.
    pub fn new(origin: Arc<Origin>, mut list: Vec<Diagnostic>) -> Diagnostics {
        let order = |fault: &Diagnostic| match &fault.at {
            At::Path(path) => match origin.place(path, fault.on_key) {
                Some(place) => (0, place.source, place.start),
                None => (0, 0, 0),
            },
            At::Span(place) => (0, place.source, place.start),
            At::Text { .. } | At::File(_) => (1, 0, 0),
        };
        list.sort_by_key(order);
        hide_secrets(&origin, &mut list);
        let mut seen = std::collections::HashSet::new();
        list.retain(|fault| {
            let place = match &fault.at {
                At::Text { file, span, .. } => Some((file.clone(), span.start)),
                At::File(file) => Some((file.clone(), 0)),
                At::Path(_) | At::Span(_) => None,
            };
            seen.insert((order(fault), place, fault.message.clone()))
        });
        let more = list.len().saturating_sub(MOST);
        list.truncate(MOST);
        list.iter_mut().for_each(shorten);
        Diagnostics { list, more, origin }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len() + self.more
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// As compilers show them: message, file and line, the line with carets, help. Ends in a newline.
    pub fn render(&self, colour: bool, width: usize) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(width.max(60));
        let mut out = String::new();
        for fault in &self.list {
            let _ = writeln!(out, "{}\n", self.render_one(fault, &renderer).trim_end());
        }
        if self.more > 0 {
            let _ = writeln!(out, "and {} more faults", self.more);
        }
        out
    }

    fn render_one(&self, fault: &Diagnostic, renderer: &Renderer) -> String {
        let title = printable(&fault.message);
        let wanted = fault.wanted.as_deref().map(printable);
        let hint = fault.hint.as_deref().map(printable);
        let spot = self.spot(&fault.at, fault.on_key);
        let level = if fault.warning { Level::WARNING } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(title.as_str()));
        // Places of one file are drawn together, in the order of its lines.
        let mut marks: Vec<(Spot<'_>, AnnotationKind, Option<String>)> = Vec::new();
        let mut bare = None;
        match spot {
            Some(spot) if fault.secret || !spot.can_be_drawn() => bare = Some(spot),
            Some(spot) => marks.push((spot, AnnotationKind::Primary, wanted.clone())),
            None => {}
        }
        for (at, label) in &fault.related {
            if let Some(other) = self.spot(at, true).filter(Spot::can_be_drawn) {
                marks.push((other, AnnotationKind::Context, Some(printable(label))));
            }
        }
        let mut files: Vec<&str> = Vec::new();
        for (spot, ..) in &marks {
            if !files.contains(&spot.file.as_str()) {
                files.push(&spot.file);
            }
        }
        let mut excerpts: Vec<(&str, Excerpt, Vec<usize>)> = Vec::new();
        for file in files {
            let of_file: Vec<usize> = (0..marks.len()).filter(|&index| marks[index].0.file == file).collect();
            let near = |group: &[usize]| {
                let spans: Vec<&Spot<'_>> = group.iter().map(|&index| &marks[index].0).collect();
                Excerpt::new(&spans)
            };
            match near(&of_file) {
                Some(excerpt) => excerpts.push((file, excerpt, of_file)),
                // Too far apart for one drawing.
                None => {
                    for index in of_file {
                        excerpts.extend(near(&[index]).map(|excerpt| (file, excerpt, vec![index])));
                    }
                }
            }
        }
        if let Some(spot) = &bare {
            let mut origin = FileOrigin::path(spot.file.as_str());
            if !spot.text.is_empty() {
                let (line, column) = line_column(spot.text, spot.span.start);
                origin = origin.line(line).char_column(column);
            }
            group = group.element(origin);
            if let Some(wanted) = &wanted {
                group = group.element(Level::NOTE.message(wanted.as_str()));
            }
        }
        for (file, excerpt, indices) in &excerpts {
            let mut snippet =
                Snippet::source(excerpt.text.as_str()).line_start(excerpt.line).path(*file).fold(true);
            for (span, index) in excerpt.spans.iter().zip(indices) {
                let (_, kind, label) = &marks[*index];
                snippet = snippet.annotation(kind.span(span.clone()).label(label.as_deref()));
            }
            group = group.element(snippet);
        }
        if let Some(hint) = &hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    /// The same for programs: `[{file, line, column, key, message, wanted, hint}]`.
    pub fn to_json(&self) -> Value {
        let faults = self.list.iter().map(|fault| {
            let spot = self.spot(&fault.at, fault.on_key);
            let place = spot.as_ref().filter(|spot| !spot.text.is_empty());
            let (line, column) = match place {
                Some(spot) => {
                    let (line, column) = line_column(spot.text, spot.span.start);
                    (Some(line), Some(column))
                }
                None => (None, None),
            };
            let related = fault
                .related
                .iter()
                .filter_map(|(at, label)| {
                    let spot = self.spot(at, true)?;
                    let (line, column) = line_column(spot.text, spot.span.start);
                    Some(RelatedView { file: spot.file, line, column, label: label.clone() })
                })
                .collect();
            FaultView {
                file: spot.as_ref().map(|spot| spot.file.clone()),
                line,
                column,
                level: if fault.warning { "warning" } else { "error" },
                key: fault.path().map(|path| with_short_names(&path.to_string())),
                message: fault.message.clone(),
                wanted: fault.wanted.clone(),
                hint: fault.hint.clone(),
                related,
            }
        });
        serde_json::to_value(faults.collect::<Vec<_>>()).unwrap_or_default()
    }

    fn spot<'a>(&'a self, at: &'a At, on_key: bool) -> Option<Spot<'a>> {
        let from_place = |place: SourceSpan| {
            let source = self.origin.sources.get(place.source as usize)?;
            Some(Spot {
                file: shown_path(&source.path),
                text: &source.text,
                span: place.start as usize..place.end as usize,
            })
        };
        match at {
            At::Path(path) => from_place(self.origin.place(path, on_key).unwrap_or(SourceSpan {
                source: 0,
                start: 0,
                end: 0,
            })),
            At::Span(place) => from_place(*place),
            At::Text { file, text, span } => Some(Spot { file: shown_path(file), text, span: span.clone() }),
            At::File(file) => Some(Spot { file: shown_path(file), text: "", span: 0..0 }),
        }
    }
}

/// Names in the texts of a fault have a length that can be read.
fn shorten(fault: &mut Diagnostic) {
    let related = fault.related.iter_mut().map(|(_, label)| label);
    let texts =
        [&mut fault.message].into_iter().chain(&mut fault.wanted).chain(&mut fault.hint).chain(related);
    for text in texts.filter(|text| text.len() > LONGEST_SHOWN) {
        *text = with_short_names(text);
    }
}

/// A text with each long name in it, between backticks or quotes, cut; and with no more than can be read.
fn with_short_names(text: &str) -> String {
    let mut short = String::new();
    for piece in text.split_inclusive(['`', '"']) {
        if short.len() > LONGEST_LINE {
            short.push('…');
            break;
        }
        match piece.char_indices().nth(LONGEST_SHOWN) {
            Some(_) => {
                let cut = piece.char_indices().nth(SHOWN).map_or(piece.len(), |(at, _)| at);
                short.push_str(&piece[..cut]);
                short.push('…');
                short.extend(piece.chars().next_back().filter(|last| matches!(last, '`' | '"')));
            }
            None => short.push_str(piece),
        }
    }
    short
}

/// A line that holds a secret is not shown for another fault either.
fn hide_secrets(origin: &Origin, list: &mut [Diagnostic]) {
    let line = |fault: &Diagnostic| {
        let place = match &fault.at {
            At::Path(path) => origin.place(path, fault.on_key)?,
            At::Span(place) => *place,
            At::Text { .. } | At::File(_) => return None,
        };
        let source = origin.sources.get(place.source as usize)?;
        Some((place.source, source.line_column(place.start as usize).0))
    };
    let secret: Vec<(u32, usize)> = list.iter().filter(|fault| fault.secret).filter_map(line).collect();
    if secret.is_empty() {
        return;
    }
    for fault in list.iter_mut() {
        if line(fault).is_some_and(|line| secret.contains(&line)) {
            fault.secret = true;
        }
        fault.related.retain(|(at, _)| {
            let other = Diagnostic { on_key: true, ..Diagnostic::at(at.clone(), "") };
            line(&other).is_none_or(|line| !secret.contains(&line))
        });
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false, 110))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false, 110).trim_end())
    }
}

impl std::error::Error for Diagnostics {}

/// A path relative to the current directory where that is shorter, safe to show.
pub fn shown_path(path: &Path) -> String {
    let relative = std::env::current_dir().ok().and_then(|here| {
        path.strip_prefix(&here).ok().map(Path::to_path_buf).or_else(|| {
            let here = here.canonicalize().ok()?;
            path.strip_prefix(here).ok().map(Path::to_path_buf)
        })
    });
    let shown = relative.as_deref().unwrap_or(path);
    let shown = if shown.as_os_str().is_empty() { Path::new(".") } else { shown };
    printable(&shown.display().to_string()).replace('\n', "\u{240a}")
}
