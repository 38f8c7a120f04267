//! Made-up answers: for a dry run of a pipeline's shape, for demonstrations and tests. The same prompt of
//! the same task gives the same answer, shaped by the schema if there is one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::recorded::Pace;
use super::retry::Rng;
use super::{
    CallContext, CallError, Class, Health, Provider, Reply, Request, Usage, estimate, is_evaluation,
    prompt_digest,
};
use crate::manifest::types::{Fail, FailShares, Model};

/// Words of a text answer where the table does not say.
const WORDS: u32 = 120;
/// Depth at which optional members and further items are left out.
const DEEP: usize = 6;
/// Depth at which nothing more is made.
const TOO_DEEP: usize = 40;

/// The provider that makes them up.
pub struct Simulated {
    seed: u64,
    fail: FailShares,
    words: u32,
    price: Option<crate::manifest::types::Price>,
    pace: Pace,
    /// How often each prompt was asked, so that a call that failed may pass the next time.
    asked: Mutex<HashMap<String, u64>>,
}

impl Simulated {
    /// Reads the table.
    pub fn new(model: &Model) -> Simulated {
        Simulated {
            seed: model.seed.unwrap_or(0),
            fail: match model.fail {
                None => FailShares::default(),
                Some(Fail::Error(error)) => FailShares { error, cut: 0.0 },
                Some(Fail::Shares(shares)) => shares,
            },
            words: model.words.unwrap_or(WORDS).max(1),
            price: model.price,
            pace: Pace::of(model),
            asked: Mutex::default(),
        }
    }
}

/// A random source for these parts.
fn rng_of(seed: u64, parts: &[&str]) -> Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Rng::new(u64::from_le_bytes(bytes))
}

impl Provider for Simulated {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let started = Instant::now();
        let digest = prompt_digest(&request.system, &request.prompt, request.schema.as_ref());
        let key = request.key.as_deref().unwrap_or_default();
        let who = [request.task.as_str(), key, &digest];
        let time = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let time = asked.entry(who.concat()).or_default();
            *time += 1;
            *time
        };
        let draw = rng_of(self.seed, &[who[0], who[1], who[2], &time.to_string()]).unit();
        let usage = |output: &str| Usage {
            input_tokens: estimate::request_tokens(request),
            output_tokens: estimate::tokens(output),
            calls: 1,
            ..Usage::default()
        };
        if draw < self.fail.error {
            self.pace.play("", context)?;
            let mut error = CallError::new(Class::ServerError, "a made-up server error (`fail`)");
            error.status = Some(500);
            return Err(error);
        }
        let mut rng = rng_of(self.seed, &who);
        let text = match &request.schema {
            Some(schema) => {
                let mut value = Maker { root: schema, rng: &mut rng }.value(schema, 0);
                // Not of a pipeline that fails at every other task: one that its evaluators are content with.
                if is_evaluation(&request.task)
                    && let Some(score) = value.get_mut("score")
                {
                    *score = json!((75.0 + 25.0 * rng.unit()).round() / 100.0);
                }
                if let Some(check) = &request.check {
                    check.mend(&mut value, &mut |n| (rng.bits() % n.max(1) as u64) as usize);
                }
                serde_json::to_string_pretty(&value).unwrap_or_default()
            }
            None => prose(&mut rng, &request.task, self.words),
        };
        if draw < self.fail.error + self.fail.cut {
            let mut half = text.len() / 2;
            while !text.is_char_boundary(half) {
                half += 1;
            }
            self.pace.play(&text[..half], context)?;
            let mut error = CallError::new(Class::Cut, "a made-up cut (`fail`)");
            error.partial = text[..half].to_owned();
            error.usage = usage(&text[..half]);
            return Err(error);
        }
        let first_token_s = self.pace.play(&text, context)?;
        let mut usage = usage(&text);
        if let Some(price) = &self.price {
            usage.cost_usd = super::whole::cost(&usage, price);
        }
        Ok(Reply {
            text,
            usage,
            model: Some("simulated".into()),
            finish: Some("stop".into()),
            first_token_s: Some(first_token_s),
            duration_s: started.elapsed().as_secs_f64(),
            ..Reply::default()
        })
    }

    fn health(&self) -> Health {
        Health::Up
    }
}

