//! What an attempt is given: what it is made from, and the answer there is, if one need not be paid for.

use std::sync::Arc;

use super::{Judgement, Made, StaleCheck};
use planexe_base::fs::{self, FsError};
use planexe_base::pattern;
use planexe_base::record::{Digest, Done, InputRecord, MadeWith, Marker};
use planexe_engine::fingerprint::{EVAL, Fingerprint};
use planexe_engine::graph::Task;
use planexe_engine::staleness::Decision;
use planexe_llm::attachment::Attachment;
use planexe_llm::{self as llm, Reply};
use planexe_pipeline::check::{self, CompiledCheck};
use planexe_pipeline::manifest::paths::substitute_vars;
use planexe_pipeline::project::{Project, PromptSpec, Recipe, Spec};
use planexe_pipeline::task_inputs::Inputs;
use planexe_store::calls::{AnswerState, CallRecord, KeptCall};
use planexe_store::candidates::Candidate;

/// What an attempt is made from.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The inputs.
    pub inputs: Inputs,
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// Rendered system prompt.
    pub system: Arc<str>,
    /// Rendered prompt.
    pub prompt: Arc<str>,
    /// Images and PDFs that go with the prompt.
    pub attached: Arc<[Attachment]>,
    /// The checks of the answer, with what they look at.
    pub check: Option<Arc<CompiledCheck>>,
    /// A kept answer to this very prompt.
    pub kept: Option<Box<KeptCall>>,
    /// The answer there is, if it passes the changed schema and checks.
    pub existing: Option<String>,
    /// Only the evaluation of a command's outputs changed: they are taken as they are.
    pub as_it_is: bool,
    /// What an attempt made from the same, which waits for its verdict or was found wanting.
    pub candidate: Option<Box<Candidate>>,
    /// What the attempt is decided on: digest of inputs, prompt, model and parameters.
    pub decision_id: String,
}

impl Prepared {
    /// What a kept answer is held against: one of another program is worded as it is.
    pub fn check_of(&self, kept: &CallRecord) -> Option<Arc<CompiledCheck>> {
        let check = self.check.clone()?;
        Some(if kept.imported.is_some() { Arc::new(check.without_wording()) } else { check })
    }

    /// The files given and their digests.
    pub fn records(&self) -> Vec<InputRecord> {
        self.inputs.records()
    }

    /// Digest of what an attempt makes its outputs from: who evaluates them is left out.
    pub fn made_from(&self) -> Digest {
        let records = self.records();
        Digest::of(&serde_json::to_vec(&(self.fingerprint.without(EVAL), records)).unwrap_or_default())
    }

    /// Whether an attempt needs nothing but a verdict on what is there, if that.
    pub fn has_answer(&self, no_rescue: bool) -> bool {
        let open = self.open_candidate(no_rescue).is_some();
        open || self.kept.is_some() || self.existing.is_some() || self.as_it_is
    }

    /// What there is will not do: it is made anew.
    pub fn make_anew(&mut self) {
        (self.existing, self.kept, self.candidate, self.as_it_is) = (None, None, None, false);
    }

    /// The candidate that waits for its verdict. `no_rescue`: one of a command that failed is none.
    pub fn open_candidate(&self, no_rescue: bool) -> Option<&Candidate> {
        let open =
            |it: &&Candidate| !it.spent && (it.failure.is_none() || !no_rescue || it.success.is_some());
        self.candidate.as_deref().filter(open)
    }
}

/// What an attempt is decided on: inputs, what it is made from, models and parameters.
fn decision_id(project: &Project, spec: &Spec, fingerprint: &Fingerprint, inputs: &Inputs) -> String {
    let models: Vec<MadeWith> = spec.recipe.prompt().map_or(Vec::new(), |prompt| {
        prompt.models.iter().map(|&at| prompt.made_with(&project.endpoints[at])).collect()
    });
    let text = serde_json::to_vec(&(fingerprint.digest(), inputs.records(), models)).unwrap_or_default();
    Digest::of(&text).short().to_string()
}

/// The digest a kept answer is found by: of what is sent to a model.
pub fn call_digest(
    spec: &PromptSpec,
    endpoint: &planexe_pipeline::project::Endpoint,
    system: &str,
    prompt: &str,
    files: &[Attachment],
) -> Digest {
    let schema = spec.schema.as_ref().map(|schema| &schema.value);
    let sent = llm::digest_with(system, prompt, schema, files.iter().map(|file| &file.digest));
    let text = serde_json::to_vec(&(sent, spec.made_with(endpoint))).unwrap_or_default();
    Digest::of(&text)
}

