//! `planexe interview`: what is missing in a plan, asked question by question.

use std::io::{self, BufRead as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::commands::args::HowArgs;
use crate::ops::build::{Targets, target_ids};
use crate::ops::interview::{self, Answered, Aspect, Found, Question};
use planexe_base::exit::{self, Error};
use planexe_base::signals;
use planexe_base::style::{GREEN, RED, Style, YELLOW, clean};
use planexe_pipeline::open::Opened;
use planexe_ui::views::table;

/// Looks at the plan at most, each of which is one call.
const ROUNDS: usize = 3;

/// What `planexe interview` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct InterviewArgs {
    /// Only look: show what is missing and what to ask; exit with 3 if it is not enough
    #[arg(long)]
    pub check: bool,

    /// Add an answer to the plan first; may be repeated
    #[arg(long = "answer", value_name = "ASPECT=TEXT", value_parser = parse_answer)]
    pub answers: Vec<(String, String)>,
}

fn parse_answer(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((aspect, answer)) if !aspect.trim().is_empty() && !answer.trim().is_empty() => {
            Ok((aspect.trim().to_owned(), answer.trim().to_owned()))
        }
        _ => Err("wanted ASPECT=TEXT, for example `budget=EUR 80,000 in all`".to_owned()),
    }
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View<'a> {
    plan: &'a str,
    ready: bool,
    request: &'a str,
    verdict: &'a str,
    reason: &'a str,
    aspects: &'a [Aspect],
    questions: &'a [Question],
}

/// Looks at the plan, and asks.
pub fn run(session: &Session, args: &InterviewArgs) -> Result<u8, Error> {
    let only_looks = args.check || session.globals.json || !args.answers.is_empty();
    if !only_looks && !session.in_is_terminal {
        return Err(Error::usage("nobody can be asked: standard input is no terminal")
            .code("no_terminal")
            .hint("`planexe interview --check --json` gives the questions, `--answer budget='EUR 80,000'` takes answers"));
    }
    let mut opened = session.open(false)?;
    let plan = interview::plan_of(&opened)?;
    if !args.answers.is_empty() {
        let answer = |(aspect, text): &(String, String)| Answered {
            aspect: aspect.clone(),
            question: String::new(),
            text: text.clone(),
        };
        interview::add(&opened, &args.answers.iter().map(answer).collect::<Vec<_>>())?;
        opened = session.open(false)?;
    }
    if !only_looks {
        leave_while_asking()?;
    }
    let (mut round, mut is_over) = (1, only_looks);
    loop {
        let code = look(session, &opened)?;
        if code != exit::DONE {
            return Ok(code);
        }
        let found = interview::read(opened.store.run_dir(), &plan)?;
        let ready = found.is_ready();
        show(session, &opened, &plan, &found)?;
        let is_last = is_over || round == ROUNDS || found.questions.is_empty();
        let asked = if is_last { Asked::default() } else { ask(session, &opened, &found)? };
        if asked.answered == 0 {
            tell(session, &plan, ready);
            return Ok(if ready { exit::DONE } else { exit::STOPPED });
        }
        // Who ended the input has answered enough; what the answers amount to is looked at once more.
        is_over = asked.is_over;
        opened = session.open(false)?;
        round += 1;
    }
}

/// Has the task made that looks at the plan: one call, none if the plan is as it was.
fn look(session: &Session, opened: &Opened) -> Result<u8, Error> {
    let typed = vec![interview::TASK.to_owned()];
    let what = Targets { targets: target_ids(opened, &typed)?, typed, ..Targets::default() };
    session.make(opened, what, &HowArgs::default())
}