const NOUNS: [&str; 32] = [
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

fn pick<'a>(rng: &mut Rng, list: &[&'a str]) -> &'a str {
    list[(rng.bits() % list.len() as u64) as usize]
}

fn sentence(rng: &mut Rng) -> String {
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
fn prose(rng: &mut Rng, task: &str, words: u32) -> String {
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

/// Makes values for one schema.
struct Maker<'a> {
    root: &'a Value,
    rng: &'a mut Rng,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        let Value::Object(source) = schema else { return Value::String(sentence(self.rng)) };
        if depth > TOO_DEEP {
            return Value::Null;
        }
        if let Some(value) = source.get("const") {
            return value.clone();
        }
        if let Some(list) = source.get("enum").and_then(Value::as_array).filter(|list| !list.is_empty()) {
            return list[(self.rng.bits() % list.len() as u64) as usize].clone();
        }
        if let Some(merged) = self.merged(source, depth) {
            return self.value(&merged, depth + 1);
        }
        match self.kind(source, depth) {
            "object" => self.object(source, depth),
            "array" => self.array(source, depth),
            "integer" => self.number(source, true),
            "number" => self.number(source, false),
            "boolean" => json!(self.rng.bits().is_multiple_of(2)),
            "null" => Value::Null,
            _ => Value::String(self.string(source)),
        }
    }

    /// The schema with `$ref`, `allOf` and the first branch of `anyOf` or `oneOf` written into it.
    fn merged(&self, source: &Map<String, Value>, depth: usize) -> Option<Value> {
        let mut out = source.clone();
        let mut parts = Vec::new();
        if let Some(target) = out.remove("$ref") {
            let target = target.as_str().and_then(|t| t.strip_prefix('#')).and_then(|p| self.root.pointer(p));
            parts.extend(target.cloned());
        }
        if let Some(Value::Array(all)) = out.remove("allOf") {
            parts.extend(all);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = out.remove(name) {
                // Deep down the branch that ends soonest.
                let plain = |branch: &&Value| branch.get("type").is_some_and(|kind| kind == "null");
                let end = branches.iter().find(plain).filter(|_| depth >= DEEP);
                parts.extend(end.or(branches.first()).cloned());
            }
        }
        if parts.is_empty() {
            return None;
        }
        for part in parts {
            let Value::Object(part) = part else { continue };
            for (key, value) in part {
                match (out.get_mut(&key), value) {
                    (Some(Value::Object(mine)), Value::Object(other)) if key == "properties" => {
                        mine.extend(other);
                    }
                    (Some(Value::Array(mine)), Value::Array(other)) if key == "required" => {
                        mine.extend(other)
                    }
                    (Some(_), _) => {}
                    (None, value) => {
                        out.insert(key, value);
                    }
                }
            }
        }
        Some(Value::Object(out))
    }

    fn kind<'s>(&self, source: &'s Map<String, Value>, depth: usize) -> &'s str {
        match source.get("type") {
            Some(Value::String(kind)) => kind,
            Some(Value::Array(kinds)) => {
                let null = kinds.iter().filter_map(Value::as_str).find(|kind| *kind == "null");
                let first = kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null");
                if depth >= DEEP { null.or(first) } else { first.or(null) }.unwrap_or("string")
            }
            _ if source.contains_key("properties") || source.contains_key("additionalProperties") => "object",
            _ if source.contains_key("items") || source.contains_key("prefixItems") => "array",
            _ if source.contains_key("minimum") || source.contains_key("maximum") => "number",
            _ => "string",
        }
    }

    fn object(&mut self, source: &Map<String, Value>, depth: usize) -> Value {
        let mut object = Map::new();
        let required: Vec<&str> = source
            .get("required")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        for (name, property) in source.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if depth < DEEP || required.contains(&name.as_str()) {
                object.insert(name.clone(), self.value(property, depth + 1));
            }
        }
        for name in required {
            if !object.contains_key(name) {
                let value = self.value(source.get("additionalProperties").unwrap_or(&Value::Null), depth + 1);
                object.insert(name.to_owned(), value);
            }
        }
        let least = bound(source, "minProperties").unwrap_or(0).max(u64::from(
            object.is_empty() && matches!(source.get("additionalProperties"), Some(Value::Object(_))),
        ));
        let mut count = 0;
        while (object.len() as u64) < least.min(1000) && count < 10_000 {
            count += 1;
            let name = format!("{}_{count}", pick(self.rng, &NOUNS));
            let value = self.value(source.get("additionalProperties").unwrap_or(&Value::Null), depth + 1);
            object.insert(name, value);
        }
        Value::Object(object)
    }

    fn array(&mut self, source: &Map<String, Value>, depth: usize) -> Value {
        let mut list: Vec<Value> = Vec::new();
        for item in source.get("prefixItems").and_then(Value::as_array).into_iter().flatten() {
            list.push(self.value(item, depth + 1));
        }
        let least = bound(source, "minItems").unwrap_or(0);
        let most = bound(source, "maxItems").unwrap_or(u64::MAX);
        let wanted = if depth >= DEEP { least } else { least.max(2 + self.rng.bits() % 2) };
        let wanted = wanted.max(least).min(most).min(10_000) as usize;
        let any = Value::Null;
        let items = source.get("items").unwrap_or(&any);
        let unique = source.get("uniqueItems") == Some(&Value::Bool(true));
        let mut tries = 0;
        while list.len() < wanted && tries < wanted * 20 + 20 {
            tries += 1;
            let value = self.value(items, depth + 1);
            if !(unique && list.contains(&value)) {
                list.push(value);
            }
        }
        Value::Array(list)
    }

    fn number(&mut self, source: &Map<String, Value>, whole: bool) -> Value {
        let of = |name: &str| source.get(name).and_then(Value::as_f64);
        let step = of("multipleOf").filter(|step| *step > 0.0).unwrap_or(if whole { 1.0 } else { 0.01 });
        let low =
            of("minimum").into_iter().chain(of("exclusiveMinimum").map(|low| low + step)).reduce(f64::max);
        let high =
            of("maximum").into_iter().chain(of("exclusiveMaximum").map(|high| high - step)).reduce(f64::min);
        let (low, high) = match (low, high) {
            (Some(low), Some(high)) => (low, high.max(low)),
            (Some(low), None) => (low, low + 100.0 * step.max(1.0)),
            (None, Some(high)) => (high - 100.0 * step.max(1.0), high),
            (None, None) => (1.0, 100.0),
        };
        // On the grid of `step`, within both bounds.
        let (first, last) = ((low / step).ceil(), (high / step).floor());
        let picked = (first + (self.rng.unit() * (last - first + 1.0)).floor()).min(last.max(first));
        let value = picked * step;
        if whole || value.fract() == 0.0 && step.fract() == 0.0 {
            json!(value as i64)
        } else {
            // As few digits as the step has, not 0.30000000000000004.
            let tidy = (value * 1e6).round() / 1e6;
            json!(if tidy < low || tidy > high { value } else { tidy })
        }
    }

    fn string(&mut self, source: &Map<String, Value>) -> String {
        let bits = self.rng.bits();
        let day = 1 + bits % 28;
        let month = 1 + (bits >> 8) % 12;
        let hour = (bits >> 16) % 24;
        let word = pick(self.rng, &NOUNS);
        let made = match source.get("format").and_then(Value::as_str).unwrap_or_default() {
            "date" => format!("2026-{month:02}-{day:02}"),
            "date-time" => format!("2026-{month:02}-{day:02}T{hour:02}:30:00Z"),
            "time" => format!("{hour:02}:30:00Z"),
            "duration" => format!("P{day}D"),
            "email" | "idn-email" => format!("{word}{day}@example.com"),
            "hostname" | "idn-hostname" => format!("{word}.example.com"),
            "uri" | "iri" | "uri-reference" | "iri-reference" => format!("https://example.com/{word}/{day}"),
            "uuid" => {
                let more = self.rng.bits();
                format!(
                    "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                    bits as u32,
                    (bits >> 32) as u16,
                    bits >> 52,
                    more & 0xfff,
                    more >> 16
                )
            }
            "ipv4" => format!("192.0.2.{day}"),
            "ipv6" => format!("2001:db8::{day:x}"),
            "json-pointer" => format!("/{word}"),
            "regex" => "^[a-z]+$".to_owned(),
            _ => String::new(),
        };
        if !made.is_empty() {
            return made;
        }
        if let Some(pattern) = source.get("pattern").and_then(Value::as_str)
            && let Some(made) = matching(pattern, self.rng)
        {
            return made;
        }
        let least = bound(source, "minLength").unwrap_or(0).min(100_000) as usize;
        let most = bound(source, "maxLength").map_or(usize::MAX, |most| most as usize);
        let mut text = if most < 30 { word.to_owned() } else { sentence(self.rng) };
        while text.chars().count() < least {
            text.push(' ');
            text.push_str(&sentence(self.rng));
        }
        text.chars().take(most).collect()
    }
}

