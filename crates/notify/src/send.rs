//! One POST to one receiver, and what its answer means. Nothing here ever shows an address.

use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::Agent;
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::DefaultConnector;

use super::format::{address, body};
use super::payload::Payload;
use super::sign::Key;
use planexe_llm::keys::{Secret, Site};
use planexe_llm::loopback::HereOnly;
use planexe_llm::retry_after;
use planexe_pipeline::manifest::types::WebhookFormat as Format;

/// Until the connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// One POST in all.
const TOTAL: Duration = Duration::from_secs(15);

/// Where events go.
#[derive(Debug)]
pub struct Receiver {
    /// Its name in messages: `webhook ops`, `PLANEXE_WEBHOOK_URL`.
    pub label: String,
    /// Its name on disk.
    pub folder: String,
    /// Where to post.
    pub url: Secret,
    /// What it reads.
    pub format: Format,
    /// What messages are signed with.
    pub key: Option<Key>,
    /// Events it is told; all if empty.
    pub events: Vec<String>,
}

impl Receiver {
    /// Whether it is told an event.
    pub fn wants(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|wanted| wanted == event)
    }

    /// Whether its address was given on the command line, and is known to nobody else.
    pub fn is_given(&self) -> bool {
        self.folder.starts_with("url.")
    }

    /// Has it told further events; all if there are none.
    pub fn also_wants(&mut self, events: Vec<String>) {
        if events.is_empty() || self.events.is_empty() {
            self.events.clear();
        } else {
            self.events.extend(events);
        }
    }
}

/// What became of a POST.
#[derive(Debug, PartialEq)]
pub enum Sent {
    /// It took it.
    Delivered,
    /// To be tried again.
    Later {
        /// Why.
        why: String,
        /// The pause it asked for.
        after: Option<Duration>,
        /// Somebody answered. Who does not is not waited for at the end of a build.
        answers: bool,
    },
    /// It never takes this message.
    Refused(String),
    /// It takes no message: not tried again in this build.
    Closed(String),
}

/// Whether text is an address messages can be posted to.
pub fn is_address(url: &str) -> bool {
    Site::of(url).is_ok() && url.parse::<ureq::http::Uri>().is_ok()
}

/// Posts events as one message.
pub fn send(receiver: &Receiver, payloads: &[Payload]) -> Sent {
    send_by(DefaultResolver::default(), receiver, payloads)
}

fn send_by(names: impl Resolver, receiver: &Receiver, payloads: &[Payload]) -> Sent {
    let url = address(receiver.format, receiver.url.expose());
    let Ok(site) = Site::of(&url) else { return Sent::Closed("its address is not a URL".to_owned()) };
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(TOTAL))
        .max_idle_connections(0)
        .user_agent(concat!("planexe/", env!("CARGO_PKG_VERSION")));
    if site.is_loopback() {
        config = config.proxy(None);
    }
    let config = config.build();
    if let Some(why) = url.parse().ok().and_then(|uri| planexe_llm::proxy::unusable(&config, &uri)) {
        return Sent::Closed(why);
    }
    // What is written as this machine is posted to on this machine or not at all: the proxy, which is not asked for
    // it, may be what keeps messages from leaving in the clear.
    let names = HereOnly { names, here_only: site.is_loopback() };
    let agent = Agent::with_parts(config, DefaultConnector::default(), names);
    let body = body(receiver.format, payloads);
    let mut request = agent.post(&url).header("content-type", "application/json");
    if receiver.format == Format::Json
        && let Some(payload) = payloads.first()
    {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        request = request.header("webhook-id", &payload.id).header("webhook-timestamp", now.to_string());
        if let Some(key) = &receiver.key {
            request = request.header("webhook-signature", key.sign(&payload.id, now, &body));
        }
    }
    match request.send(&body[..]) {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let mut text = Vec::new();
            if !head.status.is_success() {
                let _ = body.into_reader().take(16 * 1024).read_to_end(&mut text);
            }
            let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
            meaning(receiver.format, head.status.as_u16(), header, &text)
        }
        Err(error) => unsent(&error, receiver),
    }
}

