//! Made-up sentences.

use crate::rng::Rng;

pub(super) const NOUNS: [&str; 32] = [
    "budget",
    "team",
    "market",
    "supplier",
    "schedule",
    "risk",
    "customer",
    "permit",
    "contract",
    "site",
    "design",
    "review",
    "partner",
    "milestone",
    "resource",
    "policy",
    "revenue",
    "region",
    "product",
    "standard",
    "audit",
    "training",
    "contractor",
    "forecast",
    "goal",
    "measure",
    "plan",
    "process",
    "quality",
    "scope",
    "stakeholder",
    "strategy",
];

const VERBS: [&str; 16] = [
    "supports",
    "limits",
    "depends on",
    "improves",
    "delays",
    "replaces",
    "measures",
    "funds",
    "shapes",
    "follows",
    "requires",
    "exceeds",
    "confirms",
    "balances",
    "reduces",
    "extends",
];

const ADJECTIVES: [&str; 16] = [
    "local", "early", "shared", "clear", "regional", "steady", "open", "narrow", "annual", "joint",
    "initial", "revised", "critical", "modest", "reliable", "external",
];

pub(super) fn pick<'a>(rng: &mut Rng, list: &[&'a str]) -> &'a str {
    list[(rng.bits() % list.len() as u64) as usize]
}

pub(super) fn sentence(rng: &mut Rng) -> String {
    let text = format!(
        "the {} {} {} the {} {}",
        pick(rng, &ADJECTIVES),
        pick(rng, &NOUNS),
        pick(rng, &VERBS),
        pick(rng, &ADJECTIVES),
        pick(rng, &NOUNS)
    );
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// Some paragraphs of about so many words.
pub(super) fn prose(rng: &mut Rng, task: &str, words: u32) -> String {
    let mut text = format!("Simulated answer of {task}.");
    let mut count = 4;
    let mut sentences = 0;
    while count < words {
        let next = sentence(rng);
        count += next.split_whitespace().count() as u32;
        sentences += 1;
        text.push_str(if sentences % 5 == 0 { "\n\n" } else { " " });
        text.push_str(&next);
    }
    text.push('\n');
    text
}
