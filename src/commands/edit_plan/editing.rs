//! The text of the plan while it is edited: a copy in `.planexe/edit/`, an editor, and signals meanwhile.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT};

use crate::commands::Session;
use planexe_base::children::Family;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::process::LAST_GRACE;
use planexe_base::signals::{self, Signals};
use planexe_base::style::{clean, shell_word};
use planexe_llm::keys;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::open::Opened;
use planexe_store::lock;

/// How often it is looked whether the editor has ended, or a signal came.
const LOOK: Duration = Duration::from_millis(40);

/// A copy of the plan to be edited, gone with this value.
pub(super) struct Edit {
    /// Where the copy is.
    pub(super) path: PathBuf,
    /// Nobody else has the new text: it was typed, or came by standard input.
    is_only_one: bool,
    /// The run whose lock names this process as its owner.
    announced: Option<PathBuf>,
}

impl Edit {
    /// Puts the copy down. With `elsewhere` nothing is written into the run.
    pub(super) fn begin(
        session: &Session,
        opened: &Opened,
        plan: &str,
        old: &[u8],
        elsewhere: bool,
    ) -> Result<Edit, Error> {
        let dir = match elsewhere {
            true => std::env::temp_dir().join(format!("planexe-edit-{}", uuid::Uuid::now_v7().simple())),
            false => opened.store.planexe_subdir("edit")?,
        };
        fs::make_dirs(&dir, Durability::Unsynced)?;
        let path = dir.join(Path::new(plan).file_name().unwrap_or_default());
        if let Some(left) = fs::read_optional(&path)?
            && left != old
        {
            // Somebody's work, from an edit that was cut short.
            let kept = set_aside(&path)?;
            let kept = kept.strip_prefix(opened.store.run_dir()).unwrap_or(&kept).display();
            session.complain(&format!("warning: an edit that was cut short is kept in `{kept}`"));
        }
        fs::write_atomic(&path, old, Durability::Unsynced)?;
        let announced = (!elsewhere).then(|| opened.store.run_dir().to_owned());
        Ok(Edit { path, is_only_one: false, announced })
    }

    /// The new text: that of a file, or what an editor makes of the copy. A signal ends planexe, until
    /// [`finish_in_peace`]; Ctrl-C is the editor's while it runs.
    pub(super) fn new_text(
        &mut self,
        session: &Session,
        from: Option<&Path>,
        old: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let received = signals::listen()?;
        let Some(from) = from else {
            received.beside_a_program(true);
            let ended = edit_by_hand(session, &self.path, &received);
            received.beside_a_program(false);
            if let Some(signal) = ended? {
                self.end_with_the_editor(session, old, signal);
            }
            self.is_only_one = true;
            self.leave_on(received)?;
            return Ok(fs::read(&self.path)?);
        };
        self.is_only_one = from == Path::new("-");
        self.leave_on(received)?;
        let new = match self.is_only_one {
            true => read_standard_input()?,
            false => {
                fs::linked::read(from).map_err(|error| Error::usage(error.to_string()).code("no_file"))?
            }
        };
        fs::write_atomic(&self.path, &new, Durability::Unsynced)?;
        Ok(new)
    }

    /// Ends planexe, whose editor was told to end. What was saved in it is left for the next edit to find.
    fn end_with_the_editor(&self, session: &Session, old: &[u8], signal: i32) -> ! {
        if fs::read(&self.path).is_ok_and(|saved| saved == old) {
            remove(&self.path);
        } else {
            session.say(&format!("the plan is as it was; the edit is kept in `{}`", shown_path(&self.path)));
        }
        leave(self.announced.as_deref(), signal)
    }

    /// Has signals end planexe on the spot. Who types Ctrl-C wants the text no more; one that is ended otherwise
    /// leaves it, for the next edit to find.
    fn leave_on(&self, received: Signals) -> Result<(), Error> {
        LEAVES.store(true, Ordering::SeqCst);
        let (path, announced) = (self.path.clone(), self.announced.clone());
        let text_goes = !self.is_only_one;
        let listener = move || {
            for signal in received.forever() {
                if LEAVES.load(Ordering::SeqCst) {
                    if text_goes || signal == SIGINT {
                        remove(&path);
                    }
                    leave(announced.as_deref(), signal);
                }
            }
        };
        std::thread::Builder::new().name("leaving".into()).spawn(listener)?;
        Ok(())
    }

    /// An error after which the plan is as it was: a text that nobody else has is kept, and it is said where.
    pub(super) fn keep_text(&self, error: Error) -> Error {
        if !self.is_only_one {
            return error;
        }
        match set_aside(&self.path) {
            Ok(kept) => error.hint(format!(
                "the new text is kept: `planexe edit-plan --set {}`",
                shell_word(&shown_path(&kept))
            )),
            Err(_) => error,
        }
    }
}