impl StaleCheck<'_> {
    /// What an attempt is given beside what it is made from: an answer that need not be paid for.
    pub(super) fn prepare(
        &self,
        task: &Task,
        spec: &Spec,
        made: Made,
        inputs: Inputs,
        judgement: &Judgement,
    ) -> Result<Prepared, FsError> {
        let decision_id = decision_id(self.project, spec, &made.fingerprint, &inputs);
        let mut prepared = Prepared {
            inputs,
            fingerprint: made.fingerprint,
            system: made.system.into(),
            prompt: made.prompt.into(),
            check: made.check,
            attached: made.attached,
            kept: None,
            existing: None,
            as_it_is: false,
            candidate: None,
            decision_id,
        };
        let Decision::Stale { redraw, try_existing, .. } = &judgement.decision else { return Ok(prepared) };
        if spec.isolate.is_some() && !redraw {
            // What it was made from then is recorded with it, and is no matter any more.
            prepared.candidate = self.store.to_be_merged(&task.name)?.map(Box::new);
        }
        if spec.eval.is_some() && !redraw && !self.no_reuse && prepared.candidate.is_none() {
            let candidate = self.store.candidate(&task.name)?.map(Box::new);
            prepared.candidate = candidate.filter(|it| it.made_from == prepared.made_from());
        }
        let Some(prompt) = spec.recipe.prompt() else {
            prepared.as_it_is = *try_existing && matches!(spec.recipe, Recipe::Command(_));
            return Ok(prepared);
        };
        if *try_existing {
            prepared.existing = self.existing(task, prompt, &prepared);
        }
        if !redraw && !self.no_reuse && prepared.existing.is_none() {
            prepared.kept = self.kept(task, prompt, &prepared)?;
            if prepared.kept.is_none()
                && let Marker::Valid(done) = &judgement.marker
            {
                prepared.kept = self.rested_on(done, prompt, &prepared)?;
            }
            // A later change of the prompt asks a model: what was imported answered the plan, not that prompt.
            if prepared.kept.is_none() && judgement.marker == Marker::Missing {
                prepared.kept = self.imported(task, prompt, &prepared)?;
            }
        }
        Ok(prepared)
    }

    /// The answer there is, if it passes.
    fn existing(&self, task: &Task, prompt: &PromptSpec, prepared: &Prepared) -> Option<String> {
        let text = fs::read_to_string(&self.store.path(task.outputs.first()?)).ok()?;
        check::validate(&text, prompt.schema.as_deref(), prepared.check.as_deref()).ok().map(|_| text)
    }

    /// A kept answer to this prompt by any of the task's models that passes.
    fn kept(
        &self,
        task: &Task,
        prompt: &PromptSpec,
        prepared: &Prepared,
    ) -> Result<Option<Box<KeptCall>>, FsError> {
        for &at in &prompt.models {
            let endpoint = &self.project.endpoints[at];
            let digest =
                call_digest(prompt, endpoint, &prepared.system, &prepared.prompt, &prepared.attached);
            if let Some(kept) = self.store.calls().find_named(&task.name, &digest)?
                && let Some(reply) = &kept.record.reply
                && check::validate(
                    &reply.text,
                    prompt.schema.as_deref(),
                    prepared.check_of(&kept.record).as_deref(),
                )
                .is_ok()
            {
                return Ok(Some(Box::new(kept)));
            }
        }
        Ok(None)
    }

    /// The answer that a record rests on, if it is one to this prompt and passes. It is not found as others are where the
    /// task was renamed, or where its schema changed and the answer there was held.
    fn rested_on(
        &self,
        done: &Done,
        prompt: &PromptSpec,
        prepared: &Prepared,
    ) -> Result<Option<Box<KeptCall>>, FsError> {
        let Some(name) = &done.call else { return Ok(None) };
        let made_with = |&at: &usize| prompt.made_with(&self.project.endpoints[at]);
        if !prompt.models.iter().map(made_with).any(|with| done.made_with.as_ref() == Some(&with)) {
            return Ok(None);
        }
        let Some(record) = self.store.calls().read(name)? else { return Ok(None) };
        let asked = &record.request;
        let files = prepared.attached.iter().map(|file| &file.digest);
        let same = *asked.system == *prepared.system
            && *asked.prompt == *prepared.prompt
            && asked.files.iter().map(|file| &file.blake3).eq(files);
        let passes = |reply: &Reply| {
            check::validate(&reply.text, prompt.schema.as_deref(), prepared.check.as_deref()).is_ok()
        };
        let holds = same
            && record.task == done.task
            && record.verdict != AnswerState::Rejected
            && record.imported.is_none()
            && record.reply.as_ref().is_some_and(passes);
        Ok(holds.then(|| Box::new(KeptCall { name: name.clone(), usable: true, record })))
    }

    /// The answer that another program got to this plan, if it was imported and passes.
    fn imported(
        &self,
        task: &Task,
        prompt: &PromptSpec,
        prepared: &Prepared,
    ) -> Result<Option<Box<KeptCall>>, FsError> {
        let tables = &self.project.tables;
        let named = tables.pipeline.plan.as_deref().and_then(|plan| substitute_vars(plan, &tables.vars).ok());
        let Some(plan) = named else { return Ok(None) };
        let Some((plan, _)) = self.index.digest(&self.store.path(&pattern::normalize(&plan)))? else {
            return Ok(None);
        };
        let kept = self.store.calls().find_imported(&task.name, &plan)?;
        let passes = |kept: &KeptCall| {
            let reply = kept.record.reply.as_ref();
            let check = prepared.check_of(&kept.record);
            reply.is_some_and(|reply| {
                check::validate(&reply.text, prompt.schema.as_deref(), check.as_deref()).is_ok()
            })
        };
        Ok(kept.filter(passes).map(Box::new))
    }
}
