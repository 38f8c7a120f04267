//! The graph of a run as a picture. A fan-out is one box with the counts of its items.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::layers::layout;
use super::{TONES, escape, tone, word};
use crate::views::{GraphNode, GraphView};
use planexe_base::record::State;
use planexe_base::style::{self, clean, truncate};

/// The style of graphs, beside [`TONES`].
pub(super) const STYLE: &str = include_str!("graph.css");

/// Columns of a name at most; the whole of it is in the title.
const NAME: usize = 30;
const HEIGHT: f64 = 42.0;
const MARGIN: f64 = 16.0;

/// The picture as a file of its own.
pub fn file(view: &GraphView) -> String {
    svg(view, None)
}

/// The picture. `links`: where the box of each task leads to, for a page that holds it; a file of its own has none, and
/// brings its style.
pub fn svg(view: &GraphView, links: Option<&HashMap<String, String>>) -> String {
    let lines: Vec<String> = view.nodes.iter().map(below).collect();
    let widths: Vec<f64> = view
        .nodes
        .iter()
        .zip(&lines)
        .map(|(node, line)| {
            let columns = style::width(&clean(&node.task)).min(NAME) as f64 * 7.0;
            (columns + 42.0).max(style::width(line) as f64 * 5.6 + 22.0).max(96.0)
        })
        .collect();
    let at: HashMap<&str, usize> =
        view.nodes.iter().enumerate().map(|(at, node)| (node.task.as_str(), at)).collect();
    let mut files: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    for edge in &view.edges {
        if let (Some(&from), Some(&to)) = (at.get(edge.from.as_str()), at.get(edge.to.as_str())) {
            files.entry((from, to)).or_default().extend(edge.file.as_deref());
        }
    }
    // Tasks stand in topological order, so each edge leads downward.
    let edges: Vec<(usize, usize)> = files.keys().copied().filter(|(from, to)| from < to).collect();
    let drawn = layout(&widths, HEIGHT, &edges);
    let head = if links.is_some() { 0.0 } else { 30.0 };
    let (width, height) = ((drawn.width + 2.0 * MARGIN).max(240.0), drawn.height + head + 2.0 * MARGIN);
    let name = escape(&view.pipeline);
    // The parts of a picture are nothing to a screen reader, so one with links is none.
    let role = if links.is_some() { "group" } else { "img" };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" role=\"{role}\" aria-labelledby=\"graph-title graph-desc\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\n<title id=\"graph-title\">{name}: graph of tasks</title>\n<desc id=\"graph-desc\">{}</desc>\n",
        escape(&description(view))
    );
    if links.is_none() {
        let _ = write!(
            text,
            "<style>\n{TONES}{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n<text class=\"head\" x=\"{MARGIN}\" y=\"{:.0}\">{name}<tspan class=\"sub\" dx=\"10\">{}</tspan></text>\n",
            MARGIN + 12.0,
            escape(&counted(view).join(", "))
        );
    }
    let _ = writeln!(
        text,
        "<g transform=\"translate({:.1} {:.1})\">",
        (width - drawn.width) / 2.0,
        MARGIN + head
    );
    for (from, to, points) in &drawn.edges {
        let read = &files[&(*from, *to)];
        let after = if read.is_empty() { " after" } else { "" };
        let critical =
            if view.nodes[*from].critical && view.nodes[*to].critical { " class=\"critical\"" } else { "" };
        let mut path = format!("M{:.1} {:.1}", points[0].0, points[0].1);
        for (n, pair) in points.windows(2).enumerate() {
            let ((x0, y0), (mut x1, mut y1)) = (pair[0], pair[1]);
            if n + 2 == points.len() {
                (x1, y1) = (x1, y1 - 5.0);
            }
            let middle = (y0 + y1) / 2.0;
            let _ = match x0 == x1 {
                true => write!(path, "V{y1:.1}"),
                false => write!(path, "C{x0:.1} {middle:.1} {x1:.1} {middle:.1} {x1:.1} {y1:.1}"),
            };
        }
        let told = match read.is_empty() {
            true => "after".to_owned(),
            false => read.join(", "),
        };
        let (x, y) = points[points.len() - 1];
        let _ = writeln!(
            text,
            "<g{critical}><title>{} → {}: {}</title><path class=\"edge{after}\" d=\"{path}\"/><path class=\"tip\" d=\"M{x:.1} {y:.1}l-3.5 -6h7z\"/></g>",
            escape(&view.nodes[*from].task),
            escape(&view.nodes[*to].task),
            escape(&told)
        );
    }
    for (n, node) in view.nodes.iter().enumerate() {
        let link = links.and_then(|links| links.get(&node.task));
        one(&mut text, node, drawn.places[n], widths[n], &lines[n], link);
    }
    text + "</g>\n</svg>\n"
}

