//! Calls that a task's own program makes. While it runs, its model is served on loopback: each call is held to the limits,
//! passed on with the real key, priced, and kept before its end reaches the program.
//!
//! A program that is run again gets the answers there are: a request is known by its bytes, and by how many equal ones were
//! answered before it in the same run. So one that is killed pays again for the calls in flight, and for no others.

mod client;
mod kept;

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{BuildContext, Job, Limited, Live, Turn, Turns, advice, failure};
use client::{Client, send};
use kept::Call;
use planexe_base::cancel::{Cancel, Level};
use planexe_base::clock;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{FsError, Socket};
use planexe_base::limits::is_long;
use planexe_base::message::Message;
use planexe_base::record::{Digest, Failure};
use planexe_base::style;
use planexe_llm::relay::server::{Answering, Answers, Asked, JSON, Relay};
use planexe_llm::relay::upstream::{Broken, Passed};
use planexe_llm::relay::{self, Dialect, Refusal, Route, Wire, made};
use planexe_llm::{CallContext, CallError, CallProgress, Class, Reply, UNREACHABLE};
use planexe_pipeline::project::{CallsSpec, Endpoint};
use planexe_store::calls::KeptCall;

/// How long a server that is away is waited for, unless its table says.
const AWAY: Duration = Duration::from_secs(600);

/// Where a program finds the path of the Unix socket that serves as the port does.
const SOCKET: &str = "PLANEXE_CALLS_SOCKET";

/// Variables of a program, with their values.
type Variables = Vec<(&'static str, String)>;

/// Serves the task's model while a program runs, which is given where, and a token.
pub(super) fn serve<T>(
    ctx: &BuildContext,
    job: &Job,
    calls: &CallsSpec,
    run: impl FnOnce(Variables) -> T,
) -> Result<Result<T, Failure>, FsError> {
    let token = format!("planexe-{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let unserved = |error: io::Error| {
        failure(FailureClass::Spawn, format!("its model cannot be served on 127.0.0.1: {error}"))
    };
    let relay = match Relay::bind(&token, Socket::bind(&ctx.socket_folders)) {
        Ok(relay) => relay,
        Err(error) => return Ok(Err(unserved(error))),
    };
    let variables = variables(&relay, &token, ctx.no_proxy.as_deref());
    let cancel = job.live.cancel.of_one();
    let (kept, to_sync) = channel();
    let counted = Counted {
        ctx,
        kept,
        calls: *calls,
        endpoint: &ctx.project.endpoints[calls.endpoint],
        task: &job.task.name,
        shown: ctx.project.spec(&job.task).shown_name(),
        key: job.task.item.as_ref().map(|item| item.key.as_str()),
        attempt: job.attempt,
        live: &job.live,
        turns: &*job.turns,
        cancel: cancel.clone(),
        numbers: Mutex::default(),
        broken: Mutex::default(),
    };
    let (ended, broken, synced) = std::thread::scope(|scope| {
        let syncing = scope.spawn(|| sync(ctx, to_sync));
        // Who listens to calls under way is gone with the program.
        let ended = relay.serve_while(&counted, || _ = cancel.raise(Level::Killing), || run(variables));
        // With it goes the last who keeps calls.
        let broken = { counted }.broken.into_inner();
        (ended, broken, syncing.join().unwrap_or(Ok(())))
    });
    broken.map_or(synced, Err)?;
    Ok(ended.map_err(unserved))
}

/// Syncs calls as they are kept. What the program makes of an answer waits for no disk: a kill does not lose what was
/// written, and a power cut takes the program with it. All are synced before anything that it made is recorded.
fn sync(ctx: &BuildContext, kept: Receiver<String>) -> Result<(), FsError> {
    let mut result = Ok(());
    for name in kept {
        if result.is_ok() {
            result = ctx.store.calls().sync(&name);
            if result.is_err() {
                ctx.cancel.break_off();
            }
        }
    }
    result
}

/// What tells the clients of both vendors where to call, and with what.
fn variables(relay: &Relay, token: &str, no_proxy: Option<&str>) -> Variables {
    let root = relay.root();
    let here = "127.0.0.1";
    let no_proxy = match no_proxy.map(str::trim).filter(|hosts| !hosts.is_empty()) {
        Some(hosts) => format!("{hosts},{here}"),
        None => here.to_owned(),
    };
    let mut variables = vec![
        ("OPENAI_BASE_URL", format!("{root}/v1")),
        ("OPENAI_API_BASE", format!("{root}/v1")),
        ("OPENAI_API_KEY", token.to_owned()),
        ("ANTHROPIC_BASE_URL", root),
        ("ANTHROPIC_API_KEY", token.to_owned()),
        ("ANTHROPIC_AUTH_TOKEN", token.to_owned()),
        ("NO_PROXY", no_proxy.clone()),
        ("no_proxy", no_proxy),
    ];
    let socket = relay.socket().map(|path| (SOCKET, path.to_string_lossy().into_owned()));
    variables.extend(socket);
    variables
}

/// The calls of one attempt.
struct Counted<'a> {
    ctx: &'a BuildContext,
    calls: CallsSpec,
    endpoint: &'a Endpoint,
    task: &'a str,
    shown: &'a str,
    key: Option<&'a str>,
    attempt: u32,
    live: &'a Live,
    turns: &'a dyn Turns,
    /// Where calls go that are kept, to be synced.
    kept: Sender<String>,
    /// Ends the calls under way.
    cancel: Cancel,
    /// By request: how many equal ones were answered or are under way, and the numbers of those that brought nothing.
    numbers: Mutex<HashMap<String, (u32, Vec<u32>)>>,
    /// A record could not be written.
    broken: Mutex<Option<FsError>>,
}

