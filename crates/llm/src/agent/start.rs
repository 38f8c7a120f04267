//! The command lines of agents. Every option here was seen in `--help` of the program and tried: Claude Code 2.1.197,
//! codex-cli 0.171.0, Gemini CLI 0.61.0. The prompt and the system prompt are never on them.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::{Agent, Kind, Room};
use crate::Request;
use planexe_base::fs::FsError;

/// A command line, and what its program's environment has beside ours; none where it lacks what ours has.
pub(super) type Line = (Vec<String>, Vec<(String, Option<OsString>)>);

/// A longer schema goes into the prompt: command lines have a limit.
pub(super) const LONGEST: usize = 64 * 1024;

/// What replaces a long system prompt about software where a task has none.
const PLAIN: &str = "Answer the request. Write nothing but the answer.";

/// How an agent is started for a request.
pub(super) fn line(
    agent: &Agent,
    request: &Request,
    schema: Option<&Value>,
    room: &Room,
) -> Result<Line, FsError> {
    let system = if request.system.trim().is_empty() { PLAIN } else { &request.system };
    let system = room.file("system.txt", system.as_bytes())?.display().to_string();
    let mut argv = agent.program.clone();
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
    // Reports of errors, with the prompt in them, are among what agents leave there.
    let mut vars =
        vec![("CLAUDECODE".to_owned(), None), ("TMPDIR".to_owned(), Some(room.temp().into_os_string()))];
    let allowed = request.tools.as_ref().unwrap_or(&agent.tools);
    let tools = allowed.join(",");
    match agent.kind {
        Kind::Claude => {
            // Without a name it makes a call of its own to find one.
            add(&["-p", "--name", "planexe", "--output-format", "stream-json", "--include-partial-messages"]);
            add(&["--verbose", "--safe-mode", "--setting-sources", "", "--strict-mcp-config"]);
            add(&["--disable-slash-commands", "--no-session-persistence", "--tools", &tools]);
            if !allowed.is_empty() {
                add(&["--allowedTools", &tools]);
            }
            add(&["--system-prompt-file", &system]);
            if let Some(schema) = schema {
                add(&["--json-schema", &schema.to_string()]);
            }
            if let Some(model) = &agent.model {
                add(&["--model", model]);
            }
            // What follows a refusal is decided here.
            vars.push(("CLAUDE_CODE_MAX_RETRIES".to_owned(), Some("0".into())));
        }
        Kind::Codex => {
            add(&["exec", "--json", "--skip-git-repo-check", "--ephemeral", "--ignore-user-config"]);
            add(&["--ignore-rules", "-s", "read-only"]);
            let file = format!("model_instructions_file={}", json!(system));
            add(&["-c", &file, "-c", "project_doc_max_bytes=0", "-c", "skills.include_instructions=false"]);
            if allowed.is_empty() {
                add(&["--disable", "shell_tool", "--disable", "apps", "--disable", "multi_agent"]);
                add(&["-c", "web_search=\"disabled\"", "-c", "tools.view_image=false"]);
                add(&["-c", "include_permissions_instructions=false"]);
                add(&["-c", "include_environment_context=false", "-c", "include_apps_instructions=false"]);
            }
            if let Some(schema) = schema {
                let file = room.file("schema.json", schema.to_string().as_bytes())?;
                add(&["--output-schema", &file.display().to_string()]);
            }
            if let Some(model) = &agent.model {
                add(&["-m", model]);
            }
            add(&["-"]);
        }
        Kind::Gemini => {
            add(&["-o", "stream-json", "-e", "none", "--skip-trust"]);
            add(&["--allowed-mcp-server-names", "none", "--approval-mode", "plan"]);
            if let Some(model) = &agent.model {
                add(&["-m", model]);
            }
            vars.push(("GEMINI_SYSTEM_MD".to_owned(), Some(system.into())));
            // A login is kept beside the settings: only a key works without both.
            if agent.has_key {
                let settings = json!({
                    "security": { "auth": { "selectedType": "gemini-api-key" } },
                    "mcpServers": {},
                    "tools": { "core": allowed },
                    "context": { "fileName": ["none.md"] },
                    "privacy": { "usageStatisticsEnabled": false },
                });
                room.file("home/.gemini/settings.json", settings.to_string().as_bytes())?;
                vars.push(("GEMINI_CLI_HOME".to_owned(), Some(room.0.join("home").into())));
            }
        }
    }
    Ok((argv, vars))
}
