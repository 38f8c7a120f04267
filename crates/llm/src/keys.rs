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
use std::io::Read;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// How long a name may take to be looked up before a build.
const LOOKUP: Duration = Duration::from_secs(5);

/// The user's bindings, in the configuration folder.
pub const KEYS_FILE: &str = "keys.toml";
/// Values by name, in the configuration folder, for who keeps no keys in the environment.
pub const SECRETS_FILE: &str = "secrets.toml";
/// The variable that binds further keys: `FOO_KEY=host,BAR_KEY=host:port`.
pub const HOSTS_ENV: &str = "PLANEXE_KEY_HOSTS";

/// Where a URL leads: scheme, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// `https`, not `http`.
    pub secure: bool,
    /// In lower case; an IPv6 address without brackets.
    pub host: String,
    /// As given, else 443 or 80.
    pub port: u16,
}

impl Site {
    /// Reads an `http` or `https` URL. One that carries a user name or password is refused.
    pub fn of(url: &str) -> Result<Site, String> {
        let wanted = || format!("`{url}` is not a URL; wanted one like `http://127.0.0.1:1234/v1`");
        let (scheme, rest) = url.split_once("://").ok_or_else(wanted)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(wanted()),
        };
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("a URL with a user name or password in it is refused; use `api_key_env`".into());
        }
        let (host, port) = split_port(authority).ok_or_else(wanted)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(wanted());
        }
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok(Site { secure, host: host.trim_end_matches('.').to_ascii_lowercase(), port })
    }

    /// Whether it is written as this machine. What may be sent there hangs on the address that is connected to
    /// ([`is_this_machine`]): a name says what its name server says.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => is_this_machine(address),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// The addresses a URL's host has now; none if there are none, or nobody tells in time. The host is looked up as
    /// it is written in the URL: with a dot at its end it may be another.
    fn addresses(&self, url: &str) -> Vec<IpAddr> {
        if let Ok(address) = self.host.parse::<IpAddr>()
            && !written_host(url).ends_with('.')
        {
            return vec![address];
        }
        let (host, port) = (written_host(url).to_owned(), self.port);
        let (sender, receiver) = mpsc::channel();
        // Nothing interrupts a name server's silence: the thread is left behind.
        let look = move || {
            let found = (host.as_str(), port).to_socket_addrs();
            let _ = sender.send(found.map(|all| all.map(|one| one.ip()).collect()).unwrap_or_default());
        };
        match std::thread::Builder::new().name("lookup".into()).stack_size(256 * 1024).spawn(look) {
            Ok(_) => receiver.recv_timeout(LOOKUP).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether a binding's `host` or `host:port` means this place. Without a port the usual one is meant.
    fn is(&self, bound: &str) -> bool {
        let Some((host, port)) = split_port(bound.trim()) else { return false };
        let usual = if self.secure { 443 } else { 80 };
        host.eq_ignore_ascii_case(&self.host) && port.unwrap_or(usual) == self.port
    }

    /// What is typed to bind a key to it: the host, and the port unless it is the usual one.
    pub fn binding(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

/// Whether an address is this machine, in whatever form: what is sent there leaves it by no wire.
pub fn is_this_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    // The unspecified addresses are connected to as loopback.
    address.is_loopback() || address.is_unspecified()
}

/// The host of a URL that [`Site::of`] took, as it is written there, without brackets.
fn written_host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    split_port(authority).map_or(authority, |(host, _)| host)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; None if the port is no number.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    match port {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => Some((host, None)),
    }
}

/// A key's value. It shows itself only as `[redacted]`; [`Secret::expose`] is for the request header.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value; surrounding white space (a line end from `export KEY=$(cat file)`) is dropped.
    pub fn new(value: &str) -> Secret {
        Secret(value.trim().to_owned())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text with the value replaced. Values of fewer than 6 bytes are left: they are in every text.
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < 6 || !text.contains(&self.0) {
            return text.to_owned();
        }
        text.replace(&self.0, "[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

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
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
}

/// The variables that no program planexe starts is given: those of the vendors and of local servers, those of
/// webhooks, those the user has bound or keeps in `secrets.toml`, and those the pipeline names.
pub fn hidden() -> Vec<String> {
    let known = VENDORS.iter().map(|(name, _)| *name).chain(LOCAL).chain(WEBHOOK_VARIABLES);
    let mut all: BTreeSet<String> = known.map(str::to_owned).collect();
    all.extend(FOUND.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
    all.into_iter().collect()
}

/// Keeps them from a program that is to be started, but for `except`.
pub fn hide_from(command: &mut Command, except: &[String]) {
    for name in hidden().iter().filter(|name| !except.contains(name)) {
        command.env_remove(name);
    }
}

/// Replaces known key values, and what follows `Bearer`, in any text that is to be kept or shown.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that one that contains another goes whole.
    secrets: Vec<Secret>,
}

impl Redactor {
    /// One that knows these values.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Redactor {
        let mut secrets: Vec<Secret> = secrets.into_iter().filter(|secret| !secret.0.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
        Redactor { secrets }
    }

    /// The text without them.
    pub fn redact(&self, text: &str) -> String {
        let text = self.secrets.iter().fold(text.to_owned(), |text, secret| secret.redact(&text));
        redact_bearer(text)
    }

    /// How many bytes of a text that is still being written may be redacted and shown by themselves: no known value,
    /// and no token after `Bearer`, is cut in two there, or may turn out to be.
    pub fn whole(&self, text: &str) -> usize {
        let lower = text.to_ascii_lowercase();
        let mut end = text.len();
        loop {
            let mut cut = end;
            let mut hold = |text: &str, value: &str| {
                let longest = value.len().min(end);
                let begun = (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&value.as_bytes()[..n]));
                cut = cut.min(end - begun.unwrap_or(0));
            };
            self.secrets.iter().for_each(|secret| hold(&text[..end], &secret.0));
            hold(&lower[..end], MARK);
            // A token at the end may grow, and what cuts it may be a part of it.
            let before = lower[..end].trim_end_matches(in_token);
            if before.ends_with(MARK) {
                cut = cut.min(before.len() - MARK.len());
            }
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            if cut == end {
                return end;
            }
            end = cut;
        }
    }
}

/// Whether a character may be one of a token.
fn in_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/=".contains(c)
}

