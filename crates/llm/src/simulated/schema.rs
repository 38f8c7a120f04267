//! Made-up values for a JSON Schema.

use serde_json::{Map, Value, json};

use super::pattern::matching;
use super::prose::{NOUNS, pick, sentence};
use crate::rng::Rng;

/// Depth at which optional members and further items are left out.
const DEEP: usize = 6;

/// Depth at which nothing more is made.
const TOO_DEEP: usize = 40;

/// Makes values for one schema.
pub(super) struct Maker<'a> {
    pub(super) root: &'a Value,
    pub(super) rng: &'a mut Rng,
}

impl Maker<'_> {
    pub(super) fn value(&mut self, schema: &Value, depth: usize) -> Value {
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
