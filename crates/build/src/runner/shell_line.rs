//! Where in a line for `sh -c` one stands: in which quotes, and whether a word there would be a program, the target of a
//! redirection or an argument. Pure, and only as exact as is needed to put a value in: a value never becomes part of
//! the line's text, so that what is read wrongly here may split a word, and never runs anything.

/// In which quotes a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// In none.
    Bare,
    /// In double ones.
    Double,
    /// In single ones.
    Single,
}

/// What a word at a place is to the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The program that is run.
    Program,
    /// A file that is read or written.
    Redirection,
    /// An argument; `dashes`: a `--` stands before it, so that none is an option any more.
    Argument {
        /// Whether there is a `--` before it.
        dashes: bool,
    },
}

/// The simple command one is in.
#[derive(Debug, Clone, Default)]
struct Command {
    /// The word so far.
    word: String,
    /// Its program was named.
    named: bool,
    /// `--` was among its words.
    dashes: bool,
    /// So many `<` or `>` stand before the word.
    arrows: usize,
}

/// What is open.
#[derive(Debug, Clone)]
enum Open {
    Single,
    Double,
    /// `$(`, `(` or a backtick, in a command that goes on after it.
    Inner {
        outer: Box<Command>,
        backtick: bool,
    },
}

/// A line as far as it was read.
#[derive(Debug, Clone, Default)]
pub struct ShellLine {
    open: Vec<Open>,
    command: Command,
    last: Option<char>,
    escaped: bool,
    comment: bool,
}

/// Words after which another command begins, or that run what follows them.
const BEFORE_A_PROGRAM: [&str; 20] = [
    "!", "{", "if", "then", "else", "elif", "do", "while", "until", "eval", "exec", "env", "command", "time",
    "nohup", "sudo", "xargs", "builtin", ".", "source",
];

impl ShellLine {
    /// Reads on.
    pub fn read(&mut self, text: &str) {
        for c in text.chars() {
            self.one(c);
            self.last = Some(c);
        }
    }

    /// A value stands here, of which nothing is read.
    pub fn value(&mut self) {
        self.command.word.push('x');
        (self.last, self.escaped) = (Some('x'), false);
    }

    /// The quotes here.
    pub fn quotes(&self) -> Quotes {
        match self.open.last() {
            Some(Open::Single) => Quotes::Single,
            Some(Open::Double) => Quotes::Double,
            _ => Quotes::Bare,
        }
    }

    /// What a word that begins here is; none in the middle of one.
    pub fn role(&self) -> Option<Role> {
        let command = &self.command;
        if !command.word.is_empty() {
            return None;
        }
        Some(match command.arrows {
            // `<<<` is followed by a text.
            1 | 2 => Role::Redirection,
            _ if !command.named => Role::Program,
            _ => Role::Argument { dashes: command.dashes },
        })
    }

    fn one(&mut self, c: char) {
        if self.comment {
            self.comment = c != '\n';
            if self.comment {
                return;
            }
        }
        if std::mem::take(&mut self.escaped) {
            self.command.word.push(c);
            return;
        }
        let inner = |command: &mut Command, backtick| Open::Inner {
            outer: Box::new(std::mem::take(command)),
            backtick,
        };
        match (self.quotes(), c) {
            (Quotes::Single, '\'') | (Quotes::Double, '"') => {
                self.open.pop();
            }
            (Quotes::Single, _) => self.command.word.push(c),
            (_, '\\') => self.escaped = true,
            (_, '`') => {
                match self.open.iter().rposition(|open| matches!(open, Open::Inner { backtick: true, .. })) {
                    Some(at) => self.close(at),
                    None => {
                        let open = inner(&mut self.command, true);
                        self.open.push(open);
                    }
                }
            }
            (_, '(') if self.quotes() == Quotes::Bare || self.last == Some('$') => {
                let open = inner(&mut self.command, false);
                self.open.push(open);
            }
            (Quotes::Double, _) => self.command.word.push(c),
            (Quotes::Bare, '"') => self.open.push(Open::Double),
            (Quotes::Bare, '\'') => self.open.push(Open::Single),
            (Quotes::Bare, ')') => match self.open.last() {
                Some(Open::Inner { backtick: false, .. }) => self.close(self.open.len() - 1),
                // That of a `case`.
                _ => self.command = Command::default(),
            },
            (Quotes::Bare, ' ' | '\t') => self.end_word(),
            (Quotes::Bare, '&') if self.command.arrows > 0 && self.command.word.is_empty() => {}
            (Quotes::Bare, '\n' | ';' | '|' | '&') => self.command = Command::default(),
            (Quotes::Bare, '<' | '>') => {
                if !self.command.word.chars().all(|c| c.is_ascii_digit()) {
                    self.end_word();
                }
                self.command.word.clear();
                self.command.arrows += 1;
            }
            (Quotes::Bare, '#') if self.command.word.is_empty() => self.comment = true,
            (Quotes::Bare, _) => self.command.word.push(c),
        }
    }

    /// What was opened there ends, and all that was opened in it.
    fn close(&mut self, at: usize) {
        let ended = self.open.split_off(at);
        if let Some(Open::Inner { outer, .. }) = ended.into_iter().next() {
            self.command = *outer;
            self.command.word.push('x');
        }
    }

    fn end_word(&mut self) {
        let command = &mut self.command;
        let word = std::mem::take(&mut command.word);
        if word.is_empty() {
            return;
        }
        if std::mem::take(&mut command.arrows) > 0 {
            return;
        }
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let assigns = word.split_once('=').is_some_and(|(name, _)| is_name(name));
        if BEFORE_A_PROGRAM.contains(&word.as_str()) {
            command.named = false;
        } else if !assigns || command.named {
            command.named = true;
        }
        command.dashes |= word == "--";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_line_is_known_by_its_quotes_and_its_role() {
        use Quotes::*;
        let argument = Some(Role::Argument { dashes: false });
        for (line, quotes, role) in [
            ("", Bare, Some(Role::Program)),
            ("cat ", Bare, argument),
            ("cat a", Bare, None),
            ("cat \"", Double, argument),
            ("cat \"it's ", Double, None),
            ("cat 'a \"", Single, None),
            ("echo \"$(cat \"", Double, argument),
            ("echo \"$(cat \"a\") ", Double, None),
            ("echo \"$(", Bare, Some(Role::Program)),
            ("echo `cat ", Bare, argument),
            ("echo `cat x` ", Bare, argument),
            ("a; ", Bare, Some(Role::Program)),
            ("a | ", Bare, Some(Role::Program)),
            ("a && ", Bare, Some(Role::Program)),
            ("if ", Bare, Some(Role::Program)),
            ("eval ", Bare, Some(Role::Program)),
            ("LANG=C ", Bare, Some(Role::Program)),
            ("LANG=C sort ", Bare, argument),
            ("LANG=", Bare, None),
            ("cat x > ", Bare, Some(Role::Redirection)),
            ("cat x 2>> \"", Double, Some(Role::Redirection)),
            ("cat <<< ", Bare, argument),
            ("cat x >&2 ", Bare, argument),
            ("grep -- ", Bare, Some(Role::Argument { dashes: true })),
            ("grep -- x; cat ", Bare, argument),
            ("# don't\ncat ", Bare, argument),
            ("echo it\\'s ", Bare, argument),
            ("case x in a) ", Bare, Some(Role::Program)),
            ("(cd x && cat ", Bare, argument),
            ("cat --to=", Bare, None),
        ] {
            let mut at = ShellLine::default();
            at.read(line);
            assert_eq!((at.quotes(), at.role()), (quotes, role), "{line}");
        }
    }
}