fn bound(source: &Map<String, Value>, name: &str) -> Option<u64> {
    source.get(name).and_then(|value| value.as_u64().or(value.as_f64().map(|number| number as u64)))
}

/// A string a simple pattern matches: literals, classes, groups, alternatives and counts. None for what
/// goes beyond.
fn matching(pattern: &str, rng: &mut Rng) -> Option<String> {
    let body = pattern.strip_prefix('^').unwrap_or(pattern);
    let body = match body.strip_suffix('$') {
        Some(rest) if !rest.ends_with('\\') => rest,
        _ => body,
    };
    let chars: Vec<char> = body.chars().collect();
    let mut at = 0;
    let made = alternatives(&chars, &mut at, rng, 0)?;
    (at == chars.len()).then_some(made)
}

fn alternatives(chars: &[char], at: &mut usize, rng: &mut Rng, depth: usize) -> Option<String> {
    let mut branches = vec![String::new()];
    while let Some(&c) = chars.get(*at) {
        match c {
            ')' => break,
            '|' => {
                *at += 1;
                branches.push(String::new());
                continue;
            }
            _ => {}
        }
        let piece_at = *at;
        let first = piece(chars, at, rng, depth)?;
        let piece_end = *at;
        let times = count(chars, at, rng)?;
        let last = branches.last_mut()?;
        for time in 0..times {
            if time == 0 {
                last.push_str(&first);
            } else {
                let mut again = piece_at;
                last.push_str(&piece(&chars[..piece_end], &mut again, rng, depth)?);
            }
        }
    }
    let index = (rng.bits() % branches.len() as u64) as usize;
    Some(branches.swap_remove(index))
}

