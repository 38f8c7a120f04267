//! Which key may go to which host. A pipeline names a variable (`api_key_env`) and a `base_url`; whether
//! the one may be sent to the other is for the user to say, not for a pipeline that came with a clone.
//!
//! Bound already are each vendor's own variable with its own host, and the variables of programs that serve models
//! with this machine. The user binds others in `keys.toml` of the configuration folder, or in `PLANEXE_KEY_HOSTS`.
//! Whether a host is this machine is decided by the address that is connected to, never by how it is written.
//! Variables that hold keys are kept from the programs planexe starts ([`hidden`]). This module reads the
//! environment only through the function it is given, and prints nothing.

use planexe_base::message::Message;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::Mutex;

mod file;
mod redact;
mod site;

pub use file::{Binding, KeysFile};
pub use redact::{Redactor, Secret};
pub use site::{Site, is_this_machine};

use file::read_private;

/// Variables bound to their vendor's host without being asked.
const VENDORS: [(&str, &str); 20] = [
    ("OPENAI_API_KEY", "api.openai.com"),
    ("ANTHROPIC_API_KEY", "api.anthropic.com"),
    ("OPENROUTER_API_KEY", "openrouter.ai"),
    ("GROQ_API_KEY", "api.groq.com"),
    ("MISTRAL_API_KEY", "api.mistral.ai"),
    ("DEEPSEEK_API_KEY", "api.deepseek.com"),
    ("TOGETHER_API_KEY", "api.together.xyz"),
    ("TOGETHER_API_KEY", "api.together.ai"),
    ("GEMINI_API_KEY", "generativelanguage.googleapis.com"),
    ("GOOGLE_API_KEY", "generativelanguage.googleapis.com"),
    ("XAI_API_KEY", "api.x.ai"),
    ("FIREWORKS_API_KEY", "api.fireworks.ai"),
    ("CEREBRAS_API_KEY", "api.cerebras.ai"),
    ("PERPLEXITY_API_KEY", "api.perplexity.ai"),
    ("COHERE_API_KEY", "api.cohere.ai"),
    ("COHERE_API_KEY", "api.cohere.com"),
    ("NVIDIA_API_KEY", "integrate.api.nvidia.com"),
    ("HF_TOKEN", "router.huggingface.co"),
    ("MOONSHOT_API_KEY", "api.moonshot.ai"),
    ("OLLAMA_API_KEY", "ollama.com"),
];

/// Variables of programs that serve models on the user's own machine: bound to this machine, whatever the port.
const LOCAL: [&str; 7] = [
    "LM_STUDIO_API_KEY",
    "LMSTUDIO_API_KEY",
    "LM_API_TOKEN",
    "OLLAMA_API_KEY",
    "LLAMA_CPP_API_KEY",
    "VLLM_API_KEY",
    "LOCALAI_API_KEY",
];

/// The variables of webhooks that every build looks for: an address, which may be a secret, and a signing secret.
pub const WEBHOOK_VARIABLES: [&str; 2] = ["PLANEXE_WEBHOOK_URL", "PLANEXE_WEBHOOK_SECRET"];

/// The user's bindings, in the configuration folder.
pub const KEYS_FILE: &str = "keys.toml";
/// Values by name, in the configuration folder, for who keeps no keys in the environment.
pub const SECRETS_FILE: &str = "secrets.toml";
/// The variable that binds further keys: `FOO_KEY=host,BAR_KEY=host:port`.
pub const HOSTS_ENV: &str = "PLANEXE_KEY_HOSTS";

/// A key, and what must hold where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The value.
    pub secret: Secret,
    /// It may go only to an address of this machine, which is to be looked at when the call is connected.
    pub here_only: bool,
}

/// Variables found to hold keys, beside those that are known from the start.
static FOUND: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From now on no program is given these variables, unless it is said for that program.
pub fn hide(names: impl IntoIterator<Item = String>) {
    FOUND.lock().extend(names);
}