/// One request, with the number it has among equal ones.
struct Numbered {
    route: Route,
    dialect: Dialect,
    body: Map<String, Value>,
    /// What all equal ones have in common.
    common: String,
    number: u32,
    /// What it is recorded by.
    digest: String,
}

/// How a call ended.
enum End {
    /// The answer passed; what is not sent yet is in it.
    Passed(Box<Passed>),
    /// It is there, and nothing of it is sent.
    Made(Wire, Box<Reply>),
    /// It brought nothing.
    Broken(Box<Broken>),
}

impl Answers for Counted<'_> {
    fn answer(&self, asked: Asked, to: &mut Answering<'_>) -> io::Result<()> {
        self.live.relay(asked.body.len());
        let dialect = asked.dialect;
        if asked.route == Route::Models {
            return to.whole(200, &[JSON], &relay::models(self.endpoint.model_name(), dialect));
        }
        let body = match serde_json::from_slice::<Value>(&asked.body) {
            Ok(Value::Object(body)) => body,
            Ok(_) => return to.refuse(&Refusal::Bad("the body is no JSON object".to_owned()), dialect),
            Err(error) => {
                return to.refuse(&Refusal::Bad(format!("the body is no JSON: {error}")), dialect);
            }
        };
        match self.ctx.providers.upstream(self.calls.endpoint) {
            Err(error) => return to.refuse(&Refusal::Unavailable(error.message.text), dialect),
            Ok(Some(upstream)) => {
                if let Err(why) = upstream.speaks(asked.route) {
                    return to.refuse(&Refusal::NoSuchRoute(why), dialect);
                }
            }
            Ok(None) if asked.route == Route::CountTokens => {
                return to.whole(200, &[JSON], &made::count(&body));
            }
            Ok(None) => {}
        }
        if asked.route == Route::CountTokens {
            return self.count_tokens(&asked, body, to);
        }
        let request = self.numbered(asked.route, dialect, body);
        let (common, number) = (request.common.clone(), request.number);
        let delivered = self.answer_numbered(&asked, request, to);
        // What brought nothing leaves its number to the next equal request, which is most likely the same once more.
        if !matches!(delivered, Ok(true)) {
            self.numbers.lock().entry(common).or_default().1.push(number);
        }
        delivered.map(drop)
    }
}

