//! The files of the user's configuration folder: they are believed only if nobody else can read or write them.

use planexe_base::message::Message;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{KEYS_FILE, KeyError, Site};

/// `keys.toml` of the user's configuration folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysFile {
    /// Which variable is bound to which host.
    pub bind: Vec<Binding>,
}

/// One variable that may go to one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Reads a TOML file of the user's that nobody else may read or write; an absent one is empty.
pub(super) fn read_private<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, KeyError> {
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
}
