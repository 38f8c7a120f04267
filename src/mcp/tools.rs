//! The table of tools: what each is called, says of itself, takes and gives.

use serde_json::{Map, Value, json};

use super::arguments::{Given, schema_of};
use super::tool_error::ToolError;
use super::{Context, about, files, interview, look, plans, steer};

/// A tool.
pub struct Tool {
    /// What it is called by.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is for, for an agent that knows nothing else.
    pub description: &'static str,
    /// JSON Schema of its arguments.
    pub input: fn() -> Value,
    /// Members of its result that are always there or named here, with their types.
    pub output: &'static [(&'static str, &'static str)],
    /// What it does to the world.
    pub effect: Effect,
    /// It may wait for long.
    pub waits: bool,
    run: Run,
}

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Looks,
    /// It adds or steers, and the same call again changes nothing more.
    Steers,
    /// It starts calls of models, which may cost money.
    Builds,
    /// It takes something away.
    Destroys,
}

type Run = fn(&Context<'_>, Given) -> Result<Value, ToolError>;

/// What `plan_status` always has; `plan_wait` too.
const STATUS: &[(&str, &str)] = &[
    ("plan_id", "string"),
    ("phase", "string"),
    ("steps_completed", "integer"),
    ("steps_total", "integer"),
    ("progress_percent", "integer"),
    ("counts", "object"),
    ("stopped", "boolean"),
    ("paused", "boolean"),
    ("quality_summary", "object"),
    ("cursor", "string"),
    ("next", "string"),
];

/// All tools, in the order in which an agent needs them.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "plan_create",
        title: "Create a plan",
        description: "Make a plan from a prompt and start building it. The build takes minutes to hours, continues after this \
            call and after this server ends; follow it with `plan_wait`. The same prompt, pipeline and profile within \
            `window_s` seconds give the plan there is (`deduplicated: true`), so a call that timed out may be repeated. \
            `model_profiles` lists profiles; the `sample` profile of `strategic-plan` needs no model and no key.",
        output: &[
            ("plan_id", "string"),
            ("deduplicated", "boolean"),
            ("pipeline", "string"),
            ("phase", "string"),
            ("build", "object"),
            ("next", "string"),
        ],
        effect: Effect::Builds,
        waits: false,
        input: schema_of::<plans::Create>,
        run: |context, given| plans::create(context, given.read()?),
    },
    Tool {
        name: "plan_interview",
        title: "Ask what is missing",
        description: "Before a plan made with `build: false` is built: find what its text lacks (one call of a model; none for a \
            text that was looked at), with up to five questions and suggestions for the person. Call again with their answers.",
        output: &[("plan_id", "string"), ("state", "string"), ("next", "string")],
        effect: Effect::Builds,
        waits: true,
        input: schema_of::<interview::Interview>,
        run: |context, given| interview::interview(context, given.read()?),
    },
    Tool {
        name: "plan_wait",
        title: "Wait for a plan",
        description: "Wait until something new happens to a plan: by default until it is complete, a task fails, a person is \
            needed, or its build ends. Give the `cursor` of the last answer: what was told in it is not told again, and what \
            happened since is told at once. Gives the same as `plan_status`, with `happened`, `timed_out` and `news`. Many \
            clients give up a call after 60 seconds, so wait for less and call again; nothing is lost between two calls.",
        output: STATUS,
        effect: Effect::Looks,
        waits: true,
        input: schema_of::<look::WaitFor>,
        run: |context, given| look::wait(context, given.read()?),
    },
    Tool {
        name: "plan_status",
        title: "Look at a plan",
        description: "Where a plan stands: phase, steps done, what runs, what failed and why, time to go, cost, quality, and \
            what to do next. `full: true` gives every task with all its fields (long: about a kilobyte a task).",
        output: STATUS,
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<look::StatusOf>,
        run: |context, given| look::status(context, given.read()?),
    },
    Tool {
        name: "plan_list",
        title: "List plans",
        description: "The plans there are, the newest first, each with its phase, steps and the beginning of its prompt.",
        output: &[("plans", "array"), ("total", "integer")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<plans::List>,
        run: |context, given| plans::list(context, given.read()?),
    },
    Tool {
        name: "plan_explain",
        title: "Explain a task",
        description: "Why a task failed, why it would run again (with the difference of what changed), what it waits for, \
            and what to do about it.",
        output: &[("task", "string"), ("state", "string"), ("reasons", "array")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<look::Explain>,
        run: |context, given| look::explain(context, given.read()?),
    },
    Tool {
        name: "plan_retry",
        title: "Retry failed tasks",
        description: "Have failed tasks tried again, with fresh answers and full budgets, and go on building. Without `tasks` \
            all that failed. For a cause outside (a server away, a key not set) `plan_resume` is enough once it is mended.",
        output: &[("plan_id", "string"), ("tasks", "array"), ("next", "string")],
        effect: Effect::Builds,
        waits: false,
        input: schema_of::<steer::Retry>,
        run: |context, given| steer::retry(context, given.read()?),
    },
    Tool {
        name: "plan_resume",
        title: "Start or resume a plan",
        description: "Start a plan that was only made, or go on with one that was stopped, paused, interrupted, failed, or \
            changed by `plan_invalidate`. Only what is not done runs; kept answers are used again.",
        output: &[("plan_id", "string"), ("build", "object"), ("next", "string")],
        effect: Effect::Builds,
        waits: false,
        input: schema_of::<steer::Resume>,
        run: |context, given| steer::resume(context, given.read()?),
    },
    Tool {
        name: "plan_stop",
        title: "Stop a plan",
        description: "Tell the running build to start nothing more; what runs finishes and is recorded. `plan_resume` continues \
            from there. `hard: true` ends running calls at once and gives the plan up (`plan_resume` then wants `force`).",
        output: &[("plan_id", "string"), ("stop_requested", "boolean"), ("message", "string")],
        effect: Effect::Steers,
        waits: false,
        input: schema_of::<steer::Stop>,
        run: |context, given| steer::stop(context, given.read()?),
    },
    Tool {
        name: "plan_invalidate",
        title: "Have tasks made again",
        description: "Have tasks made again with fresh answers; what they made goes to history. Only says what would go, \
            unless `confirm: true`. With `cascade` also everything that depends on them; without it, readers run again only \
            if what they read comes out different. `plan_resume` then builds.",
        output: &[("plan_id", "string"), ("done", "boolean"), ("tasks", "array"), ("next", "string")],
        effect: Effect::Destroys,
        waits: false,
        input: schema_of::<steer::Invalidate>,
        run: |context, given| steer::invalidate(context, given.read()?),
    },
    Tool {
        name: "plan_files",
        title: "List the files of a plan",
        description: "The outputs, inputs and records of a plan, the newest first, each with its size and the task that made it.",
        output: &[("plan_id", "string"), ("files", "array"), ("total", "integer")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<files::List>,
        run: |context, given| files::list(context, given.read()?),
    },
    Tool {
        name: "plan_file_info",
        title: "Look at a file of a plan",
        description: "Length, SHA-256, type and task of a file; of an output that is not made yet `ready: false` and why.",
        output: &[("plan_id", "string"), ("ready", "boolean"), ("path", "string")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<files::Info>,
        run: |context, given| files::info(context, given.read()?),
    },
    Tool {
        name: "plan_read_file",
        title: "Read a file of a plan",
        description: "The text of an output, input or record. Long files come in pieces: go on at `next_offset` until it is \
            null. Of a report read `report.md`, not `report.html`.",
        output: &[("plan_id", "string"), ("path", "string"), ("text", "string"), ("bytes", "integer")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<files::Read>,
        run: |context, given| files::read(context, given.read()?),
    },
    Tool {
        name: "plan_archive",
        title: "Archive a plan",
        description: "Put a plan aside: it is kept, but no longer listed. `undo: true` takes it back. Not while it is built.",
        output: &[("plan_id", "string"), ("archived", "boolean")],
        effect: Effect::Steers,
        waits: false,
        input: schema_of::<plans::Archive>,
        run: |context, given| plans::archive(context, given.read()?),
    },
    Tool {
        name: "plan_delete",
        title: "Delete a plan",
        description: "Remove a plan with all its answers and history, for ever; `plan_archive` keeps it. Wants `confirm: true`. \
            Not while it is built.",
        output: &[("plan_id", "string"), ("deleted", "boolean")],
        effect: Effect::Destroys,
        waits: false,
        input: schema_of::<plans::Delete>,
        run: |context, given| plans::delete(context, given.read()?),
    },
    Tool {
        name: "example_prompts",
        title: "Example prompts",
        description: "Whole prompts as they should be: what, who, money, dates, conditions. `profile` plays recorded answers to it.",
        output: &[("pipeline", "string"), ("prompts", "array")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<about::Of>,
        run: |context, given| about::example_prompts(context, given.read()?),
    },
    Tool {
        name: "example_plans",
        title: "Example plans",
        description: "Plans that can be made in seconds, without a model and without a key, from recorded answers: to see what \
            comes out before paying for it.",
        output: &[("pipeline", "string"), ("plans", "array")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<about::Of>,
        run: |context, given| about::example_plans(context, given.read()?),
    },
    Tool {
        name: "model_profiles",
        title: "Model profiles",
        description: "The profiles `plan_create` takes: what each is for, its models, their prices (USD per million tokens), \
            the host that is asked, and whether the key it wants is set (never the key).",
        output: &[("pipeline", "string"), ("profiles", "array")],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<about::Of>,
        run: |context, given| about::model_profiles(context, given.read()?),
    },
    Tool {
        name: "server_info",
        title: "About this server",
        description: "Version, host, the folder the plans are in, the pipelines, and whether builds may be started.",
        output: &[
            ("name", "string"),
            ("version", "string"),
            ("runs_root", "string"),
            ("pipelines", "array"),
            ("builds_allowed", "boolean"),
        ],
        effect: Effect::Looks,
        waits: false,
        input: schema_of::<about::Nothing>,
        run: |context, given| given.read().and_then(|about::Nothing {}| about::server_info(context)),
    },
];

/// The tool of a name.
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// The answer to `tools/list`.
pub fn list() -> Vec<Value> {
    TOOLS.iter().map(Tool::to_json).collect()
}

impl Tool {
    fn to_json(&self) -> Value {
        let properties: Map<String, Value> =
            self.output.iter().map(|(name, kind)| ((*name).to_owned(), json!({ "type": kind }))).collect();
        let required: Vec<&str> = self.output.iter().map(|(name, _)| *name).collect();
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": (self.input)(),
            "outputSchema": { "type": "object", "properties": properties, "required": required },
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.effect == Effect::Looks,
                "destructiveHint": self.effect == Effect::Destroys,
                "idempotentHint": matches!(self.effect, Effect::Looks | Effect::Steers) || self.name == "plan_create",
                "openWorldHint": self.effect == Effect::Builds,
            },
        })
    }
}

/// Calls a tool with arguments that it may or may not take.
pub(super) fn run(
    context: &Context<'_>,
    tool: &Tool,
    arguments: &Map<String, Value>,
) -> Result<Value, ToolError> {
    (tool.run)(context, Given::new(tool.name, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_has_a_name_of_its_own_and_schemas_that_are_schemas() {
        let mut names: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 19);
        for tool in list() {
            for schema in ["inputSchema", "outputSchema"] {
                assert!(jsonschema::meta::is_valid(&tool[schema]), "{tool:#}");
            }
            assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool:#}");
            for (name, property) in tool["inputSchema"]["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{} {name}", tool["name"]);
            }
        }
        // All of it is read by an agent before it does anything.
        let length = serde_json::to_string(&list()).unwrap().len();
        assert!(length < 20_000, "{length}");
    }
}