impl Drop for Edit {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Ends planexe by a signal, and is the owner of the run's lock no more.
fn leave(announced: Option<&Path>, signal: i32) -> ! {
    if let Some(run) = announced {
        lock::forget_owner(run);
    }
    std::process::exit(i32::from(exit::of_signal(signal)))
}

/// Removes the copy, and its folder if nothing else is in it.
fn remove(path: &Path) {
    let _ = fs::remove(path);
    if let Some(dir) = path.parent() {
        let _ = fs::remove_empty_dir(dir);
    }
}

/// Keeps a text beside itself, under a name that nothing has yet; once, however often it is tried.
fn set_aside(path: &Path) -> Result<PathBuf, FsError> {
    let mut n = 1;
    loop {
        let mut kept = path.as_os_str().to_owned();
        kept.push(".unfinished");
        if n > 1 {
            kept.push(format!("-{n}"));
        }
        let kept = PathBuf::from(kept);
        if fs::kind(&kept)?.is_none() {
            fs::rename(path, &kept, Durability::Unsynced)?;
            return Ok(kept);
        }
        let same = |there: Vec<u8>| fs::read(path).is_ok_and(|new| new == there);
        if fs::read(&kept).is_ok_and(same) {
            fs::remove(path)?;
            return Ok(kept);
        }
        n += 1;
    }
}

/// The largest plan that is taken from standard input.
const MOST: u64 = 64 << 20;

fn read_standard_input() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::usage("standard input has more than 64 MiB: nothing was changed"));
    }
    Ok(bytes)
}

/// Has the user edit a file; the signal that ended it, if one did.
fn edit_by_hand(session: &Session, path: &Path, received: &Signals) -> Result<Option<i32>, Error> {
    let named = |name: &str| session.variable(name).filter(|editor| !editor.trim().is_empty());
    let editor = match named("VISUAL").or_else(|| named("EDITOR")) {
        Some(editor) => editor,
        None if session.in_is_terminal => "vi".to_owned(),
        None => {
            return Err(Error::usage("there is no editor: neither VISUAL nor EDITOR is set")
                .code("no_editor")
                .hint("`--set FILE` takes the new text from a file"));
        }
    };
    // As git does it: the variable may hold arguments.
    let mut command = Command::new("sh");
    keys::hide_from(&mut command, &[]);
    command.arg("-c").arg(format!("{editor} \"$@\"")).arg(&editor).arg(path);
    if !session.in_is_terminal {
        command.stdin(Stdio::null());
    }
    // Data on standard output is not the editor's, unless it draws on the same terminal.
    if !session.out_is_terminal() {
        command.stdout(io::stderr());
    }
    let why = match command.spawn().and_then(|editor| editor_to_its_end(editor, received)) {
        Ok((_, Some(signal))) => return Ok(Some(signal)),
        Ok((status, None)) if status.success() => return Ok(None),
        Ok((status, None)) => format!("failed ({status})"),
        Err(error) => format!("cannot be started: {error}"),
    };
    let message = format!("the editor `{}` {why}: nothing was changed", clean(&editor));
    Err(Error::new(Kind::Task, message).code("editor_failed"))
}

/// Waits for the editor. A signal is passed on to it; it is killed if it does not go in time, since planexe has to go.
fn editor_to_its_end(mut editor: Child, received: &Signals) -> io::Result<(ExitStatus, Option<i32>)> {
    let mut told: Option<(Family, i32, Instant)> = None;
    loop {
        let status = editor.try_wait()?;
        match (&told, status) {
            (None, Some(status)) => return Ok((status, None)),
            (Some((family, signal, at)), status) => {
                let is_over = at.elapsed() > LAST_GRACE;
                if is_over {
                    family.signal(Signal::KILL);
                }
                match status {
                    Some(status) if is_over || !family.is_left() => return Ok((status, Some(*signal))),
                    _ => {}
                }
            }
            (None, None) => {}
        }
        if let Some(signal) = received.within(LOOK)
            && told.is_none()
            && status.is_none()
        {
            let family = Family::new(&editor);
            family.signal(if signal == SIGHUP { Signal::HUP } else { Signal::TERM });
            told = Some((family, signal, Instant::now()));
        }
    }
}

/// Whether a signal ends planexe on the spot: nothing was changed yet.
static LEAVES: AtomicBool = AtomicBool::new(false);

/// From now on the plan is changed: a signal does not come between.
pub(super) fn finish_in_peace() {
    LEAVES.store(false, Ordering::SeqCst);
}