/// The variables that no program planexe starts is given: those of the vendors and of local servers, those of
/// webhooks, those the user has bound or keeps in `secrets.toml`, and those the pipeline names.
pub fn hidden() -> Vec<String> {
    let known = VENDORS.iter().map(|(name, _)| *name).chain(LOCAL).chain(WEBHOOK_VARIABLES);
    let mut all: BTreeSet<String> = known.map(str::to_owned).collect();
    all.extend(FOUND.lock().iter().cloned());
    all.into_iter().collect()
}

/// Their names, but for `except`.
pub fn hidden_but(except: &[String]) -> Vec<String> {
    hidden().iter().filter(|name| !except.contains(name)).cloned().collect()
}

/// Keeps them from a program that is to be started, but for `except`.
pub fn hide_from(command: &mut Command, except: &[String]) {
    for name in hidden().iter().filter(|name| !except.contains(name)) {
        command.env_remove(name);
    }
}

/// Whether a variable may go to a host, or `host:port`, without being bound.
pub fn is_known(env: &str, host: &str) -> bool {
    let here = Site::of(&format!("http://{host}")).is_ok_and(|site| site.is_loopback());
    VENDORS.contains(&(env, host)) || LOCAL.contains(&env) && here
}

/// Why a key cannot be used. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The `base_url` is no URL.
    #[error("{0}")]
    Url(String),
    /// The user has not said that this variable may go to this host.
    #[error("`{env}` is not bound to `{host}`, so it is not sent there")]
    NotBound {
        /// The variable.
        env: String,
        /// The host, as it is typed.
        host: String,
    },
    /// No key goes over plain http to another machine.
    #[error("`{env}` would go over plain http to `{host}`{at}, readable on the way")]
    Plain {
        /// The variable.
        env: String,
        /// The host.
        host: String,
        /// The address its name stands for, in brackets.
        at: String,
    },
    /// The variable is nowhere to be found.
    #[error("`{env}` is not set")]
    Missing {
        /// The variable.
        env: String,
        /// The secrets file it may be in.
        file: String,
    },
    /// The value cannot be put into an HTTP header.
    #[error("the value of `{env}` has characters that no HTTP header may have")]
    Unsendable {
        /// The variable.
        env: String,
    },
    /// A file of the configuration folder cannot be used.
    #[error("{path}: {}", why.text)]
    File {
        /// The file.
        path: String,
        /// What is wrong with it, and what to do.
        why: Message,
    },
}

impl KeyError {
    /// What is wrong, and what to do about it.
    pub fn message(&self) -> Message {
        let message = Message::new(self.to_string());
        match self {
            KeyError::Url(_) | KeyError::Unsendable { .. } => message,
            KeyError::NotBound { env, host } => message.hint(format!(
                "if it should be, type `planexe keys bind {env} {host}`, or set {HOSTS_ENV}={env}={host}"
            )),
            KeyError::Plain { .. } => message.hint(
                "use https, or a tunnel to 127.0.0.1; a server that needs no key needs no `api_key_env`",
            ),
            KeyError::Missing { env, file } => {
                message.hint(format!("`export {env}=…`, or put it into {file}"))
            }
            KeyError::File { why, .. } => Message { hints: why.hints.clone(), ..message },
        }
    }
}

/// Looks up a variable of the environment.
type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The user's keys and where each may go.
pub struct KeyRing {
    bindings: Vec<Binding>,
    secrets: toml::Table,
    folder: Option<PathBuf>,
    lookup: Lookup,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("bindings", &self.bindings).finish_non_exhaustive()
    }
}

/// The user's configuration folder: `$XDG_CONFIG_HOME/planexe`, else `~/.config/planexe`, on macOS too.
pub fn config_dir(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("planexe"))
}