fn piece(chars: &[char], at: &mut usize, rng: &mut Rng, depth: usize) -> Option<String> {
    let c = *chars.get(*at)?;
    *at += 1;
    match c {
        '(' if depth < 8 => {
            if chars.get(*at) == Some(&'?') {
                if chars.get(*at + 1) != Some(&':') {
                    return None;
                }
                *at += 2;
            }
            let made = alternatives(chars, at, rng, depth + 1)?;
            (chars.get(*at) == Some(&')')).then_some(())?;
            *at += 1;
            Some(made)
        }
        '[' => {
            let mut options = Vec::new();
            if chars.get(*at) == Some(&'^') {
                return None;
            }
            while *chars.get(*at)? != ']' {
                let low = class_char(chars, at, &mut options)?;
                if let (Some(low), Some('-'), Some(high)) = (low, chars.get(*at), chars.get(*at + 1))
                    && *high != ']'
                    && *high != '\\'
                    && low <= *high
                {
                    options.extend((low..=*high).take(256));
                    *at += 2;
                    continue;
                }
                options.extend(low);
            }
            *at += 1;
            (!options.is_empty()).then(|| options[(rng.bits() % options.len() as u64) as usize].to_string())
        }
        '\\' => {
            *at -= 1;
            let mut options = Vec::new();
            let plain = class_char(chars, at, &mut options)?;
            options.extend(plain);
            Some(options[(rng.bits() % options.len() as u64) as usize].to_string())
        }
        '.' => Some(char::from(b'a' + (rng.bits() % 26) as u8).to_string()),
        '^' | '$' | '*' | '+' | '?' | '{' => None,
        c => Some(c.to_string()),
    }
}

