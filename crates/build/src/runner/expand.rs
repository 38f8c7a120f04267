//! `$in`, `$out`, `$in.NAME`, `$out.N`, `$key`, `$item`, `$item.NAME`, `$$` in a command: in an argv one argument a
//! file or value, in a line for the shell a word. Pure.
//!
//! Names of files and the data of items may hold anything. So nothing but plain characters is ever put into a line for
//! the shell: any other text is given in a variable, which the shell does not read again. An item's data names no
//! program and no file that the shell opens, and is no option.

use serde_json::Value;

use crate::runner::shell_line::{Quotes, Role, ShellLine};
use planexe_base::message::Message;
use planexe_pipeline::input_files::Files;

/// Most bytes of an item's data in a command: systems allow 128 KiB in one argument.
pub const LARGEST: usize = 100 << 10;

/// What the placeholders stand for.
#[derive(Debug)]
pub struct Values<'a> {
    /// The inputs in order.
    pub inputs: &'a [Files],
    /// Where to write the outputs, in order.
    pub outputs: &'a [String],
    /// The key of an instance.
    pub key: Option<&'a str>,
    /// The item of an instance.
    pub item: Option<&'a Value>,
    /// The item's file, where items are files.
    pub item_file: Option<&'a str>,
}

/// Why a command cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit(pub Message);

/// A line for `sh -c`, with the variables it uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// The line.
    pub line: String,
    /// Names and values.
    pub variables: Vec<(String, String)>,
}

/// A piece of a command.
enum Piece<'t> {
    Text(&'t str),
    Dollar,
    /// Names of files, and the key.
    Files(Vec<String>),
    /// Data of an item.
    Data(Data),
}

/// Data of an item.
struct Data {
    /// As written: `$item.name`.
    placeholder: String,
    text: String,
    /// It is a text, which may look like an option; a number does not.
    is_text: bool,
}

impl Data {
    fn refused(&self, why: &str) -> Unfit {
        Unfit(Message::new(format!("`{}` {why}", self.placeholder)))
    }

    /// An item's data must not be taken for an option.
    fn check_option(&self) -> Result<(), Unfit> {
        match self.is_text && self.text.starts_with('-') {
            true => Err(Unfit(
                self.refused("begins with `-` and would be read as an option")
                    .0
                    .hint(format!("write `--NAME={}`, or `--` before it", self.placeholder)),
            )),
            false => Ok(()),
        }
    }
}

/// Fills an argv in.
pub fn argv(words: &[String], values: &Values<'_>) -> Result<Vec<String>, Unfit> {
    let mut argv = Vec::with_capacity(words.len());
    let mut dashes = false;
    for (n, word) in words.iter().enumerate() {
        let pieces = pieces(word, values)?;
        if let [Piece::Files(files)] = &pieces[..] {
            argv.extend(files.iter().map(|file| guard_dash(file)));
            continue;
        }
        let mut text = String::new();
        for piece in &pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Dollar => text.push('$'),
                Piece::Files(files) => text.push_str(&files.join(" ")),
                Piece::Data(data) if n == 0 => {
                    return Err(data.refused("is data, which names no program"));
                }
                Piece::Data(data) => {
                    if text.is_empty() && !dashes {
                        data.check_option()?;
                    }
                    text.push_str(&data.text);
                }
            }
        }
        dashes |= word == "--";
        argv.push(text);
    }
    Ok(argv)
}

/// Fills a line for `sh -c` in.
pub fn shell(line: &str, values: &Values<'_>) -> Result<Script, Unfit> {
    let mut script = Script { line: String::with_capacity(line.len()), variables: Vec::new() };
    let mut at = ShellLine::default();
    for piece in pieces(line, values)? {
        match piece {
            Piece::Text(plain) => {
                at.read(plain);
                script.line.push_str(plain);
            }
            Piece::Dollar => {
                at.read("$");
                script.line.push('$');
            }
            Piece::Files(files) => {
                for (n, file) in files.iter().enumerate() {
                    if n > 0 {
                        at.read(" ");
                        script.line.push(' ');
                    }
                    script.add(&guard_dash(file), &mut at);
                }
            }
            Piece::Data(data) => {
                match at.role() {
                    Some(Role::Program) => return Err(data.refused("is data, which names no program")),
                    Some(Role::Redirection) => {
                        return Err(data.refused("is data, which names no file to read or write"));
                    }
                    Some(Role::Argument { dashes: false }) => data.check_option()?,
                    Some(Role::Argument { dashes: true }) | None => {}
                }
                script.add(&data.text, &mut at);
            }
        }
    }
    Ok(script)
}

