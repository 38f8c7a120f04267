//! The list of commands in `planexe --help`, in groups: there are too many of them for one list.

use std::fmt::Write as _;

use clap::Command;
use clap::builder::StyledStr;

use planexe_base::style::{Depth, Style};

/// Every command that is shown, once, under a heading. The order is that of use.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Build", &["build", "watch", "resume", "retry", "stop", "pause", "abort", "wait"]),
    (
        "Look at a run",
        &[
            "status",
            "explain",
            "show",
            "events",
            "failures",
            "usage",
            "files",
            "checkpoints",
            "gantt",
            "graph",
            "ui",
            "report",
            "trace",
        ],
    ),
    (
        "Change a run",
        &["edit-plan", "interview", "evidence", "clean", "touch", "done", "history", "restore", "diff"],
    ),
    ("Make and keep runs", &["new", "import", "execute", "list", "archive", "delete", "record", "gc"]),
    ("Work on a pipeline", &["check", "simulate", "complexity", "optimize", "schema"]),
    ("Set up", &["doctor", "keys", "mcp", "help"]),
];

/// Lines are broken here, whatever the terminal: what clap is given is not wrapped by it.
const COLUMNS: usize = 80;
/// Where what a command does begins.
const INDENT: usize = 15;
/// A space at which no line is broken.
const NO_BREAK: char = '\u{a0}';

/// The definition, with the list of its commands in groups.
pub(super) fn grouped(command: Command) -> Command {
    let styles = command.get_styles();
    let (heading, name) = (*styles.get_header(), *styles.get_literal());
    let lines = Style { depth: Depth::None, width: Some(COLUMNS) };
    let mut list = String::new();
    for (title, commands) in GROUPS {
        let _ = writeln!(list, "{heading}{title}:{heading:#}");
        for &word in commands {
            let told = lines.wrap(&format!("  {word:<12} {}", does(&command, word)), INDENT);
            let told = told.replace(NO_BREAK, " ");
            let _ = writeln!(list, "  {name}{word}{name:#}{}", &told[2 + word.len()..]);
        }
        list.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{heading}Options:{heading:#}\n{{options}}{{after-help}}"
    );
    command.help_template(StyledStr::from(template))
}

/// What a command does, with its other name.
fn does(command: &Command, word: &str) -> String {
    let Some(below) = command.find_subcommand(word) else {
        return "Show this text, or the help of a command".to_owned();
    };
    let mut text = below.get_about().map(ToString::to_string).unwrap_or_default();
    for alias in below.get_visible_aliases() {
        let _ = write!(text, " [alias:{NO_BREAK}{alias}]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_in_one_group() {
        let definition = crate::cli::definition();
        let mut shown: Vec<&str> =
            definition.get_subcommands().filter(|it| !it.is_hide_set()).map(Command::get_name).collect();
        shown.push("help");
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, commands)| *commands).copied().collect();
        shown.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, shown);
    }

    #[test]
    fn no_line_of_the_list_is_wider_than_a_terminal() {
        let help = crate::cli::definition().render_help().to_string();
        let list =
            help.split("\nBuild:\n").nth(1).and_then(|rest| rest.split("\nOptions:\n").next()).unwrap();
        assert!(list.lines().count() > 40);
        assert!(list.lines().all(|line| planexe_base::style::width(line) <= COLUMNS), "{list}");
    }
}