/// One character of a class, or the characters of an escape that stands for several.
fn class_char(chars: &[char], at: &mut usize, options: &mut Vec<char>) -> Option<Option<char>> {
    let c = *chars.get(*at)?;
    *at += 1;
    if c != '\\' {
        return Some(Some(c));
    }
    let escaped = *chars.get(*at)?;
    *at += 1;
    match escaped {
        'd' => options.extend('0'..='9'),
        'w' => options.extend('a'..='z'),
        's' => options.push(' '),
        'n' => options.push('\n'),
        't' => options.push('\t'),
        c if c.is_ascii_alphanumeric() => return None,
        c => return Some(Some(c)),
    }
    Some(None)
}

fn count(chars: &[char], at: &mut usize, rng: &mut Rng) -> Option<u64> {
    let (least, most) = match chars.get(*at) {
        Some('*') => (0, 4),
        Some('+') => (1, 6),
        Some('?') => (0, 1),
        Some('{') => {
            let end = *at + chars[*at..].iter().position(|c| *c == '}')?;
            let text: String = chars[*at + 1..end].iter().collect();
            *at = end;
            match text.split_once(',') {
                None => (text.parse().ok()?, text.parse().ok()?),
                Some((least, "")) => (least.parse().ok()?, least.parse::<u64>().ok()? + 3),
                Some((least, most)) => (least.parse().ok()?, most.parse().ok()?),
            }
        }
        _ => return Some(1),
    };
    *at += 1;
    if chars.get(*at) == Some(&'?') {
        *at += 1;
    }
    (least <= most && most <= 1000).then(|| least + rng.bits() % (most - least + 1))
}

#[cfg(test)]
mod tests {
    use super::super::CallProgress;
    use super::*;
    use crate::cancel::Cancel;

    #[test]
    fn texts_that_match_a_pattern() {
        for pattern in [
            "^[A-Z]{2,3}-\\d{4}(a|b)?$",
            "(?:x|yy)+[a-c_.]*",
            "\\w\\s\\d{2,}",
            "[\\d\\.]{3}.z?",
            "a|bc|[x-z-]?",
            "(a(b(c)))\\$",
            "\\t\\n[\\t ]{1}",
        ] {
            let regex = regex::Regex::new(pattern).expect("a pattern");
            for seed in 0..50 {
                let made = matching(pattern, &mut Rng::new(seed)).expect(pattern);
                assert!(regex.is_match(&made), "{pattern}: {made:?}");
            }
        }
        for beyond in ["(?=x)", "[^a]", "\\p{L}", "a{9,2}", "(a", "a)", "[a", "*a", "x{1,}{", "\\"] {
            assert_eq!(matching(beyond, &mut Rng::new(1)), None, "{beyond}");
        }
    }

    fn ask(
        simulated: &Simulated,
        task: &str,
        prompt: &str,
        schema: Option<Value>,
    ) -> Result<Reply, CallError> {
        let request = Request {
            task: task.into(),
            key: None,
            system: String::new(),
            prompt: prompt.into(),
            rejected: Vec::new(),
            schema,
            params: Map::new(),
            params_extra: Map::new(),
            check: None,
        };
        let context =
            CallContext { cancel: &Cancel::new(), progress: &CallProgress::default(), time_left: None };
        simulated.call(&request, &context)
    }

