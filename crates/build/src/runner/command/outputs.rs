//! What a command left, and whether it is what it was to leave.

use std::path::PathBuf;

use super::super::{BuildContext, Job, failure};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FileKind};
use planexe_base::record::Failure;
use planexe_base::style;
use planexe_pipeline::project::CommandSpec;

/// The largest JSON that is looked into for whether it is whole.
const LARGEST_JSON: u64 = 64 << 20;

/// Every output must have been written, as a file.
pub(super) fn require_outputs(job: &Job, spec: &CommandSpec, writes: &[PathBuf]) -> Result<(), Failure> {
    for (n, (output, path)) in job.task.outputs.iter().zip(writes).enumerate() {
        let what = match fs::kind_and_signature(path) {
            // Of many items nobody sees that one came to nothing.
            Ok(Some((FileKind::File, signature))) if signature.size == 0 && job.task.item.is_some() => {
                "is empty; an item's command that has nothing to say writes a line that says so"
            }
            Ok(Some((FileKind::File, signature))) if signature.mode & 0o400 != 0 => continue,
            Ok(Some((FileKind::File, _))) => {
                "came as a file that its owner may not read; wanted mode 400 at least"
            }
            Ok(Some((FileKind::Dir, _))) => "came as a directory; wanted a file",
            Ok(Some((FileKind::Link, _))) => "came as a symbolic link; wanted a file",
            Ok(Some((FileKind::Other, _))) => "came as a pipe or a device; wanted a file",
            Ok(None) | Err(_) if spec.in_place => "was not written",
            Ok(None) | Err(_) if writes.len() > 1 => {
                return Err(failure(
                    FailureClass::Output,
                    format!("exit code 0, but `{output}` was not written; a command writes it to `$out.{n}`"),
                ));
            }
            Ok(None) | Err(_) => {
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
        let wrong = match fs::kind_and_signature(path) {
            Ok(Some((FileKind::File, it))) if it.size == 0 => "is empty",
            Ok(Some((FileKind::File, _))) => {
                let json = || {
                    let text = fs::read_capped(path, LARGEST_JSON).ok();
                    text.is_some_and(|text| serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok())
                };
                match output.ends_with(".json") && !json() {
                    true => "is not JSON",
                    false => return None,
                }
            }
            Ok(Some(_)) => "is no file",
            Ok(None) => "is missing",
            Err(_) => "cannot be read",
        };
        Some(format!("output `{output}` {wrong}"))
    })
}