impl Counted<'_> {
    fn numbered(&self, route: Route, dialect: Dialect, body: Map<String, Value>) -> Numbered {
        let common = relay::digest(route, &body, 0);
        let mut numbers = self.numbers.lock();
        let (next, back) = numbers.entry(common.clone()).or_default();
        let number = match back.iter().enumerate().min_by_key(|(_, number)| **number).map(|(at, _)| at) {
            Some(at) => back.swap_remove(at),
            None => std::mem::replace(next, *next + 1),
        };
        let digest = if number == 0 { common.clone() } else { relay::digest(route, &body, number) };
        Numbered { route, dialect, body, common, number, digest }
    }

    /// What a kept answer is found by: with another model it is another call.
    fn kept_digest(&self, request: &Numbered) -> Digest {
        let of = [&self.endpoint.name, self.endpoint.model_name(), &request.digest];
        Digest::of(of.join("\0").as_bytes())
    }

    /// Answers a request from what is kept or recorded, or makes the call. Whether the client has an answer to it.
    fn answer_numbered(&self, asked: &Asked, request: Numbered, to: &mut Answering<'_>) -> io::Result<bool> {
        if let Some(why) = self.over_own_limit() {
            to.refuse(&Refusal::Budget(why), request.dialect)?;
            return Ok(false);
        }
        let kept = match self.ctx.no_reuse {
            true => Ok(None),
            false => self.ctx.store.calls().find_named(self.task, &self.kept_digest(&request)),
        };
        if let Some(KeptCall { record, .. }) = kept.map_err(|error| self.broken(error))?
            && let (Some(wire), Some(reply)) = (&record.wire, &record.reply)
        {
            if record.attempt < self.attempt
                && let Err(error) = super::prompt::count_kept(self.ctx, &record)
            {
                return Err(self.broken(error));
            }
            self.live.called(&reply.usage);
            send(to, wire, &wire.body)?;
            return Ok(true);
        }
        self.call(asked, &request, to)
    }

    /// The limit of the task itself that is reached.
    fn over_own_limit(&self) -> Option<String> {
        let used = self.live.calls();
        if let Some(most) = self.calls.max_calls.filter(|most| used.calls >= *most) {
            return Some(format!(
                "task `{}` may make {} (calls.max_calls)",
                self.task,
                style::count(most, "call")
            ));
        }
        let most = self.calls.max_cost.filter(|most| used.cost_usd >= *most)?;
        Some(format!("the calls of task `{}` may cost {most} USD (calls.max_cost)", self.task))
    }

    /// Makes a call, once it is its turn.
    fn call(&self, asked: &Asked, request: &Numbered, to: &mut Answering<'_>) -> io::Result<bool> {
        let (ctx, at) = (self.ctx, self.calls.endpoint);
        let refuse =
            |to: &mut Answering<'_>, refusal: Refusal| to.refuse(&refusal, request.dialect).map(|()| false);
        let tokens = asked.body.len() as u64 / 3;
        let begun = Instant::now();
        loop {
            let mut waiting = self.live.waits.wait();
            match self.turns.begin(at, tokens, &self.cancel) {
                Turn::Begin if !ctx.cancel.is_broken() => waiting.begin(),
                Turn::Parked(wait) => return refuse(to, self.parked(wait)),
                _ => return refuse(to, Refusal::Unavailable("the build ends".to_owned())),
            }
            if !ctx.providers.ceiling.begin() {
                self.turns.end(at, (Err(Class::Cancelled), None), None);
                self.live.refuse();
                let why = "the build has used up its limit of calls, tokens or money (--max-calls, --max-tokens, \
                           --max-cost); what was paid for is kept";
                return refuse(to, Refusal::Budget(why.to_owned()));
            }
            if let Err(error) = ctx.store.calls().keep_room(ctx.project.calls_at_once()) {
                return Err(self.broken(error));
            }
            let (started_utc, started) = (clock::now_utc(), Instant::now());
            let mut client = Client { to, begun: false, gone: false };
            let end = self.end_of(asked, request, &mut client);
            let unreached = |error: &CallError| error.code.as_deref() == Some(UNREACHABLE);
            let heard = !matches!(&end, End::Broken(broken) if unreached(&broken.error));
            ctx.providers.ceiling.end(heard);
            let call = Call { request, started_utc, took: started.elapsed() };
            let kept = self.keep(&call, &end);
            match heard {
                true => drop(waiting),
                false => waiting.unheard(),
            }
            self.over(&end);
            if let Err(error) = kept {
                return Err(self.broken(error));
            }
            let wait = self.endpoint.model.retry.and_then(|retry| retry.wait).map_or(AWAY, |span| span.0);
            if heard || begun.elapsed() >= wait || self.cancel.is_killing() {
                return client.finish(end, request.dialect, ctx);
            }
            // Nothing was sent, and nothing paid: its turn comes again when its server may be asked.
        }
    }

    /// Tells the limits of the model how a call ended. A usage limit is the task's end, unless a later call is answered.
    fn over(&self, end: &End) {
        let (over, error) = match end {
            End::Passed(passed) => ((Ok(passed.reply.usage), None), None),
            End::Made(_, reply) => ((Ok(reply.usage), None), None),
            End::Broken(broken) => ((Err(broken.error.class), broken.error.retry_after), Some(&broken.error)),
        };
        match error {
            None => self.live.unlimit(),
            Some(error) => {
                let asked = error.retry_after.filter(|wait| is_long(*wait));
                if let Some(wait) = asked.filter(|_| error.class == Class::RateLimit) {
                    self.limited(error.message.clone(), wait);
                }
            }
        }
        self.turns.end(self.calls.endpoint, over, error.map(|error| &error.message));
    }

    fn limited(&self, message: Message, wait: Duration) {
        if let Some(until) = SystemTime::now().checked_add(wait) {
            let message = advice::of_model(message, &self.endpoint.name);
            self.live.limit(Limited { message, until });
        }
    }

    /// The model takes no calls for so long: neither does its program wait, nor is what it leaves then believed.
    fn parked(&self, wait: Duration) -> Refusal {
        let text = format!(
            "its usage limit is not over: it takes no calls for {}",
            style::duration(wait.as_secs_f64())
        );
        self.limited(Message::new(text.clone()), wait);
        Refusal::Budget(format!("`{}`: {text}; the build runs the task again then", self.endpoint.name))
    }

    /// Passes a request on, or has a model without a server answer it.
    fn end_of(&self, asked: &Asked, request: &Numbered, client: &mut Client<'_, '_>) -> End {
        let (ctx, progress) = (self.ctx, CallProgress::default());
        let context = CallContext { cancel: &self.cancel, progress: &progress, time_left: None };
        let upstream = match ctx.providers.upstream(self.calls.endpoint) {
            Ok(upstream) => upstream,
            Err(error) => return End::Broken(Box::new(error.into())),
        };
        let Some(upstream) = upstream else {
            return self.made(request, &context).unwrap_or_else(|error| End::Broken(Box::new(error.into())));
        };
        let header = |name: &str| asked.header(name).map(str::to_owned);
        let passing = upstream.passing(request.route, request.body.clone(), header);
        let mut piece = |text: &str| {
            self.live.relay(text.len());
            client.piece(&ctx.providers.redact(text));
        };
        match upstream.call(&passing, &context, &mut piece) {
            Ok(passed) => {
                self.live.relay(passed.body.len());
                let reply = ctx.providers.redacted_reply(passed.reply);
                let (body, held) = (ctx.providers.redact(&passed.body), ctx.providers.redact(&passed.held));
                End::Passed(Box::new(Passed { reply, body, held, ..passed }))
            }
            Err(broken) => {
                let error = ctx.providers.redacted(broken.error);
                End::Broken(Box::new(Broken { error, told: broken.told }))
            }
        }
    }

    /// The answer of a model without a server: the recorded one to this very request, or one to its prompt.
    fn made(&self, request: &Numbered, context: &CallContext<'_>) -> Result<End, CallError> {
        let provider = self.ctx.providers.get(self.calls.endpoint)?;
        let mut asked = self.asked(request, true);
        asked
            .params
            .extend(request.body.get("max_tokens").map(|most| ("max_tokens".to_owned(), most.clone())));
        if let Some((wire, usage)) = provider.relayed(&asked, &request.digest) {
            let reply = Reply { text: made::shown(request.route, &wire), usage, ..Reply::default() };
            return Ok(End::Made(wire, Box::new(reply)));
        }
        let reply = self.ctx.providers.redacted_reply(provider.call(&asked, context)?);
        let wire = made::answer(request.route, &request.body, self.endpoint.model_name(), &reply);
        let none = || {
            CallError::new(Class::Config, format!("a model without a server has no {}", request.route.path()))
        };
        Ok(End::Made(wire.ok_or_else(none)?, Box::new(reply)))
    }

    /// Counts tokens where the model's server does, which is free of charge.
    fn count_tokens(
        &self,
        asked: &Asked,
        body: Map<String, Value>,
        to: &mut Answering<'_>,
    ) -> io::Result<()> {
        let (common, number) = (String::new(), 0);
        let digest = String::new();
        let request = Numbered { route: asked.route, dialect: asked.dialect, body, common, number, digest };
        let mut client = Client { to, begun: false, gone: false };
        let end = self.end_of(asked, &request, &mut client);
        client.finish(end, asked.dialect, self.ctx).map(drop)
    }

    /// A record cannot be written: the build must not go on.
    fn broken(&self, error: FsError) -> io::Error {
        self.ctx.cancel.break_off();
        self.broken.lock().get_or_insert(error);
        self.live.cancel.raise(Level::Killing);
        io::Error::other("records cannot be written")
    }
}
