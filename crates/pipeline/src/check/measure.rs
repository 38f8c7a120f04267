//! How much work a schema can make, told from the schema alone: what can never end, or takes a stack that nobody has, is
//! refused before any answer is held against it.
//!
//! A schema is applied to a value, and by `$ref`, `anyOf` and their like others are applied to the same value ("in
//! place"); by `properties`, `items` and theirs others are applied to what is inside it ("below"). Answers are at most
//! 128 levels deep, so only what is in place can go on for ever.

use std::collections::HashMap;

use serde_json::Value;

use super::SchemaError;

/// Most schemas one after the other that are applied to one value: each takes its part of the stack.
pub const LONGEST_CHAIN: usize = 1_000;
/// Most schemas one inside or after the other: a schema is made ready by going down into it.
pub const DEEPEST: usize = 2_000;
/// Most schemas in all that may be applied to one value.
pub const MOST_FORMS: u64 = 1_000_000;

/// The longest regular expression, in bytes: before it can be said how large it is once compiled, some 300 times as much
/// memory is taken.
pub const LONGEST_PATTERN: usize = 16 * 1024;
/// Most regular expressions of one schema.
pub const MOST_PATTERNS: usize = 500;
/// All of them together, in bytes.
pub const ALL_PATTERNS: usize = 256 * 1024;

/// What a schema is made of, as its work goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Regular expressions in it.
    pub patterns: usize,
    /// Schemas applied, if each value of an answer has all of them applied; [`u64::MAX`] if it contains itself.
    pub forms: u64,
}

/// Measures a schema, or says why nobody should use it.
pub fn measure(root: &Value) -> Result<Measure, SchemaError> {
    let mut graph = Graph { root, anchors: HashMap::new(), nodes: Vec::new(), known: HashMap::new() };
    graph.find_anchors();
    graph.read();
    let patterns = graph.patterns()?;
    graph.in_place()?;
    let (forms, deepest) = graph.all();
    if deepest > DEEPEST {
        let message = format!("its parts lie {deepest} deep one inside the other, at most {DEEPEST} can be");
        return Err(SchemaError { pointer: String::new(), message });
    }
    Ok(Measure { patterns, forms })
}

struct Node<'a> {
    value: &'a Value,
    pointer: String,
    in_place: Vec<usize>,
    below: Vec<usize>,
}

struct Graph<'a> {
    root: &'a Value,
    /// `$id`, `$anchor` and `$dynamicAnchor`, each name with all that have it.
    anchors: HashMap<&'a str, Vec<&'a Value>>,
    nodes: Vec<Node<'a>>,
    /// By the address of the value.
    known: HashMap<*const Value, usize>,
}