fn one(
    text: &mut String,
    node: &GraphNode,
    (x, y): (f64, f64),
    width: f64,
    line: &str,
    link: Option<&String>,
) {
    // A fan-out may be done although some of its items failed.
    let partial = node.items.contains_key(&State::Failed) && node.state.is_some_and(State::is_complete);
    let tone = if partial { "warn" } else { node.state.map_or("off", tone) };
    let on_path = if node.critical { " critical" } else { "" };
    let name = clean(&node.task);
    let state = node.state.map(word).unwrap_or_default();
    let critical = if node.critical { "on the critical path" } else { "" };
    let told = [&node.task, state, &items(node), critical, &node.outputs.join(", ")].map(clean);
    let told: Vec<String> = told.into_iter().filter(|part| !part.is_empty()).collect();
    if let Some(link) = link {
        let _ = write!(text, "<a href=\"{}\">", escape(link));
    }
    let _ =
        write!(text, "<g transform=\"translate({x:.1} {y:.1})\"><title>{}</title>", escape(&told.join("\n")));
    if node.foreach {
        let _ = write!(
            text,
            "<rect class=\"box\" x=\"4\" y=\"4\" rx=\"6\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>"
        );
    }
    let _ = write!(
        text,
        "<rect class=\"box t-{tone}{on_path}\" rx=\"6\" width=\"{width:.1}\" height=\"{HEIGHT}\"/><rect class=\"side fill-{tone}\" x=\"0\" y=\"6\" width=\"4\" height=\"{:.0}\"/>",
        HEIGHT - 12.0
    );
    let _ = write!(
        text,
        "<text x=\"12\" y=\"17\">{}</text><text class=\"sub\" x=\"12\" y=\"31\">{}</text>",
        escape(&truncate(&name, NAME)),
        escape(line)
    );
    if let Some(state) = node.state {
        let _ = write!(
            text,
            "<text class=\"sign fill-{tone}\" x=\"{:.1}\" y=\"17\">{}</text>",
            width - 9.0,
            escape(state.glyph())
        );
    }
    let all: u32 = node.items.values().sum();
    let mut left = 12.0;
    for (state, count) in &node.items {
        let part = (width - 22.0) * f64::from(*count) / f64::from(all);
        let _ = write!(
            text,
            "<rect class=\"fill-{}\" x=\"{left:.1}\" y=\"35\" width=\"{part:.1}\" height=\"3\"/>",
            super::tone(*state)
        );
        left += part;
    }
    *text += if link.is_some() { "</g></a>\n" } else { "</g>\n" };
}

/// The second line of a box.
fn below(node: &GraphNode) -> String {
    match node.items.values().sum::<u32>() {
        0 if node.foreach => format!("{}, one for each item", node.recipe),
        0 => node.recipe.clone(),
        all => format!("{} × {all}: {}", node.recipe, items(node)),
    }
}

/// The items of a fan-out by state: `9 done, 1 failed`.
fn items(node: &GraphNode) -> String {
    let parts = node.items.iter().map(|(state, count)| format!("{count} {}", word(*state)));
    parts.collect::<Vec<_>>().join(", ")
}

/// The boxes by state.
fn counted(view: &GraphView) -> Vec<String> {
    let mut counts: BTreeMap<State, u64> = BTreeMap::new();
    view.nodes.iter().filter_map(|node| node.state).for_each(|state| *counts.entry(state).or_default() += 1);
    let all = style::count(view.nodes.len() as u64, "task");
    std::iter::once(all)
        .chain(counts.iter().map(|(state, count)| format!("{count} {}", word(*state))))
        .collect()
}

fn description(view: &GraphView) -> String {
    format!(
        "{}. From the top down: a task stands below those it needs; needs that others imply are not drawn.",
        counted(view).join(", ")
    )
}