/// What an answer means.
fn meaning<'a>(format: Format, status: u16, header: impl Fn(&str) -> Option<&'a str>, body: &[u8]) -> Sent {
    let why = format!("HTTP {status}");
    match status {
        200..=299 => Sent::Delivered,
        300..=399 => Sent::Closed(format!("{why}: it redirects, which is not followed")),
        410 => Sent::Closed(format!("{why}: it is gone")),
        404 if format == Format::Discord => Sent::Closed(format!("{why}: it is gone")),
        408 | 425 | 429 | 500..=599 => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
            let said = || {
                let body: serde_json::Value = serde_json::from_slice(body).ok()?;
                let seconds = body.get("retry_after")?.as_f64()?;
                Duration::try_from_secs_f64(seconds.min(86400.0)).ok()
            };
            Sent::Later { why, after: retry_after::retry_after(header, now).or_else(said), answers: true }
        }
        400 | 413 | 415 | 422 => Sent::Refused(why),
        _ => Sent::Closed(why),
    }
}

/// Why nothing was sent, in words without the address.
fn unsent(error: &ureq::Error, receiver: &Receiver) -> Sent {
    use ureq::Error as E;
    let away = |why: String| Sent::Later { why, after: None, answers: false };
    match error {
        E::Timeout(_) => away("no answer in time".to_owned()),
        E::HostNotFound => away("no address is known for its host".to_owned()),
        E::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Sent::Closed(format!("no trusted connection: {}", shown(&error.to_string(), receiver)))
        }
        E::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            away("nothing listens at its address".to_owned())
        }
        E::Io(error) => away(shown(&planexe_base::fs::without_number(error), receiver)),
        E::Protocol(_) | E::ConnectProxyFailed(_) | E::ConnectionFailed => {
            away("no proper answer".to_owned())
        }
        E::Other(_) => Sent::Closed("its name is one of this machine and stands for another".to_owned()),
        _ => Sent::Closed("it cannot be posted to".to_owned()),
    }
}

fn shown(text: &str, receiver: &Receiver) -> String {
    super::payload::bounded(&planexe_base::style::clean(&receiver.url.redact(text)), 120)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_what_follows() {
        let none = |_: &str| None;
        let after = |name: &str| (name == "retry-after").then_some("3");
        for (format, status, wanted) in [
            (Format::Json, 200, "Delivered"),
            (Format::Discord, 204, "Delivered"),
            (Format::Json, 302, "Closed"),
            (Format::Json, 410, "Closed"),
            (Format::Discord, 404, "Closed"),
            (Format::Json, 401, "Closed"),
            (Format::Slack, 400, "Refused"),
            (Format::Json, 429, "Later"),
            (Format::Json, 503, "Later"),
        ] {
            let got = format!("{:?}", meaning(format, status, none, b""));
            assert!(got.starts_with(wanted), "{status}: {got}");
        }
        let later = |millis| Sent::Later {
            why: "HTTP 429".to_owned(),
            after: Some(Duration::from_millis(millis)),
            answers: true,
        };
        assert_eq!(meaning(Format::Json, 429, after, b""), later(3000));
        let said = br#"{"message": "You are being rate limited.", "retry_after": 0.5, "global": false}"#;
        assert_eq!(meaning(Format::Discord, 429, none, said), later(500));
    }

    /// Answers every look-up with one address.
    #[derive(Debug)]
    struct Names(std::net::SocketAddr);

    impl Resolver for Names {
        fn resolve(
            &self,
            _: &ureq::http::Uri,
            _: &ureq::config::Config,
            _: ureq::unversioned::transport::NextTimeout,
        ) -> Result<ureq::unversioned::resolver::ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            found.push(self.0);
            Ok(found)
        }
    }

    #[test]
    fn a_name_of_this_machine_that_stands_for_another_is_not_posted_to() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = server.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 204 No Content\r\n\r\n");
        });
        let receiver = |url: &str| Receiver {
            label: "webhook x".to_owned(),
            folder: "x".to_owned(),
            url: Secret::new(url),
            format: Format::Json,
            key: None,
            events: Vec::new(),
        };
        let away = Names("192.0.2.1:80".parse().unwrap());
        for url in ["http://localhost/", "http://hooks.localhost/", "http://localhost./"] {
            let Sent::Closed(why) = send_by(Names(away.0), &receiver(url), &[]) else { panic!("{url}") };
            assert_eq!(why, "its name is one of this machine and stands for another");
        }
        assert_eq!(send_by(Names(here), &receiver("http://hooks.localhost/"), &[]), Sent::Delivered);
        served.join().unwrap();
    }

    #[test]
    fn addresses() {
        for (text, wanted) in [
            ("https://x.example/a?b", true),
            ("http://127.0.0.1:9/", true),
            ("x.example", false),
            ("ftp://x.example", false),
            ("https://user:word@x.example/", false),
            ("https://x y/", false),
        ] {
            assert_eq!(is_address(text), wanted, "{text}");
        }
    }
}
