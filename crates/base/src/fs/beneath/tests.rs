//! Below a run directory no link is followed, and what planexe keeps is the user's alone.

use std::fs::Permissions;

use rustix::fs::OFlags;

use super::super::test::{dir, names};
use super::super::*;

/// A run directory with a folder beside it that everything in the run leads to.
fn trapped() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::symlink;
    let dir = dir();
    let (run, victim) = (dir.path().join("run"), dir.path().join("victim"));
    for folder in [&run.join("sub"), &run.join(".planexe"), &victim] {
        std::fs::create_dir_all(folder).unwrap();
    }
    for name in ["precious", "a.txt"] {
        std::fs::write(victim.join(name), "precious").unwrap();
    }
    symlink("../victim", run.join("out")).unwrap();
    symlink("../../victim", run.join("sub/out")).unwrap();
    symlink("../../victim", run.join(".planexe/retry")).unwrap();
    symlink("../victim/precious", run.join("link.txt")).unwrap();
    symlink("../../victim/precious", run.join(".planexe/link.txt")).unwrap();
    std::fs::write(run.join("own.txt"), "own").unwrap();
    (dir, run)
}

fn all_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    names(dir).into_iter().map(|name| (name.clone(), std::fs::read(dir.join(&name)).unwrap())).collect()
}

#[test]
fn below_a_run_directory_no_link_is_followed() {
    let (dir, run) = trapped();
    let victim = dir.path().join("victim");
    let before = all_of(&victim);
    let held = hold(&run).unwrap();
    let (own, bytes) = (run.join("own.txt"), b"theirs");
    for folder in ["out", "sub/out", ".planexe/retry"] {
        let folder = run.join(folder);
        let (old, new) = (folder.join("a.txt"), folder.join("new"));
        let refused: [(&str, bool); 15] = [
            ("read", read(&old).is_err()),
            ("signature", signature(&old).is_err()),
            ("list", list_dir(&folder).is_err()),
            ("hash", hash_file(&old).is_err()),
            ("append", append_line(&old, bytes, Durability::Unsynced).is_err()),
            ("write", write_atomic(&old, bytes, Durability::Unsynced).is_err()),
            ("write anew", write_directly(&new, bytes).is_err()),
            ("remove", remove(&old).is_err()),
            ("remove all", remove_tree(&folder.join("x")).is_err()),
            ("rename from", rename(&old, &run.join("taken"), Durability::Unsynced).is_err()),
            ("rename to", rename(&own, &new, Durability::Unsynced).is_err()),
            ("folder", make_dirs(&new, Durability::Unsynced).is_err()),
            ("below", make_dirs_inside(&run, &new, Durability::Unsynced).is_err()),
            ("touch", set_mtime(&old, std::time::SystemTime::UNIX_EPOCH).is_err()),
            ("sweep", sweep_temps(&folder).is_err()),
        ];
        for (what, is_refused) in refused {
            assert!(is_refused, "{what} in {}", folder.display());
        }
    }
    for link in ["link.txt", ".planexe/link.txt"] {
        let link = run.join(link);
        let error = read(&link).unwrap_err().to_string();
        assert!(error.ends_with("a symbolic link, which is not followed"), "{error}");
        hash_signed(&link).unwrap_err();
        signature(&link).unwrap_err();
        assert_eq!(kind(&link).unwrap(), Some(FileKind::Link));
    }
    assert_eq!(all_of(&victim), before);
    assert!(own.is_file());
    // A link itself can be replaced and removed.
    write_atomic(&run.join("link.txt"), b"own", Durability::Unsynced).unwrap();
    assert!(remove(&run.join("out")).unwrap());
    assert_eq!(all_of(&victim), before);
    drop(held);
}

/// Whoever holds the run directory or not.
#[test]
fn planexes_own_folder_is_never_left_by_a_link() {
    let (dir, run) = trapped();
    let before = all_of(&dir.path().join("victim"));
    list_dir(&run.join(".planexe/retry")).unwrap_err();
    remove(&run.join(".planexe/retry/a.txt")).unwrap_err();
    read(&run.join(".planexe/link.txt")).unwrap_err();
    linked::read(&run.join(".planexe/link.txt")).unwrap_err();
    std::fs::remove_dir_all(run.join(".planexe")).unwrap();
    std::os::unix::fs::symlink("../victim", run.join(".planexe")).unwrap();
    write_atomic(&run.join(".planexe/new"), b"", Durability::Unsynced).unwrap_err();
    make_dirs(&run.join(".planexe/new"), Durability::Unsynced).unwrap_err();
    assert_eq!(all_of(&dir.path().join("victim")), before);
}