impl Script {
    /// Adds a value as one word, or as a part of one.
    fn add(&mut self, value: &str, at: &mut ShellLine) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
        if !value.is_empty() && value.chars().all(plain) {
            self.line.push_str(value);
        } else {
            let known = self.variables.iter().find(|(_, known)| known == value).map(|(name, _)| name.clone());
            let name = known.unwrap_or_else(|| {
                let name = format!("PLANEXE_ARG_{}", self.variables.len() + 1);
                self.variables.push((name.clone(), value.to_owned()));
                name
            });
            self.line.push_str(&match at.quotes() {
                Quotes::Bare => format!("\"${{{name}}}\""),
                Quotes::Double => format!("${{{name}}}"),
                Quotes::Single => format!("'\"${{{name}}}\"'"),
            });
        }
        at.value();
    }
}

/// A path that could be taken for an option is given from the current directory.
fn guard_dash(path: &str) -> String {
    if path.starts_with('-') { format!("./{path}") } else { path.to_string() }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The name that a text begins with.
fn name_at(text: &str) -> &str {
    text.split(|c: char| !is_name(c)).next().unwrap_or("")
}

/// `.NAME` that a text begins with: the name.
fn member_at(text: &str) -> Option<&str> {
    text.strip_prefix('.').map(name_at).filter(|member| !member.is_empty())
}

fn pieces<'t>(text: &'t str, values: &Values<'_>) -> Result<Vec<Piece<'t>>, Unfit> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        let name = name_at(after);
        let (piece, length) = match (name, values.key, values.item) {
            _ if after.starts_with('$') => (Piece::Dollar, 1),
            ("key", Some(key), _) => (Piece::Files(vec![key.to_owned()]), name.len()),
            ("item", _, Some(item)) => {
                let (piece, length) = data(&after[name.len()..], item, values.item_file)?;
                (piece, name.len() + length)
            }
            ("in" | "out", ..) => {
                let member = member_at(&after[name.len()..]);
                let files = lookup(name, member, values)?;
                (Piece::Files(files), name.len() + member.map_or(0, |member| member.len() + 1))
            }
            _ => {
                // Any other `$` is the shell's, or plain text.
                pieces.push(Piece::Text(&rest[..at + 1]));
                rest = after;
                continue;
            }
        };
        if at > 0 {
            pieces.push(Piece::Text(&rest[..at]));
        }
        pieces.push(piece);
        rest = &after[length..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// The item, or the member that `.NAME.NAME` after `$item` leads to, and how long that is. A member that has a dot or
/// the like in its name cannot be named.
fn data<'t>(after: &str, item: &Value, file: Option<&str>) -> Result<(Piece<'t>, usize), Unfit> {
    let (mut value, mut length) = (item, 0);
    while let Some(member) = member_at(&after[length..]) {
        let next = match value {
            Value::Object(members) => members.get(member),
            Value::Array(list) => member.parse().ok().and_then(|n: usize| list.get(n)),
            // A full stop after the value.
            _ => break,
        };
        let Some(next) = next else {
            let written = format!("$item{}.{member}", &after[..length]);
            let known: Vec<String> = match value {
                Value::Object(members) => {
                    members.keys().map(|name| format!("$item{}.{name}", &after[..length])).collect()
                }
                _ => Vec::new(),
            };
            return Err(unknown(&written, &known));
        };
        value = next;
        length += member.len() + 1;
    }
    // The path of an item's file is a path, as `$in` is.
    if let (Some(file), "" | ".path") = (file, &after[..length]) {
        return Ok((Piece::Files(vec![file.to_owned()]), length));
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let placeholder = format!("$item{}", &after[..length]);
    let data = Data { placeholder, text, is_text: value.is_string() };
    if data.text.contains('\0') {
        return Err(data.refused("holds a NUL character, which no argument can"));
    }
    if data.text.len() > LARGEST {
        let found = data.text.len();
        let Unfit(message) =
            data.refused(&format!("has {found} bytes, and a command is given {LARGEST} at most"));
        return Err(Unfit(message.hint("have the command read it from a file, by `inputs`")));
    }
    Ok((Piece::Data(data), length))
}

fn unknown(placeholder: &str, known: &[String]) -> Unfit {
    let known = if known.is_empty() { String::new() } else { format!("; there is `{}`", known.join("`, `")) };
    Unfit(Message::new(format!("`{placeholder}` stands for nothing{known}")))
}

fn lookup(name: &str, member: Option<&str>, values: &Values<'_>) -> Result<Vec<String>, Unfit> {
    let by_name = |member: &str| {
        let found = values.inputs.iter().find(|input| input.name == member);
        let found = found.or_else(|| member.parse().ok().and_then(|n: usize| values.inputs.get(n)));
        found.map(|input| input.paths.clone())
    };
    match (name, member) {
        ("in", None) => {
            let all: Vec<String> = values.inputs.iter().flat_map(|input| input.paths.clone()).collect();
            let item = values.item_file.filter(|item| !all.iter().any(|path| path == item));
            Ok(item.into_iter().map(str::to_owned).chain(all).collect())
        }
        ("in", Some(member)) => {
            let item = || values.item_file.filter(|_| member == "item").map(|file| vec![file.to_owned()]);
            by_name(member).or_else(item).ok_or_else(|| {
                let known: Vec<String> =
                    values.inputs.iter().map(|input| format!("$in.{}", input.name)).collect();
                unknown(&format!("$in.{member}"), &known)
            })
        }
        (_, None) => Ok(values.outputs.to_vec()),
        (_, Some(member)) => {
            let found = member.parse().ok().and_then(|n: usize| values.outputs.get(n));
            found.map(|path| vec![path.clone()]).ok_or_else(|| {
                let known: Vec<String> = (0..values.outputs.len()).map(|n| format!("$out.{n}")).collect();
                unknown(&format!("$out.{member}"), &known)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(name: &str, paths: &[&str]) -> Files {
        Files {
            name: name.into(),
            paths: paths.iter().map(|path| path.to_string()).collect(),
            glob: false,
            optional: false,
            pattern: String::new(),
        }
    }

    /// A line with its variables put in between angle brackets.
    fn filled(line: &str, values: &Values<'_>) -> String {
        match shell(line, values) {
            Err(Unfit(why)) => format!("! {}", why.to_lines()),
            Ok(script) => script.variables.iter().fold(script.line, |line, (name, value)| {
                line.replace(&format!("${{{name}}}"), &format!("<{value}>"))
            }),
        }
    }

    #[test]
    fn commands_are_filled_in() {
        let inputs = [files("plan", &["plan.txt"]), files("notes", &["a b.txt", "-c.txt"])];
        let outputs = ["out.txt".to_string(), "it's".to_string()];
        let values =
            Values { inputs: &inputs, outputs: &outputs, key: Some("k1"), item: None, item_file: None };
        for (line, wanted) in [
            ("cat $in > $out.0", "cat plan.txt \"<a b.txt>\" ./-c.txt > out.txt"),
            ("cat $in.plan", "cat plan.txt"),
            ("cat $in.0 $in.notes", "cat plan.txt \"<a b.txt>\" ./-c.txt"),
            ("x $out.1", "x \"<it's>\""),
            ("x \"$out.1\"", "x \"<it's>\""),
            ("x '$out.1'", "x ''\"<it's>\"''"),
            ("x \"$(cat \"$out.1\")\"", "x \"$(cat \"<it's>\")\""),
            ("echo $$HOME $HOME ${X} $(date) $key $inner", "echo $HOME $HOME ${X} $(date) k1 $inner"),
            ("for item in a; do echo $item; done", "for item in a; do echo $item; done"),
            ("100$", "100$"),
            ("cat $in.pln", "! `$in.pln` stands for nothing; there is `$in.plan`, `$in.notes`"),
        ] {
            assert_eq!(filled(line, &values), wanted, "{line}");
        }
        let words: Vec<String> = ["cp", "$in.notes", "--to=$out.0", "$$x"].map(String::from).to_vec();
        let filled = argv(&words, &values).expect("known");
        assert_eq!(filled, ["cp", "a b.txt", "./-c.txt", "--to=out.txt", "$x"]);
    }

    #[test]
    fn the_data_of_an_item_is_one_argument_and_no_option_program_or_file() {
        let item = json!({
            "name": "x'; $(touch owned) \"`id`\"", "odd": "-rf", "n": -5, "on": true, "none": null,
            "tags": ["a", {"deep": "d"}], "nul": "a\0b", "long": "x".repeat(LARGEST + 1),
        });
        let values = Values { inputs: &[], outputs: &[], key: None, item: Some(&item), item_file: None };
        let name = item["name"].as_str().unwrap_or_default();
        for (line, wanted) in [
            ("echo $item.name", format!("echo \"<{name}>\"")),
            ("echo \"a $item.name\"", format!("echo \"a <{name}>\"")),
            ("echo 'a $item.name'", format!("echo 'a '\"<{name}>\"''")),
            ("echo $item.n $item.on $item.tags.0 $item.tags.1.deep.", "echo -5 true a d.".into()),
            ("echo $item.none", "echo \"<>\"".into()),
            ("echo $item.tags.1", "echo \"<{\"deep\":\"d\"}>\"".into()),
            ("echo --x=$item.odd -- $item.odd", "echo --x=-rf -- -rf".into()),
            ("X=$item.odd env", "X=-rf env".into()),
        ] {
            assert_eq!(filled(line, &values), wanted, "{line}");
        }
        for (line, words) in [
            ("rm $item.odd", "`$item.odd` begins with `-`"),
            ("rm \"$item.odd\"", "`$item.odd` begins with `-`"),
            ("$item.name x", "names no program"),
            ("true; $item.name", "names no program"),
            ("eval $item.name", "names no program"),
            ("cat x > $item.name", "names no file"),
            ("cat < \"$item.name\"", "names no file"),
            ("echo $item.nme", "`$item.nme` stands for nothing; there is `$item."),
            ("echo $item.nul", "NUL"),
            ("echo $item.long", "102401 bytes"),
        ] {
            let found = filled(line, &values);
            assert!(found.starts_with("! ") && found.contains(words), "{line}: {found}");
        }
        let argv = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
            argv(&words, &values).map_err(|Unfit(why)| why)
        };
        assert_eq!(argv(&["x", "$item.name", "-n=$item.odd"]).expect("fits"), ["x", name, "-n=-rf"]);
        assert_eq!(argv(&["x", "--", "$item.odd"]).expect("fits"), ["x", "--", "-rf"]);
        assert!(argv(&["x", "$item.odd"]).expect_err("an option").text.contains("begins with `-`"));
        assert!(argv(&["$item.name"]).expect_err("a program").text.contains("no program"));
    }

    #[test]
    fn a_file_that_is_an_item_is_the_input_and_comes_first() {
        let item = json!({ "path": "docs/-b c.txt", "text": "hello" });
        let inputs = [files("style", &["style.css"])];
        let values = Values {
            inputs: &inputs,
            outputs: &[],
            key: Some("k"),
            item: Some(&item),
            item_file: Some("-b c.txt"),
        };
        for (line, wanted) in [
            ("cat $in", "cat \"<./-b c.txt>\" style.css"),
            ("cat $in.item $in.0", "cat \"<./-b c.txt>\" style.css"),
            ("cat $item", "cat \"<./-b c.txt>\""),
            ("cat \"$item.path\"", "cat \"<./-b c.txt>\""),
            ("echo $item.text", "echo hello"),
        ] {
            assert_eq!(filled(line, &values), wanted, "{line}");
        }
    }
}