    #[test]
    fn data_is_valid_under_its_schema() {
        let schemas = [
            json!({ "type": "object", "properties": {
                "name": { "type": "string", "minLength": 40, "maxLength": 60 },
                "short": { "type": "string", "maxLength": 5 },
                "code": { "type": "string", "pattern": "^[A-Z]{2,3}-\\d{4}(a|b)?$" },
                "day": { "type": "string", "format": "date" },
                "at": { "type": "string", "format": "date-time" },
                "id": { "type": "string", "format": "uuid" },
                "mail": { "type": "string", "format": "email" },
                "kind": { "enum": ["a", "b", 3] },
                "fixed": { "const": { "x": 1 } },
                "rate": { "type": "number", "minimum": 0, "maximum": 1 },
                "odd": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5, "multipleOf": 0.25 },
                "count": { "type": "integer", "minimum": 7, "maximum": 7 },
                "year": { "type": "integer", "exclusiveMinimum": 2020 },
                "tags": { "type": "array", "items": { "type": "string" }, "minItems": 5, "uniqueItems": true },
                "few": { "type": "array", "items": { "type": "integer" }, "maxItems": 1 },
                "maybe": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
                "nullable": { "type": ["null", "integer"] },
                "map": { "type": "object", "additionalProperties": { "type": "integer" }, "minProperties": 2 },
                "any": true
            }, "required": ["name", "extra"], "additionalProperties": { "type": "boolean" } }),
            json!({ "$ref": "#/$defs/node", "$defs": { "node": {
                "type": "object",
                "properties": {
                    "name": { "type": "string" },
                    "children": { "type": "array", "items": { "$ref": "#/$defs/node" } }
                },
                "required": ["name", "children"], "additionalProperties": false
            } } }),
            json!({ "allOf": [
                { "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] },
                { "properties": { "b": { "type": "string" } }, "required": ["b"] }
            ] }),
            json!({ "type": "array", "items": { "oneOf": [{ "type": "integer" }, { "type": "string" }] } }),
            json!({ "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "string" }], "items": false, "maxItems": 2 }),
            json!({ "type": "boolean" }),
            json!({}),
        ];
        for schema in schemas {
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
            for seed in 0..30 {
                let simulated = Simulated::new(&Model { seed: Some(seed), ..Model::default() });
                let reply = ask(&simulated, "t", "p", Some(schema.clone())).unwrap();
                let value: Value = serde_json::from_str(&reply.text).unwrap();
                let faults: Vec<String> =
                    validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
                assert!(faults.is_empty(), "{faults:?}\n{schema}\n{value}");
            }
        }
    }

    #[test]
    fn answers_vary_with_what_is_asked_and_are_the_same_again() {
        let simulated = Simulated::new(&Model { words: Some(30), ..Model::default() });
        let text = |task: &str, prompt: &str| ask(&simulated, task, prompt, None).unwrap().text;
        assert_eq!(text("a", "p"), text("a", "p"));
        assert_ne!(text("a", "p"), text("a", "q"));
        assert_ne!(text("a", "p"), text("b", "p"));
        let other = Simulated::new(&Model { words: Some(30), seed: Some(1), ..Model::default() });
        assert_ne!(text("a", "p"), ask(&other, "a", "p", None).unwrap().text);
        let words = text("a", "p").split_whitespace().count();
        assert!((30..45).contains(&words), "{words}");
    }

    #[test]
    fn the_set_share_goes_wrong_and_passes_on_another_try() {
        let fail = Some(Fail::Shares(FailShares { error: 0.3, cut: 0.2 }));
        let simulated = Simulated::new(&Model { fail, ..Model::default() });
        let results: Vec<_> = (0..400).map(|i| ask(&simulated, "t", &i.to_string(), None)).collect();
        let share = |class| results.iter().filter(|r| r.as_ref().is_err_and(|e| e.class == class)).count();
        assert!((80..160).contains(&share(Class::ServerError)), "{}", share(Class::ServerError));
        assert!((50..110).contains(&share(Class::Cut)), "{}", share(Class::Cut));
        for (index, result) in results.iter().enumerate() {
            if result.is_err() {
                assert!((0..40).any(|_| ask(&simulated, "t", &index.to_string(), None).is_ok()));
            }
        }
    }
}