#[test]
fn inputs_may_be_links_to_where_files_may_be_read() {
    use std::os::unix::fs::symlink;
    let (dir, run) = trapped();
    let held = hold(&run).unwrap();
    symlink("own.txt", run.join("inside.txt")).unwrap();
    symlink("sub", run.join("folder")).unwrap();
    std::fs::write(run.join("sub/in.txt"), "in").unwrap();
    for (path, found) in [("own.txt", "own"), ("inside.txt", "own"), ("folder/in.txt", "in")] {
        assert_eq!(linked::read_to_string(&run.join(path)).unwrap(), found, "{path}");
        assert!(linked::signature(&run.join(path)).unwrap().is_some(), "{path}");
    }
    assert_eq!(linked::list_dir(&run.join("folder")).unwrap().len(), 2);
    for path in ["link.txt", "out/a.txt", "../victim/a.txt"] {
        let error = linked::read(&run.join(path)).unwrap_err().to_string();
        assert!(error.ends_with("a link leads out of the run and the pipeline's folder"), "{path}: {error}");
    }
    held.may_lead_to(&[dir.path().join("victim").canonicalize().unwrap()]);
    for path in ["link.txt", "out/a.txt", "../victim/a.txt"] {
        assert_eq!(linked::read(&run.join(path)).unwrap(), b"precious", "{path}");
    }
    assert_eq!(linked::read_optional(&run.join("missing")).unwrap(), None);
}

/// As if there were no call that does it in one.
#[test]
fn by_steps_the_same_is_found() {
    use std::os::fd::AsFd;
    let (_dir, run) = trapped();
    std::fs::write(run.join("sub/in.txt"), "in").unwrap();
    let base: std::os::fd::OwnedFd = open_dir(&run).unwrap().into();
    for (path, found) in [
        ("own.txt", Ok(())),
        ("sub/in.txt", Ok(())),
        (".", Ok(())),
        ("out/a.txt", Err(rustix::io::Errno::LOOP)),
        ("sub/out/a.txt", Err(rustix::io::Errno::LOOP)),
        ("link.txt", Err(rustix::io::Errno::LOOP)),
        ("sub/none", Err(rustix::io::Errno::NOENT)),
        ("own.txt/x", Err(rustix::io::Errno::NOTDIR)),
    ] {
        let mode = rustix::fs::Mode::empty();
        let flags = read::TO_READ;
        let steps = beneath::open_by_steps(base.as_fd(), Path::new(path), flags | OFlags::NOFOLLOW, mode);
        assert_eq!(steps.map(drop), found, "{path}");
        assert_eq!(
            beneath::open_below(base.as_fd(), Path::new(path), flags, mode).map(drop),
            found,
            "{path}"
        );
    }
}

#[test]
fn a_run_directory_that_is_moved_takes_what_is_written_with_it() {
    let dir = dir();
    let (run, moved) = (dir.path().join("run"), dir.path().join("moved"));
    make_dirs(&run, Durability::Unsynced).unwrap();
    let held = hold(&run).unwrap();
    std::fs::rename(&run, &moved).unwrap();
    make_dirs(&run.join(".planexe/calls"), Durability::Synced).unwrap();
    write_atomic(&run.join(".planexe/calls/a"), b"a", Durability::Synced).unwrap();
    append_line(&run.join("log"), b"{}", Durability::Synced).unwrap();
    assert!(!run.exists());
    assert_eq!(read(&moved.join(".planexe/calls/a")).unwrap(), b"a");
    assert_eq!(read(&run.join("log")).unwrap(), b"{}\n");
    // Removed: an error, and no folder of its name.
    std::fs::remove_dir_all(&moved).unwrap();
    make_dirs(&run.join(".planexe/calls"), Durability::Synced).unwrap_err();
    write_atomic(&run.join("a"), b"a", Durability::Synced).unwrap_err();
    assert!(!run.exists() && !moved.exists());
    drop(held);
    // Another directory that has the name since.
    make_dirs(&run, Durability::Unsynced).unwrap();
    let _held = hold(&run).unwrap();
    write_atomic(&run.join("a"), b"a", Durability::Synced).unwrap();
    assert_eq!(std::fs::read(run.join("a")).unwrap(), b"a");
}

#[test]
fn what_planexe_keeps_is_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = dir();
    let planexe = dir.path().join(".planexe");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    make_dirs(&planexe.join("calls/a"), Durability::Unsynced).unwrap();
    let files = ["calls/a/one", "calls/a/two", "log", "new"].map(|name| planexe.join(name));
    write_atomic(&files[0], b"", Durability::Unsynced).unwrap();
    write_directly(&files[1], b"").unwrap();
    append_line(&files[2], b"", Durability::Unsynced).unwrap();
    drop(create_new(&files[3]).unwrap());
    for folder in [&planexe, &planexe.join("calls"), &planexe.join("calls/a")] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    // What was open before is not so any more; nor when it is written again.
    let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    std::fs::create_dir_all(planexe.join("worktrees/w")).unwrap();
    open(&planexe.join("worktrees/w"), 0o755);
    files.iter().for_each(|file| open(file, 0o644));
    write_atomic(&files[0], b"", Durability::Unsynced).unwrap();
    assert_eq!(mode(&files[0]), 0o600);
    open(&planexe.join("calls"), 0o755);
    open(&planexe, 0o755);
    make_private(&planexe).unwrap();
    assert_eq!((mode(&planexe), mode(&planexe.join("calls"))), (0o700, 0o700));
    assert!(files.iter().all(|file| mode(file) == 0o600));
    assert_eq!(mode(&planexe.join("worktrees/w")), 0o755);
}