impl<'a> Graph<'a> {
    fn find_anchors(&mut self) {
        let mut open = vec![self.root];
        while let Some(value) = open.pop() {
            match value {
                Value::Array(list) => open.extend(list),
                Value::Object(members) => {
                    for key in ["$id", "$anchor", "$dynamicAnchor"] {
                        if let Some(name) = members.get(key).and_then(Value::as_str) {
                            self.anchors.entry(name).or_default().push(value);
                        }
                    }
                    open.extend(members.values());
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, value: &'a Value, pointer: impl FnOnce() -> String) -> usize {
        let next = self.nodes.len();
        *self.known.entry(std::ptr::from_ref(value)).or_insert_with(|| {
            let pointer = pointer();
            self.nodes.push(Node { value, pointer, in_place: Vec::new(), below: Vec::new() });
            next
        })
    }

    /// All schemas that can be applied to anything, and what they apply.
    fn read(&mut self) {
        self.node(self.root, String::new);
        let mut at = 0;
        while at < self.nodes.len() {
            let Value::Object(members) = self.nodes[at].value else {
                at += 1;
                continue;
            };
            for (key, value) in members {
                let (mut in_place, mut below) = (Vec::new(), Vec::new());
                match key.as_str() {
                    "$ref" | "$dynamicRef" | "$recursiveRef" => {
                        for target in self.targets(value.as_str().unwrap_or_default()) {
                            let name = value.as_str().unwrap_or_default().trim_start_matches('#').to_owned();
                            in_place.push(self.node(target, || name));
                        }
                    }
                    "allOf" | "anyOf" | "oneOf" => self.each(at, key, value, &mut in_place),
                    "not" | "if" | "then" | "else" => self.one(at, key, value, &mut in_place),
                    "dependentSchemas" | "dependencies" => self.each(at, key, value, &mut in_place),
                    "properties" | "patternProperties" | "prefixItems" => {
                        self.each(at, key, value, &mut below);
                    }
                    "items" if value.is_array() => self.each(at, key, value, &mut below),
                    "items"
                    | "additionalItems"
                    | "additionalProperties"
                    | "contains"
                    | "propertyNames"
                    | "unevaluatedItems"
                    | "unevaluatedProperties" => self.one(at, key, value, &mut below),
                    _ => {}
                }
                self.nodes[at].in_place.extend(in_place);
                self.nodes[at].below.extend(below);
            }
            at += 1;
        }
    }

    fn one(&mut self, at: usize, key: &str, value: &'a Value, into: &mut Vec<usize>) {
        let pointer = format!("{}/{}", self.nodes[at].pointer, key);
        into.push(self.node(value, || pointer));
    }

    fn each(&mut self, at: usize, key: &str, value: &'a Value, into: &mut Vec<usize>) {
        let here = format!("{}/{}", self.nodes[at].pointer, key);
        match value {
            Value::Array(list) => {
                for (n, one) in list.iter().enumerate() {
                    into.push(self.node(one, || format!("{here}/{n}")));
                }
            }
            Value::Object(members) => {
                for (name, one) in members {
                    into.push(self.node(one, || format!("{here}/{}", crate::items::escape(name))));
                }
            }
            _ => {}
        }
    }

    /// What a reference may mean: by its pointer, or by a name that any of several may have.
    fn targets(&self, reference: &str) -> Vec<&'a Value> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let roots = match document {
            "" => vec![self.root],
            _ => self.anchors.get(document).cloned().unwrap_or_default(),
        };
        if fragment.is_empty() {
            return roots;
        }
        if fragment.starts_with('/') {
            let plain = percent_decoded(fragment);
            // Within a schema with an `$id` of its own, `#` means that one.
            let ids = self.anchors.values().flatten().copied().filter(|value| value.get("$id").is_some());
            let mut found: Vec<&Value> =
                roots.into_iter().chain(ids).filter_map(|root| root.pointer(&plain)).collect();
            found.dedup_by_key(|value| std::ptr::from_ref(*value));
            return found;
        }
        self.anchors.get(fragment).cloned().unwrap_or_default()
    }

    /// How many regular expressions there are, none of them too long.
    fn patterns(&self) -> Result<usize, SchemaError> {
        let (mut count, mut bytes) = (0, 0);
        for node in &self.nodes {
            let of = |key: &str| node.value.get(key);
            let named = of("patternProperties").and_then(Value::as_object).into_iter().flatten();
            let named = named.map(|(pattern, _)| ("patternProperties", pattern.as_str()));
            let own = of("pattern").and_then(Value::as_str).map(|pattern| ("pattern", pattern));
            for (key, pattern) in named.chain(own) {
                count += 1;
                bytes += pattern.len();
                let message = if pattern.len() > LONGEST_PATTERN {
                    format!(
                        "the pattern has {} bytes, at most {LONGEST_PATTERN} can be: `{}`",
                        pattern.len(),
                        super::shortened(pattern)
                    )
                } else if count > MOST_PATTERNS {
                    format!("a schema has at most {MOST_PATTERNS} patterns, and this one is more")
                } else if bytes > ALL_PATTERNS {
                    format!(
                        "all patterns of a schema have at most {ALL_PATTERNS} bytes, and this one is more"
                    )
                } else {
                    continue;
                };
                return Err(SchemaError { pointer: format!("{}/{key}", node.pointer), message });
            }
        }
        Ok(count)
    }

    /// Goes through all that is applied in place, without recursion: the chain may be long.
    fn in_place(&self) -> Result<(), SchemaError> {
        let edges: Vec<&[usize]> = self.nodes.iter().map(|node| node.in_place.as_slice()).collect();
        let (sums, _) = sums(&edges);
        for (node, sum) in self.nodes.iter().zip(&sums) {
            let message = match sum {
                None => "it is applied to a value, and through itself to the same value again, without end"
                    .to_owned(),
                Some(sum) if sum.depth > LONGEST_CHAIN => {
                    format!(
                        "{} schemas are applied to one value one through the other, at most {LONGEST_CHAIN} can be",
                        sum.depth
                    )
                }
                Some(sum) if sum.count > MOST_FORMS => {
                    format!("one value may have to be held against more than {MOST_FORMS} schemas")
                }
                Some(_) => continue,
            };
            return Err(SchemaError { pointer: node.pointer.clone(), message });
        }
        Ok(())
    }

    /// How many schemas one value with all its members may have applied, and how deep they go.
    fn all(&self) -> (u64, usize) {
        let edges: Vec<Vec<usize>> =
            self.nodes.iter().map(|node| [node.in_place.as_slice(), &node.below].concat()).collect();
        let edges: Vec<&[usize]> = edges.iter().map(Vec::as_slice).collect();
        let (sums, deepest) = sums(&edges);
        (sums.first().copied().flatten().map_or(u64::MAX, |sum| sum.count), deepest)
    }
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    depth: usize,
    count: u64,
}

/// For each node how deep what it leads to goes, and how many that is, each as often as it is come to; none for one that
/// leads to itself. Also how far down the search went.
fn sums(edges: &[&[usize]]) -> (Vec<Option<Sum>>, usize) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Closed,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut sums: Vec<Option<Sum>> = vec![None; edges.len()];
    let mut deepest = 0;
    for start in 0..edges.len() {
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            if let Some(&target) = edges[node].get(*next) {
                *next += 1;
                if marks[target] == Mark::New {
                    marks[target] = Mark::Open;
                    path.push((target, 0));
                    deepest = deepest.max(path.len());
                }
                continue;
            }
            // One that is still open is above this one: a circle, and this one is told of it by having no sum.
            sums[node] = edges[node].iter().try_fold(Sum { depth: 1, count: 1 }, |sum, &target| {
                let of = sums[target].filter(|_| marks[target] == Mark::Closed)?;
                Some(Sum { depth: sum.depth.max(of.depth + 1), count: sum.count.saturating_add(of.count) })
            });
            marks[node] = Mark::Closed;
            path.pop();
        }
    }
    (sums, deepest)
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = || u8::from_str_radix(std::str::from_utf8(after.get(..2)?).ok()?, 16).ok();
        match (byte, if byte == b'%' { hex() } else { None }) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tower(levels: usize, wide: usize) -> Value {
        let mut defs = serde_json::Map::new();
        for n in 0..levels {
            let next = json!({"$ref": format!("#/$defs/l{}", n + 1)});
            defs.insert(format!("l{n}"), json!({"anyOf": vec![next; wide]}));
        }
        defs.insert(format!("l{levels}"), json!({"type": "integer"}));
        json!({"$defs": defs, "$ref": "#/$defs/l0"})
    }

    #[test]
    fn what_no_answer_can_be_held_against_is_refused() {
        for (schema, wanted) in [
            (tower(30, 3), "more than 1000000 schemas"),
            (tower(900, 1), "1000"),
            (json!({"allOf": [{"$ref": "#"}]}), "without end"),
            (
                json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
                "without end",
            ),
            (
                json!({"properties": {"a": {"$ref": "#x"}}, "$defs": {"x": {"$anchor": "x", "not": {"$dynamicRef": "#x"}}}}),
                "without end",
            ),
            (
                json!({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"if": {"$ref": "#/$defs/a b"}}}}),
                "without end",
            ),
        ] {
            let error = measure(&schema).expect_err("refused");
            assert!(error.message.contains(wanted), "{}", error.message);
        }
    }

    #[test]
    fn what_is_inside_a_value_may_be_like_it() {
        let tree =
            json!({"type": "object", "properties": {"sub": {"type": "array", "items": {"$ref": "#"}}}});
        assert_eq!(measure(&tree), Ok(Measure { patterns: 0, forms: u64::MAX }));
        assert_eq!(measure(&json!(true)), Ok(Measure { patterns: 0, forms: 1 }));
        assert_eq!(
            measure(&json!({"properties": {"a": {"anyOf": [{}, {}]}}})),
            Ok(Measure { patterns: 0, forms: 4 })
        );
        assert_eq!(measure(&tower(5, 3)).map(|one| one.forms > 300), Ok(true));
    }
}