impl KeyRing {
    /// Reads `keys.toml` and `secrets.toml` of the folder (absent files are empty ones; both must belong
    /// to the user alone) and `PLANEXE_KEY_HOSTS`.
    pub fn load(
        folder: Option<&Path>,
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Result<KeyRing, KeyError> {
        let mut bindings = Vec::new();
        let mut secrets = toml::Table::new();
        if let Some(folder) = folder {
            bindings = KeysFile::read(folder)?.bind;
            secrets = read_private(&folder.join(SECRETS_FILE))?;
        }
        hide(secrets.keys().cloned());
        for pair in lookup(HOSTS_ENV).unwrap_or_default().split(',').filter(|pair| !pair.trim().is_empty()) {
            let (env, host) = pair.split_once('=').ok_or_else(|| KeyError::File {
                path: HOSTS_ENV.into(),
                why: format!("`{}` is not a binding; wanted NAME=host or NAME=host:port", pair.trim()).into(),
            })?;
            bindings.push(Binding { env: env.trim().into(), host: host.trim().into() });
        }
        hide(bindings.iter().map(|bound| bound.env.clone()));
        let folder = folder.map(Path::to_owned);
        Ok(KeyRing { bindings, secrets, folder, lookup: Box::new(lookup) })
    }

    /// One without files, for tests and for readers of a run that make no call.
    pub fn without_files(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> KeyRing {
        KeyRing { bindings: Vec::new(), secrets: toml::Table::new(), folder: None, lookup: Box::new(lookup) }
    }

    /// The key a model of this `base_url` is called with. `Ok(None)` is a variable that is not set for a
    /// server on this machine, which may well need none. Over plain http a key goes to an address of this machine
    /// alone: what the host's name stands for is looked at here, and again when the call is connected.
    pub fn resolve(&self, env: &str, base_url: &str) -> Result<Option<Key>, KeyError> {
        let site = Site::of(base_url).map_err(KeyError::Url)?;
        let host = site.binding();
        if !site.secure {
            let addresses = site.addresses(base_url);
            let away = addresses.iter().find(|address| !is_this_machine(**address));
            // A name of this machine that nobody knows leads nowhere, which is told when it is connected to.
            if away.is_some() || addresses.is_empty() && !site.is_loopback() {
                let at = away.filter(|away| away.to_string() != site.host);
                let at = at.map(|away| format!(" ({away})")).unwrap_or_default();
                return Err(KeyError::Plain { env: env.into(), host, at });
            }
        }
        let here = !site.secure || site.is_loopback();
        let value = self.value(env);
        if here && value.is_none() {
            return Ok(None);
        }
        let bound = self.bindings.iter().any(|bound| bound.env == env && site.is(&bound.host))
            || VENDORS.iter().any(|(name, host)| *name == env && site.is(host));
        let local = here && LOCAL.contains(&env);
        if !bound && !local {
            return Err(KeyError::NotBound { env: env.into(), host });
        }
        let Some(secret) = value else {
            let file = self
                .folder
                .as_ref()
                .map_or("a secrets.toml".into(), |folder| folder.join(SECRETS_FILE).display().to_string());
            return Err(KeyError::Missing { env: env.into(), file });
        };
        if !secret.expose().bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Err(KeyError::Unsendable { env: env.into() });
        }
        Ok(Some(Key { secret, here_only: !site.secure || !bound }))
    }

    /// The value of a variable, from the environment or the secrets file, wherever it may go. For a
    /// [`Redactor`], and for `url_env` and `secret_env` of webhooks; a call uses [`KeyRing::resolve`].
    pub fn value(&self, env: &str) -> Option<Secret> {
        let from_file = || self.secrets.get(env).and_then(|value| value.as_str().map(str::to_owned));
        let value = (self.lookup)(env).filter(|value| !value.trim().is_empty()).or_else(from_file)?;
        Some(Secret::new(&value)).filter(|secret| !secret.expose().is_empty())
    }

    /// One that knows the values of these variables and of everything in the secrets file.
    pub fn redactor<'a>(&self, envs: impl IntoIterator<Item = &'a str>) -> Redactor {
        let named = envs.into_iter().filter_map(|env| self.value(env));
        let filed = self.secrets.values().filter_map(|value| value.as_str()).map(Secret::new);
        Redactor::new(named.chain(filed))
    }

