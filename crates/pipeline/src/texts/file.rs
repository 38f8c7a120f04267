//! Finding and reading the files a manifest names.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{LARGEST, Loader, TextFile};
use crate::manifest::diagnostic::{At, Diagnostic, shown_path};
use crate::manifest::{TablePath, near_file};
use planexe_base::style::shell_word;

/// What a `recorded` model plays from.
pub(super) const ANSWERS: &str = "file of answers";

impl Loader<'_> {
    /// Reads a file the manifest names, once.
    pub(super) fn resolve(&mut self, at: &TablePath, written: &str, what: &str) -> Option<&TextFile> {
        if self.missing.contains(written) {
            // Told once, at the first place; others are shown there too.
            let again = self.faults.iter_mut().find(|fault| fault.message.contains(&format!("`{written}`")));
            if let Some(fault) = again
                && fault.related.len() < 3
                && fault.path() != Some(at)
            {
                fault.related.push((At::Path(at.clone()), "also named here".to_owned()));
            }
            return None;
        }
        if !self.texts.files.contains_key(written) {
            match self.read(at, written, what) {
                Ok(file) => {
                    self.texts.files.insert(written.to_owned(), file);
                }
                Err(fault) => {
                    self.missing.insert(written.to_owned());
                    self.faults.push(*fault);
                    return None;
                }
            }
        }
        self.texts.files.get(written)
    }

    /// Where a file the manifest names lies, and, links followed, really lies.
    pub(super) fn locate(
        &self,
        at: &TablePath,
        written: &str,
        what: &str,
    ) -> Result<(PathBuf, PathBuf), Box<Diagnostic>> {
        if written.trim().is_empty() {
            return Err(Box::new(
                Diagnostic::at(at, format!("`{at}` is empty")).wanted(format!("wanted the path of a {what}")),
            ));
        }
        if written.contains('\0') {
            return Err(Box::new(
                Diagnostic::at(at, format!("`{at}` holds a NUL character")).wanted("wanted a path"),
            ));
        }
        let path = self.manifest.folder.join(written);
        let real = path.canonicalize();
        let absent = |error: &std::io::Error| {
            matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
            )
        };
        if let Err(error) = &real
            && error.kind() != ErrorKind::PermissionDenied
            && !absent(error)
        {
            let why = planexe_base::fs::reason_of(error);
            return Err(Box::new(Diagnostic::at(at, format!("`{written}` cannot be read: {why}"))));
        }
        if let Err(error) = &real
            && error.kind() == ErrorKind::PermissionDenied
        {
            return Err(Box::new(
                Diagnostic::at(at, format!("`{written}` cannot be read: permission denied"))
                    .wanted(format!("wanted a {what}"))
                    .hint("the file and the folders it lies in must let you read them"),
            ));
        }
        let Ok(real) = real else {
            let near = near_file(&path)
                .map(|near| Path::new(written).with_file_name(near).display().to_string())
                .or_else(|| self.elsewhere(written));
            let fault = Diagnostic::at(at, format!("there is no {what} `{written}`")).wanted("no such file");
            return Err(Box::new(fault.hint(match near {
                _ if what == ANSWERS => {
                    format!("`planexe record {}` writes one from a finished run", shell_word(written))
                }
                Some(near) => format!("did you mean `{near}`?"),
                None if what == "prompt" || what == "template" || what == "system prompt" => format!(
                    "paths are relative to `{}`; a text with a space or `{{{{` in it would be taken as it is",
                    shown_path(&self.manifest.folder)
                ),
                None => format!("paths are relative to `{}`", shown_path(&self.manifest.folder)),
            })));
        };
        if !self.allowed.iter().any(|folder| real.starts_with(folder)) {
            let link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
            let leads = if link { format!(", a link to `{}`,", shown_path(&real)) } else { String::new() };
            return Err(Box::new(
                Diagnostic::at(at, format!("`{written}`{leads} is outside the pipeline's folder"))
                    .wanted(format!("wanted a file in `{}`", shown_path(&self.manifest.folder)))
                    .hint(format!(
                        "copy it here, or allow its folder: `--allow-outside {}`",
                        real.parent().map(shown_path).unwrap_or_default()
                    )),
            ));
        }
        match fs::metadata(&real) {
            Ok(meta) if meta.is_file() => Ok((path, real)),
            Ok(meta) => {
                let kind = if meta.is_dir() { "a folder" } else { "not a regular file" };
                Err(Box::new(
                    Diagnostic::at(at, format!("`{written}` is {kind}")).wanted(format!("wanted a {what}")),
                ))
            }
            Err(error) => Err(Box::new(Diagnostic::at(
                at,
                format!("`{written}` cannot be read: {}", planexe_base::fs::reason_of(&error)),
            ))),
        }
    }

    fn read(&self, at: &TablePath, written: &str, what: &str) -> Result<TextFile, Box<Diagnostic>> {
        let (path, real) = self.locate(at, written, what)?;
        let unreadable = |error: std::io::Error| {
            Diagnostic::at(at, format!("`{written}` cannot be read: {}", planexe_base::fs::reason_of(&error)))
        };
        let mut bytes = Vec::new();
        planexe_base::fs::open_named(&real)
            .map_err(|error| error.source)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Box::new(Diagnostic::at(
                at,
                format!("`{written}` is larger than {} MiB", LARGEST >> 20),
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Diagnostic::at(at, format!("`{written}` is not UTF-8 (line {line})"))
                .wanted("wanted a text file in UTF-8")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Ok(TextFile { written: written.to_owned(), path, text: Arc::from(text) })
    }

    /// A file of the same name elsewhere in the pipeline's folder, two levels down at most.
    fn elsewhere(&self, written: &str) -> Option<String> {
        let name = Path::new(written).file_name()?;
        let folder = &self.manifest.folder;
        if folder.join(name).is_file() {
            return Some(name.to_string_lossy().into_owned());
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).ok()?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && !entry.file_name().to_string_lossy().starts_with('.')
            {
                folders.push(entry.path());
            }
        }
        folders.sort();
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())?;
        Some(found.strip_prefix(folder).unwrap_or(&found).to_string_lossy().into_owned())
    }
}
