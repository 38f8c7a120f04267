use super::super::CallProgress;
use super::*;
use crate::keys::KeyRing;
use planexe_base::cancel::{Cancel, Level};

fn run(script: &str, table: &str, cancel: &Cancel) -> Result<Reply, CallError> {
    let folder = tempfile::tempdir().unwrap();
    let mut model: Model = toml::from_str(table).unwrap();
    model.command = vec!["sh".into(), "-c".into(), script.into()];
    let keys = KeyRing::without_files(|_| None);
    let setup = Setup {
        name: "m",
        folder: folder.path(),
        keys: &keys,
        lifeline: &Lifeline::new(None),
        calibration: None,
        ceiling: None,
    };
    let request =
        Request { task: "t".into(), system: "sys".into(), prompt: "prompt".into(), ..Request::default() };
    let progress = CallProgress::default();
    let context = CallContext { cancel, progress: &progress, time_left: None };
    Command::new(&model, &setup)?.call(&request, &context)
}

#[test]
fn every_ending_has_its_class() {
    let limits = "timeouts = { total = \"1s\" }";
    let idle = "timeouts = { first_token = \"60s\", idle = \"200ms\" }";
    let first = "timeouts = { first_token = \"200ms\" }";
    type Wanted = Result<&'static str, (Class, &'static str, &'static str)>;
    #[rustfmt::skip]
    let rows: &[(&str, &str, Wanted)] = &[
        ("cat", "", Ok("sys\n\nprompt\n")),
        ("echo yes", "", Ok("yes\n")),
        ("exec <&-; echo yes", "", Ok("yes\n")),
        ("cat >/dev/null; (sleep 60 &) ; echo yes", "", Ok("yes\n")),
        ("echo half; echo 'it broke' >&2; exit 3", "", Err((Class::ServerError, "it broke", "half\n"))),
        ("echo 'API Error: rate_limit_error' >&2; exit 1", "", Err((Class::RateLimit, "rate_limit", ""))),
        ("echo 'Invalid API key' >&2; exit 1", "", Err((Class::Auth, "API key", ""))),
        ("echo 'Credit balance is too low' >&2; exit 1", "", Err((Class::Quota, "Credit", ""))),
        ("kill -9 $$", "", Err((Class::ServerError, "signal 9", ""))),
        ("nonsense-program-x", "", Err((Class::Config, "127", ""))),
        ("cat >/dev/null", "", Err((Class::EmptyResponse, "nothing", ""))),
        ("printf '\\377'", "", Err((Class::BadData, "UTF-8", ""))),
        ("printf 'a\\000b'", "", Err((Class::BadData, "NUL", "a\0b"))),
        ("echo start; sleep 60", limits, Err((Class::Timeout, "total", "start\n"))),
        ("echo start; sleep 60", idle, Err((Class::Timeout, "idle", "start\n"))),
        ("sleep 60", first, Err((Class::Timeout, "first_token", ""))),
        ("trap '' TERM; echo start; sleep 60 & wait", limits, Err((Class::Timeout, "total", "start\n"))),
        ("yes", "", Err((Class::Degenerate, "times in a row", "y\ny\n"))),
    ];
    std::thread::scope(|scope| {
        for (script, table, wanted) in rows {
            scope.spawn(move || {
                let got = run(script, table, &Cancel::new());
                match (got, wanted) {
                    (Ok(reply), Ok(text)) => assert_eq!(reply.text, *text, "{script}"),
                    (Err(error), Err((class, words, partial))) => {
                        assert_eq!(error.class, *class, "{script}: {error}");
                        assert!(error.message.to_lines().contains(words), "{script}: {error}");
                        assert!(error.partial.starts_with(partial), "{script}: {:?}", error.partial);
                    }
                    (got, wanted) => panic!("{script}: {got:?}, wanted {wanted:?}"),
                }
            });
        }
    });
}

#[test]
fn a_cancel_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alive");
    let script = format!("(while :; do touch '{0}'; sleep 0.02; done) & echo on; wait", file.display());
    let cancel = Cancel::new();
    let result = std::thread::scope(|scope| {
        let call = scope.spawn(|| run(&script, "", &cancel));
        while !file.exists() {
            std::thread::yield_now();
        }
        cancel.raise(Level::Killing);
        call.join().unwrap()
    });
    assert_eq!(result.unwrap_err().class, Class::Cancelled);
    // Whatever wrote the file is gone: a removed file stays removed.
    std::fs::remove_file(&file).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!file.exists());
}