fn show(session: &Session, opened: &Opened, plan: &str, found: &Found) -> Result<(), Error> {
    if session.globals.json {
        let view = View {
            plan,
            ready: found.is_ready(),
            request: &found.request,
            verdict: &found.verdict,
            reason: &found.reason,
            aspects: &found.aspects,
            questions: &found.questions,
        };
        return session.print_answer(opened.store.run_dir(), &view);
    }
    let rows: Vec<Vec<String>> = found.aspects.iter().map(|aspect| row(aspect, &session.out)).collect();
    let mut text = format!("{}\n\n{}", clean(&found.request), table(&rows, &session.out));
    for (n, question) in found.questions.iter().enumerate().filter(|_| !session.in_is_terminal) {
        text += &format!("\n{}. {}\n", n + 1, clean(&question.question));
        text += &question.suggestions.iter().map(|it| format!("   - {}\n", clean(it))).collect::<String>();
    }
    Ok(session.print(&text)?)
}

fn row(aspect: &Aspect, style: &Style) -> Vec<String> {
    let colour = match aspect.state.as_str() {
        "present" => GREEN,
        "partial" => YELLOW,
        _ => RED,
    };
    vec![
        style.paint(colour, &clean(&aspect.state)),
        clean(&aspect.id.replace('_', " ")),
        clean(&aspect.quote),
    ]
}

/// What came of asking.
#[derive(Debug, Default)]
struct Asked {
    /// How many questions were answered.
    answered: usize,
    /// The input ended: nobody answers any more.
    is_over: bool,
}

/// Whether an answer is waited for. What was answered before is in the plan, and nothing else is under way.
static ASKING: AtomicBool = AtomicBool::new(false);

/// From now on a signal ends planexe on the spot while an answer is waited for.
fn leave_while_asking() -> Result<(), Error> {
    let received = signals::listen()?;
    let listener = move || {
        for signal in received.forever() {
            if ASKING.load(Ordering::SeqCst) {
                std::process::exit(i32::from(exit::of_signal(signal)));
            }
        }
    };
    std::thread::Builder::new().name("leaving".into()).spawn(listener)?;
    Ok(())
}

/// Asks each question; an answer is in the plan before the next one.
fn ask(session: &Session, opened: &Opened, found: &Found) -> Result<Asked, Error> {
    let mut asked = Asked::default();
    for (n, question) in found.questions.iter().enumerate() {
        let mut text = format!("\n{} of {}: {}\n", n + 1, found.questions.len(), clean(&question.question));
        text += &format!("{}\n", session.err.paint(planexe_base::style::GREY, &clean(&question.why)));
        for (n, suggestion) in question.suggestions.iter().enumerate() {
            text += &format!("  {}  {}\n", n + 1, clean(suggestion));
        }
        text += "A number, words of your own, or nothing to leave it open: ";
        let Some(line) = answer(&text) else {
            asked.is_over = true;
            return Ok(asked);
        };
        let line = line.trim();
        let chosen = line.parse().ok().and_then(|n: usize| question.suggestions.get(n.checked_sub(1)?));
        let said = chosen.map_or(line, String::as_str);
        if !said.is_empty() {
            let answer = Answered {
                aspect: question.aspect.clone(),
                question: clean(&question.question),
                text: clean(said),
            };
            interview::add(opened, &[answer])?;
            asked.answered += 1;
        }
    }
    Ok(asked)
}

/// A line that is typed after a text; none at the end of the input. One that cannot be taken is asked for again.
fn answer(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    loop {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{text}").and_then(|()| stderr.flush()).ok()?;
        let mut line = Vec::new();
        ASKING.store(true, Ordering::SeqCst);
        let read = io::stdin().lock().read_until(b'\n', &mut line).unwrap_or(0);
        ASKING.store(false, Ordering::SeqCst);
        if read == 0 {
            return None;
        }
        text = match String::from_utf8(line) {
            Ok(line) if line.trim().len() > interview::LONGEST => {
                format!("That is longer than {} bytes; in fewer words: ", interview::LONGEST)
            }
            Ok(line) => return Some(line),
            Err(_) => "That is no UTF-8 text; once more, or nothing to leave it open: ".to_owned(),
        };
    }
}

fn tell(session: &Session, plan: &str, ready: bool) {
    let plan = clean(plan);
    match ready {
        true => session.say(&format!("enough to begin: read `{plan}` again, then `planexe build`")),
        false => session
            .say(&format!("not enough yet: write it into `{plan}`, or answer `planexe interview` again")),
    }
}
