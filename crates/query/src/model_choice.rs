//! Gathers which models a task would ask, and what says so. Reads only.

use planexe_base::record::State;
use planexe_build::check_staleness::Judgement;
use planexe_build::runner::providers::id_of;
use planexe_llm::retry::Budgets;
use planexe_pipeline::manifest::tiers::tier_of;
use planexe_pipeline::project::{Project, Spec};
use planexe_store::Store;
use planexe_store::parked::ParkedModel;
use planexe_ui::views::{AskedModel, Asks, By, Marks};

/// The models of a prompt task; those that the attempts of this very prompt left for others are left out.
pub fn asks(project: &Project, spec: &Spec, judgement: Option<&Judgement>) -> Option<Asks> {
    let prompt = spec.recipe.prompt()?;
    let (tables, table) = (&project.tables, project.tables.task.get(spec.name.as_str()));
    let named = table.and_then(|table| table.model.as_ref()).or(tables.defaults.model.as_ref());
    let name = |at: usize| project.endpoints[at].name.as_str();
    let is_as_written = named.is_none_or(|named| {
        let named = named.as_slice();
        named.len() == prompt.models.len()
            && named.iter().zip(&prompt.models).all(|(named, &at)| named == name(at))
    });
    let tier = table.filter(|_| is_as_written).and_then(|table| tier_of(tables, table));
    let by = match table {
        _ if !is_as_written => By::Option,
        Some(table) if table.tier.is_some() => By::Tier,
        Some(table) if table.complexity.is_some() => By::Complexity,
        Some(table) if table.model.is_some() => By::Task,
        _ => By::Defaults,
    };
    let complexity = table.and_then(|table| table.complexity.as_deref()).filter(|_| by == By::Complexity);
    let left = left_by(judgement);
    let has_left = |at: usize| left.as_ref().is_some_and(|budgets| budgets.has_left(name(at)));
    let (left, open): (Vec<usize>, Vec<usize>) = prompt.models.iter().partition(|&&at| has_left(at));
    // Where all were left, it begins anew.
    let (left, open) = if open.is_empty() { (Vec::new(), left) } else { (left, open) };
    Some(Asks {
        models: open
            .into_iter()
            .map(|at| AskedModel {
                name: name(at).to_owned(),
                model: project.endpoints[at].model_name().to_owned(),
            })
            .collect(),
        by,
        tier: tier.and_then(|at| tables.tiers.get_index(at)).map(|(name, _)| name.clone()),
        complexity: complexity.map(|marks| Marks {
            sum: marks.sum(),
            reasoning: marks.reasoning,
            domain: marks.domain,
            context: marks.context,
            output: marks.output,
        }),
        left: left.into_iter().map(|at| name(at).to_owned()).collect(),
    })
}

/// What an attempt that was not brought to its end used up on the prompt there is now, as a build takes it up.
fn left_by(judgement: Option<&Judgement>) -> Option<Budgets> {
    let judgement = judgement?;
    let status = judgement.status.as_deref().filter(|status| status.state != State::Done)?;
    let decision = judgement.prepared.as_ref().map(|prepared| &prepared.decision_id);
    let budgets = status.budgets.clone().filter(|_| status.last.decision_id.as_ref() == decision)?;
    serde_json::from_value(budgets).ok()
}

/// The models of a pipeline that are parked. Another server, model or key under the same name is another model.
pub fn parked(project: &Project, store: &Store) -> Vec<ParkedModel> {
    let is_of = |model: &ParkedModel| {
        project.endpoints.iter().any(|endpoint| endpoint.name == model.model && id_of(endpoint) == model.id)
    };
    store.read_parked().into_iter().filter(is_of).collect()
}

/// The parked models that a task waits for: those of a prompt or of its evaluator where all it may ask are parked, and the
/// one of its program's calls. `kept`: only its evaluator is asked.
pub fn parked_for<'p>(
    project: &Project,
    parked: &'p [ParkedModel],
    spec: &Spec,
    kept: bool,
) -> Vec<&'p ParkedModel> {
    let one = |at: usize| parked.iter().find(|model| model.model == project.endpoints[at].name);
    let all = |models: &[usize]| models.iter().map(|&at| one(at)).collect::<Option<Vec<_>>>();
    let answered = kept && spec.recipe.prompt().is_some();
    let asked = spec.prompts().skip(usize::from(answered));
    let prompts = asked.filter_map(|prompt| all(&prompt.models)).flatten();
    prompts.chain(spec.calls().and_then(|calls| one(calls.endpoint))).collect()
}