    /// The user's own bindings, without the vendors'.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    fn ring(vars: &'static [(&'static str, &'static str)]) -> KeyRing {
        KeyRing::load(None, move |name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    #[test]
    fn a_key_goes_only_where_the_user_lets_it() {
        let ring = ring(&[
            ("OPENAI_API_KEY", "sk-openai"),
            ("FOO", "foo-key\n"),
            ("BAD", "a b"),
            ("LM_STUDIO_API_KEY", "lm-key"),
            ("OLLAMA_API_KEY", "ollama-key"),
            (
                HOSTS_ENV,
                "FOO=llm.corp:8443, FOO=plain.example,FOO=[2001:db8::1]:9000,FOO=127.0.0.1:9999,BAD=localhost:1,\
                 FOO=[::ffff:127.0.0.1]:9999,FOO=0.0.0.0:9999,FOO=192.168.1.5:9999,FOO=2130706433:9999,FOO=0x7f.1:9999",
            ),
        ]);
        for (env, url, wanted) in [
            ("OPENAI_API_KEY", "https://api.openai.com/v1", "sk-openai"),
            ("OPENAI_API_KEY", "https://API.OpenAI.com./v1", "sk-openai"),
            ("OPENAI_API_KEY", "https://api.openai.com:443/v1", "sk-openai"),
            ("OPENAI_API_KEY", "https://api.openai.com:8443/v1", "not bound"),
            ("OPENAI_API_KEY", "http://api.openai.com/v1", "plain http"),
            ("OPENAI_API_KEY", "https://api.openai.com.evil.example/v1", "not bound"),
            ("OPENAI_API_KEY", "https://evil.example/api.openai.com", "not bound"),
            ("OPENAI_API_KEY", "https://api.openai.com@evil.example/v1", "user name"),
            ("OPENAI_API_KEY", "https://evil.example\\api.openai.com/v1", "not bound"),
            ("OPENAI_API_KEY", "https://api.anthropic.com", "not bound"),
            ("OPENAI_API_KEY", "http://localhost:1234/v1", "planexe keys bind OPENAI_API_KEY localhost:1234"),
            ("OPENAI_API_KEY", "http://127.0.0.1:1234/v1", "planexe keys bind OPENAI_API_KEY 127.0.0.1:1234"),
            ("OPENAI_API_KEY", "https://127.0.0.1:1234/v1", "not bound"),
            ("OPENAI_API_KEY", "http://[::1]:1234/v1", "not bound"),
            ("LM_STUDIO_API_KEY", "http://localhost:1234/v1", "lm-key here"),
            ("LM_STUDIO_API_KEY", "https://localhost:1234/v1", "lm-key here"),
            ("LM_STUDIO_API_KEY", "http://192.168.1.5:1234/v1", "plain http"),
            ("LM_STUDIO_API_KEY", "https://llm.corp/v1", "not bound"),
            ("OLLAMA_API_KEY", "http://[::ffff:127.0.0.1]:11434", "ollama-key here"),
            ("OLLAMA_API_KEY", "https://ollama.com", "ollama-key anywhere"),
            // The same address, however it is written, and only that.
            ("FOO", "http://127.0.0.1:9999/v1", "foo-key here"),
            ("FOO", "http://[::ffff:127.0.0.1]:9999/v1", "foo-key here"),
            ("FOO", "http://0.0.0.0:9999/v1", "foo-key here"),
            ("FOO", "http://2130706433:9999/v1", "foo-key here"),
            ("FOO", "http://0x7f.1:9999/v1", "foo-key here"),
            ("FOO", "http://192.168.1.5:9999/v1", "plain http"),
            ("FOO", "http://127.0.0.1:9998/v1", "not bound"),
            ("UNSET", "http://127.0.0.1:9998/v1", "none"),
            ("UNSET", "https://192.168.1.5:9998/v1", "not bound"),
            ("OPENAI_API_KEY", "http://192.168.1.5:1234/v1", "plain http"),
            ("OPENAI_API_KEY", "http://localhost.evil.example/v1", "plain http"),
            ("OPENAI_API_KEY", "http://127.0.0.1.evil.example/v1", "plain http"),
            ("FOO", "https://llm.corp:8443/v1", "foo-key"),
            ("FOO", "https://llm.corp/v1", "not bound"),
            ("FOO", "https://plain.example", "foo-key"),
            ("FOO", "https://[2001:db8::1]:9000/v1", "foo-key"),
            ("BAD", "http://localhost:1", "no HTTP header"),
            ("ANTHROPIC_API_KEY", "https://api.anthropic.com", "is not set"),
            ("ANTHROPIC_API_KEY", "http://localhost:1", "none"),
            ("OPENAI_API_KEY", "ftp://api.openai.com", "not a URL"),
            ("OPENAI_API_KEY", "api.openai.com", "not a URL"),
        ] {
            let got = match ring.resolve(env, url) {
                Ok(Some(key)) => {
                    format!("{} {}", key.secret.expose(), if key.here_only { "here" } else { "anywhere" })
                }
                Ok(None) => "none".to_owned(),
                Err(error) => error.message().to_lines(),
            };
            assert!(got.contains(wanted), "{env} to {url}: {got}");
        }
    }

    #[test]
    fn files_must_be_private_and_are_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("keys.toml", "[[bind]]\nenv = \"CORP_KEY\"\nhost = \"llm.corp\"\n", 0o600);
        write("secrets.toml", "CORP_KEY = \"very-secret\"\n", 0o600);
        let ring = KeyRing::load(Some(folder.path()), |_| None).unwrap();
        let key = ring.resolve("CORP_KEY", "https://llm.corp/v1").unwrap().unwrap();
        assert_eq!(key.secret.expose(), "very-secret");
        assert_eq!(ring.redactor([]).redact("x very-secret y"), "x [redacted] y");

        write("secrets.toml", "CORP_KEY = \"very-secret\"\n", 0o644);
        let error = KeyRing::load(Some(folder.path()), |_| None).unwrap_err().message();
        assert!(error.hints[0].text().contains("chmod 600"), "{error:?}");

        std::fs::remove_file(folder.path().join("secrets.toml")).unwrap();
        std::os::unix::fs::symlink("secrets.toml", folder.path().join("secrets.toml")).unwrap();
        let error = KeyRing::load(Some(folder.path()), |_| None).unwrap_err().message();
        assert!(error.text.contains("cannot be read: too many"), "{error:?}");
        assert!(error.hints[0].text().starts_with("XDG"), "{error:?}");
    }

