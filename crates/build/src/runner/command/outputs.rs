//! What a command left, and whether it is what it was to leave.

use std::path::{Path, PathBuf};

use super::super::{BuildContext, Job, failure};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FileKind, Signature};
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_pipeline::project::CommandSpec;
use serde::de::IgnoredAny;

/// The largest JSON that is looked into for whether it is whole.
const LARGEST_JSON: u64 = 64 << 20;

/// What a command left in an output's place. Nothing is said of what cannot be looked at, least of all that it is not
/// there.
fn left(path: &Path) -> Result<Option<(FileKind, Signature)>, Failure> {
    let found = fs::if_content(fs::kind_and_signature(path)).map(Option::flatten);
    found.map_err(|error| failure(FailureClass::Io, error.to_string()))
}

/// Every output must have been written, as a file.
pub(super) fn require_outputs(job: &Job, spec: &CommandSpec, writes: &[PathBuf]) -> Result<(), Failure> {
    for (n, (output, path)) in job.task.outputs.iter().zip(writes).enumerate() {
        let what = match left(path)? {
            // Of many items nobody sees that one came to nothing.
            Some((FileKind::File, signature)) if signature.size == 0 && job.task.item.is_some() => {
                "is empty; an item's command that has nothing to say writes a line that says so"
            }
            Some((FileKind::File, signature)) if signature.mode & 0o400 != 0 => continue,
            Some((FileKind::File, _)) => {
                "came as a file that its owner may not read; wanted mode 400 at least"
            }
            Some((FileKind::Dir, _)) => "came as a directory; wanted a file",
            Some((FileKind::Link, _)) => "came as a symbolic link; wanted a file",
            Some((FileKind::Other, _)) => "came as a pipe or a device; wanted a file",
            None if spec.in_place => "was not written",
            None if writes.len() > 1 => {
                return Err(failure(
                    FailureClass::Output,
                    format!("exit code 0, but `{output}` was not written; a command writes it to `$out.{n}`"),
                ));
            }
            None => {
                "was not written; a command writes to `$out`, or says `in_place = true`, or `stdout = true`"
            }
        };
        return Err(failure(FailureClass::Output, format!("exit code 0, but `{output}` {what}")));
    }
    Ok(())
}

/// What was read must still be what was given: a change meanwhile is stale, not done.
pub(super) fn require_same_inputs(ctx: &BuildContext, job: &Job) -> Result<(), Failure> {
    for record in job.prepared.records() {
        let now = ctx.index.digest_of_input(&ctx.project.input(&record.path));
        let now = now.map_err(|error| failure(FailureClass::Io, error.to_string()))?;
        if now.is_none_or(|(digest, _)| digest != record.blake3) {
            let mut failed = failure(
                FailureClass::InputChanged,
                format!("input `{}` changed while the command ran", record.path),
            );
            failed.recoverable = true;
            return Err(failed);
        }
    }
    Ok(())
}

/// Why the outputs are not all files with something in them, and JSON where their names say so.
pub(super) fn not_whole(job: &Job, writes: &[PathBuf]) -> Option<String> {
    job.task.outputs.iter().zip(writes).find_map(|(output, path)| {
        let output = style::clean(output);
        let wrong = match left(path) {
            Ok(Some((FileKind::File, it))) if it.size == 0 => "is empty",
            Ok(Some((FileKind::File, _))) if !output.ends_with(".json") => return None,
            Ok(Some((FileKind::File, _))) => match fs::if_content(fs::read_capped(path, LARGEST_JSON)) {
                Ok(Some(text)) if serde_json::from_slice::<IgnoredAny>(&text).is_ok() => return None,
                Ok(_) => "is not JSON",
                Err(error) => return Some(error.to_string()),
            },
            Ok(Some(_)) => "is no file",
            Ok(None) => "is missing",
            Err(failed) => return Some(failed.message.text),
        };
        Some(format!("output `{output}` {wrong}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_absent() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = fs::hold(dir.path()).expect("held");
        assert!(matches!(left(&dir.path().join("sub/out.txt")), Ok(None)));
        // No file system has such a name: an error, and one that says nothing of absence.
        let failed = left(&dir.path().join("x".repeat(300))).expect_err("it cannot be looked at");
        assert_eq!(failed.class, FailureClass::Io);
        assert!(failed.message.text.contains("name too long"), "{}", failed.message.text);
        drop(run);
    }
}