/// What stands before a token in a header.
const MARK: &str = "bearer ";

/// Replaces the token after each `Bearer ` that looks like one: 8 characters or more.
fn redact_bearer(text: String) -> String {
    if text.len() < MARK.len() {
        return text;
    }
    let lower = text.to_ascii_lowercase();
    if !lower.contains(MARK) {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(MARK) {
        let start = at + found + MARK.len();
        let token = text[start..].find(|c: char| !in_token(c)).unwrap_or(text.len() - start);
        clean.push_str(&text[at..start]);
        clean.push_str(if token >= 8 { "[redacted]" } else { &text[start..start + token] });
        at = start + token;
    }
    clean.push_str(&text[at..]);
    clean
}

/// `keys.toml` of the user's configuration folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysFile {
    /// Which variable is bound to which host.
    pub bind: Vec<Binding>,
}

/// One variable that may go to one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Name of the variable.
    pub env: String,
    /// `host`, or `host:port` for another port than the usual one.
    pub host: String,
}

impl KeysFile {
    /// Reads the file of a folder; an absent one is empty.
    pub fn read(folder: &Path) -> Result<KeysFile, KeyError> {
        read_private(&folder.join(KEYS_FILE))
    }

    /// Adds a binding; false if it was there already.
    pub fn bind(&mut self, env: &str, host: &str) -> Result<bool, KeyError> {
        let fault = |why: String| KeyError::File { path: KEYS_FILE.into(), why: why.into() };
        if env.is_empty() || !env.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(fault(format!("`{env}` is not the name of a variable")));
        }
        let wanted =
            || fault(format!("`{host}` is not a host; wanted one like `llm.example.com` or `host:8443`"));
        if host.contains(['/', '?', '#', '\\']) {
            return Err(wanted());
        }
        let site = Site::of(&format!("https://{host}")).map_err(|_| wanted())?;
        let binding = Binding { env: env.into(), host: site.binding() };
        let new = !self.bind.contains(&binding);
        if new {
            self.bind.push(binding);
        }
        Ok(new)
    }

    /// Takes a binding out; false if it was not there.
    pub fn unbind(&mut self, env: &str, host: &str) -> bool {
        let count = self.bind.len();
        let site = Site::of(&format!("https://{host}"));
        let same = |bound: &str| bound == host || site.as_ref().is_ok_and(|site| site.is(bound));
        self.bind.retain(|bound| bound.env != env || !same(&bound.host));
        self.bind.len() < count
    }

    /// The text of the file, to be written so that nobody else can read or write it (0600).
    pub fn to_text(&self) -> String {
        let mut text = String::from("# Which key may go to which host. Written by `planexe keys`.\n");
        for bound in &self.bind {
            // A JSON string is a TOML string too.
            let (env, host) = (Value::from(bound.env.as_str()), Value::from(bound.host.as_str()));
            text.push_str(&format!("\n[[bind]]\nenv = {env}\nhost = {host}\n"));
        }
        text
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
        Some(Secret::new(&value)).filter(|secret| !secret.0.is_empty())
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

/// Reads a TOML file of the user's that nobody else may read or write; an absent one is empty.
fn read_private<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, KeyError> {
    let fault = |why: Message| KeyError::File { path: path.display().to_string(), why };
    let unread = |error: std::io::Error| {
        let why = planexe_base::fs::without_number(&error).to_lowercase();
        let hint = "XDG_CONFIG_HOME and HOME say where keys are looked for";
        fault(Message::new(format!("cannot be read: {why}")).hint(hint))
    };
    let mut file = match planexe_base::fs::open_named(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(unread(error.source)),
    };
    // Of the file that is read, whatever has its name by then.
    let metadata = file.metadata().map_err(unread)?;
    if let Some(why) = not_private(path, metadata.uid(), metadata.mode(), rustix::process::geteuid().as_raw())
    {
        return Err(fault(why));
    }
    if metadata.len() > 1 << 20 {
        return Err(fault("is larger than 1 MiB".into()));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unread)?;
    toml::from_str(&text).map_err(|error: toml::de::Error| fault(error.message().into()))
}

/// Why a file may not be believed to be a user's own secret, and how to mend it.
fn not_private(path: &Path, owner: u32, mode: u32, user: u32) -> Option<Message> {
    let mode = mode & 0o777;
    let path = path.display();
    if owner != user {
        let text = format!(
            "belongs to user {owner}, wanted one of your own (user {user}): whoever owns it can change it"
        );
        let hint = format!("`sudo chown {user} '{path}'`, if what is in it is yours");
        return Some(Message::new(text).hint(hint));
    }
    (mode & 0o077 != 0).then(|| {
        Message::new(format!("is open to others (mode {mode:o}), wanted 600"))
            .hint(format!("`chmod 600 '{path}'`"))
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_users_own_and_nobody_elses_to_read() {
        let path = Path::new("/home/me/secrets.toml");
        for (owner, mode, says) in [
            (1000, 0o100600, None),
            (1000, 0o100400, None),
            (1000, 0o100640, Some("mode 640")),
            (1000, 0o100602, Some("chmod 600 '/home/me/secrets.toml'")),
            (1001, 0o100600, Some("belongs to user 1001")),
            (0, 0o100644, Some("sudo chown 1000 '/home/me/secrets.toml'")),
        ] {
            let found = not_private(path, owner, mode, 1000);
            assert_eq!(found.is_some(), says.is_some(), "{owner} {mode:o}: {found:?}");
            assert!(
                says.is_none_or(|says| found.is_some_and(|found| found.to_lines().contains(says))),
                "{owner} {mode:o}"
            );
        }
    }

    fn ring(vars: &'static [(&'static str, &'static str)]) -> KeyRing {
        KeyRing::load(None, move |name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    #[test]
    fn what_is_shown_while_it_is_written_cuts_no_key_in_two() {
        let redactor = Redactor::new(["sk-abc123", "abc", "ü-key"].map(Secret::new));
        for (text, whole) in [
            ("", 0),
            ("plain word", 10),
            ("words sk-ab", 6),
            ("words s", 6),
            ("sk-abc1234 ", 11),
            ("sk-abc123", 0),
            ("a bear", 2),
            ("Authorization: Bearer abcdefgh", 15),
            ("Authorization: Bearer abcdefgh ", 31),
            ("für ü", 5),
        ] {
            assert_eq!(redactor.whole(text), whole, "{text}");
        }
        // However it arrives, the pieces make up the text as it is redacted whole.
        let text = "a sk-abc123 b Bearer 0123456789, bearer x; sk-abcsk-abc123 and ü-key ü- abc";
        for size in 1..20 {
            let (mut held, mut shown) = (String::new(), String::new());
            for piece in text.chars().collect::<Vec<_>>().chunks(size) {
                held.extend(piece);
                let rest = held.split_off(redactor.whole(&held));
                shown += &redactor.redact(&std::mem::replace(&mut held, rest));
            }
            shown += &redactor.redact(&held);
            assert_eq!(shown, redactor.redact(text), "{size}");
        }
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
    fn bindings_are_made_and_taken_back() {
        let mut file = KeysFile::default();
        for (env, host, wanted) in [
            ("CORP_KEY", "llm.corp", Some(true)),
            ("CORP_KEY", "LLM.corp:443", Some(false)),
            ("CORP_KEY", "llm.corp:8443", Some(true)),
            ("CORP_KEY", "[2001:db8::1]:9000", Some(true)),
            ("CORP KEY", "llm.corp", None),
            ("CORP_KEY", "llm.corp/v1", None),
            ("CORP_KEY", "https://llm.corp", None),
            ("CORP_KEY", "", None),
        ] {
            assert_eq!(file.bind(env, host).ok(), wanted, "{env} {host}");
        }
        assert_eq!(toml::from_str::<KeysFile>(&file.to_text()).unwrap(), file);
        assert!(file.unbind("CORP_KEY", "llm.corp"));
        assert!(!file.unbind("CORP_KEY", "llm.corp"));
        assert!(!file.unbind("OTHER", "llm.corp:8443"));
        assert_eq!(file.bind.len(), 2);
    }

    #[test]
    fn values_never_show() {
        let secret = Secret::new("sk-123456789");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        let redactor = Redactor::new([Secret::new("abcdef"), Secret::new("abcdefgh")]);
        for (text, wanted) in [
            ("key abcdefgh!", "key [redacted]!"),
            ("abcdefabcdef", "[redacted][redacted]"),
            ("Authorization: Bearer tok-12345678.x, more", "Authorization: Bearer [redacted], more"),
            ("bearer of news", "bearer of news"),
            ("Ünïcode bearer ", "Ünïcode bearer "),
            ("", ""),
        ] {
            assert_eq!(redactor.redact(text), wanted);
        }
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