    #[test]
    fn programs_are_given_no_variable_that_holds_a_key() {
        KeyRing::load(None, |name| (name == HOSTS_ENV).then(|| "A_BOUND_KEY=llm.corp".to_owned())).unwrap();
        hide(["A_NAMED_KEY".to_owned()]);
        let names = hidden();
        for name in ["OPENAI_API_KEY", "VLLM_API_KEY", "PLANEXE_WEBHOOK_SECRET", "A_BOUND_KEY", "A_NAMED_KEY"]
        {
            assert!(names.iter().any(|hidden| hidden == name), "{name}");
        }
        let mut command = Command::new("true");
        hide_from(&mut command, &["A_NAMED_KEY".to_owned()]);
        let removed: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        assert!(
            removed.iter().any(|name| name == "A_BOUND_KEY")
                && removed.iter().all(|name| name != "A_NAMED_KEY")
        );
    }

    #[test]
    fn the_folder_is_the_users() {
        let dir = |vars: &'static [(&str, &str)]| {
            config_dir(&|name| vars.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(dir(&[("HOME", "/h")]), Some("/h/.config/planexe".into()));
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), Some("/x/planexe".into()));
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "rel")]), Some("/h/.config/planexe".into()));
        assert_eq!(dir(&[]), None);
    }
}
