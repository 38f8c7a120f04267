//! `$in`, `$out`, `$in.NAME`, `$out.N`, `$key`, `$$` in a command: in an argv one argument a file, in a
//! line for the shell quoted. Pure. Nothing a model wrote can enter: only paths and the key do.

use crate::inputs::Files;

/// What the placeholders stand for.
#[derive(Debug)]
pub struct Values<'a> {
    /// The inputs in order.
    pub inputs: &'a [Files],
    /// Where to write the outputs, in order.
    pub outputs: &'a [String],
    /// The key of an instance.
    pub key: Option<&'a str>,
}

/// A placeholder that stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// As written: `$in.pln`.
    pub placeholder: String,
    /// What there is.
    pub known: Vec<String>,
}

/// A piece of a command.
enum Piece<'t> {
    Text(&'t str),
    Dollar,
    Files(Vec<String>),
}

/// Fills an argv in.
pub fn argv(words: &[String], values: &Values<'_>) -> Result<Vec<String>, Unknown> {
    let mut argv = Vec::with_capacity(words.len());
    for word in words {
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
            }
        }
        argv.push(text);
    }
    Ok(argv)
}

/// Fills a line for `sh -c` in.
pub fn shell(line: &str, values: &Values<'_>) -> Result<String, Unknown> {
    let mut text = String::with_capacity(line.len());
    for piece in pieces(line, values)? {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Dollar => text.push('$'),
            Piece::Files(files) => {
                let quoted: Vec<String> = files.iter().map(|file| quote(&guard_dash(file))).collect();
                text.push_str(&quoted.join(" "));
            }
        }
    }
    Ok(text)
}

/// A word the shell takes as it is.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A path that could be taken for an option is given from the current directory.
fn guard_dash(path: &str) -> String {
    if path.starts_with('-') { format!("./{path}") } else { path.to_string() }
}

fn pieces<'t>(text: &'t str, values: &Values<'_>) -> Result<Vec<Piece<'t>>, Unknown> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        let name = after.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
        let (piece, length) = if after.starts_with('$') {
            (Piece::Dollar, 1)
        } else if name == "key" && values.key.is_some() {
            (Piece::Files(vec![values.key.unwrap_or_default().to_string()]), name.len())
        } else if name == "in" || name == "out" {
            let member = after[name.len()..]
                .strip_prefix('.')
                .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or(""))
                .filter(|member| !member.is_empty());
            let files = lookup(name, member, values)?;
            (Piece::Files(files), name.len() + member.map_or(0, |member| member.len() + 1))
        } else {
            // Any other `$` is the shell's, or plain text.
            pieces.push(Piece::Text(&rest[..at + 1]));
            rest = after;
            continue;
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

fn lookup(name: &str, member: Option<&str>, values: &Values<'_>) -> Result<Vec<String>, Unknown> {
    let all = |files: &[Files]| files.iter().flat_map(|input| input.paths.clone()).collect();
    let unknown = |member: &str, known| Unknown { placeholder: format!("${name}.{member}"), known };
    match (name, member) {
        ("in", None) => Ok(all(values.inputs)),
        ("in", Some(member)) => {
            let by_name = values.inputs.iter().find(|input| input.name == member);
            let by_number = || member.parse().ok().and_then(|n: usize| values.inputs.get(n));
            by_name.or_else(by_number).map(|input| input.paths.clone()).ok_or_else(|| {
                unknown(member, values.inputs.iter().map(|input| format!("$in.{}", input.name)).collect())
            })
        }
        (_, None) => Ok(values.outputs.to_vec()),
        (_, Some(member)) => member
            .parse()
            .ok()
            .and_then(|n: usize| values.outputs.get(n))
            .map(|path| vec![path.clone()])
            .ok_or_else(|| unknown(member, (0..values.outputs.len()).map(|n| format!("$out.{n}")).collect())),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn commands_are_filled_in() {
        let inputs = [files("plan", &["plan.txt"]), files("notes", &["a b.txt", "-c.txt"])];
        let outputs = ["out.txt".to_string(), "it's".to_string()];
        let values = Values { inputs: &inputs, outputs: &outputs, key: Some("k1") };
        for (line, filled) in [
            ("cat $in > $out.0", "cat plan.txt 'a b.txt' ./-c.txt > out.txt"),
            ("cat $in.plan", "cat plan.txt"),
            ("cat $in.0 $in.notes", "cat plan.txt 'a b.txt' ./-c.txt"),
            ("x $out.1", r"x 'it'\''s'"),
            ("echo $$HOME $HOME ${X} $(date) $key $inner", "echo $HOME $HOME ${X} $(date) k1 $inner"),
            ("100$", "100$"),
        ] {
            assert_eq!(shell(line, &values).as_deref(), Ok(filled), "{line}");
        }
        let words: Vec<String> = ["cp", "$in.notes", "--to=$out.0", "$$x"].map(String::from).to_vec();
        let filled = argv(&words, &values).expect("known");
        assert_eq!(filled, ["cp", "a b.txt", "./-c.txt", "--to=out.txt", "$x"]);
        let unknown = shell("cat $in.pln", &values).expect_err("unknown");
        assert_eq!(unknown.placeholder, "$in.pln");
    }
}
