//! `planexe man`: writes the man pages, one for each command.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;

use crate::commands::Session;
use planexe_base::exit::{self, Error};
use planexe_base::fs::{self, Durability};

/// What `planexe man` takes.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// An existing folder to write to
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Writes the man pages of a command and its subcommands.
pub fn run(session: &Session, args: &ManArgs, command: clap::Command) -> Result<u8, Error> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let pages = write(command, &args.dir)?;
    session.say(&format!("planexe: wrote {pages} man pages to {}", args.dir.display()));
    Ok(exit::DONE)
}

fn write(mut command: clap::Command, dir: &Path) -> Result<usize, Error> {
    let mut pages = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages += write(below.clone(), dir)?;
    }
    let version = concat!("planexe ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(version).manual("planexe manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let usage = command.render_usage().to_string();
    page.extend_from_slice(synopsis(&usage).as_bytes());
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let after = command.get_after_long_help().or(command.get_after_help());
    page.extend_from_slice(sections(&after.map(ToString::to_string).unwrap_or_default()).as_bytes());
    fs::write_atomic(&dir.join(man.get_filename()), &page, Durability::Unsynced)?;
    Ok(pages)
}

fn synopsis(usage: &str) -> String {
    format!(".SH SYNOPSIS\n{}\n", escaped(usage.trim_start_matches("Usage:").trim()))
}

/// The text after the options: a line that ends in a colon heads a section, indented lines stay as they are, the
/// rest is filled.
fn sections(text: &str) -> String {
    let mut page = String::new();
    let mut as_is = false;
    for line in text.lines() {
        let indented = line.starts_with("  ");
        if indented != as_is {
            page += if indented { ".nf\n" } else { ".fi\n" };
            as_is = indented;
        }
        match line.strip_suffix(':') {
            Some("Exit codes") => page += ".SH EXIT STATUS\n",
            Some(heading) if !indented => page += &format!(".SH {}\n", escaped(&heading.to_uppercase())),
            _ if line.is_empty() => page += ".PP\n",
            _ => page += &format!("{}\n", escaped(line.strip_prefix("  ").unwrap_or(line))),
        }
    }
    if as_is {
        page += ".fi\n";
    }
    page
}

fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_after_the_options_becomes_sections() {
        assert_eq!(
            sections("Examples:\n  planexe build -n   x\n  .a\\b\n\nSaid in words."),
            ".SH EXAMPLES\n.nf\nplanexe build \\-n   x\n\\&.a\\eb\n.fi\n.PP\nSaid in words.\n"
        );
    }
}
