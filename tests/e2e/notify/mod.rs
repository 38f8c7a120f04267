//! Being told: webhooks, the outbox, hooks, and tasks that get nowhere. A receiver may fail, hang,
//! redirect or be gone: the build goes on, and what it could not tell is told later.

mod hooks;
mod told;
mod webhooks;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use crate::support::{Answer, FakeLlm, Space, patiently, space, until};

/// One POST as it arrived.
#[derive(Debug, Clone)]
struct Post {
    path: String,
    /// Names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Post {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn event(&self) -> String {
        let json = self.json();
        let task = json["task"].as_str().map(|task| format!(" {task}")).unwrap_or_default();
        format!("{}{task}", json["event"].as_str().expect("an event"))
    }
}

/// What the receiver does with a POST.
#[derive(Debug, Clone)]
enum Do {
    Answer(u16, &'static str),
    Hang,
    Close,
}

type Script = dyn Fn(usize, &Post) -> Do + Send + Sync;

/// A receiver of webhooks on loopback.
struct Receiver {
    url: String,
    posts: Arc<Mutex<Vec<Post>>>,
    script: Arc<Mutex<Box<Script>>>,
}

impl Receiver {
    fn new(script: impl Fn(usize, &Post) -> Do + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook/T0KEN-of-the-receiver", listener.local_addr().expect("an address"));
        let posts: Arc<Mutex<Vec<Post>>> = Arc::default();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let (all, what) = (posts.clone(), script.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (all, what) = (all.clone(), what.clone());
                std::thread::spawn(move || serve(stream, &all, &what));
            }
        });
        Receiver { url, posts, script }
    }

    /// One that takes everything.
    fn willing() -> Receiver {
        Receiver::new(|_, _| Do::Answer(200, ""))
    }

    fn does(&self, script: impl Fn(usize, &Post) -> Do + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<String> {
        self.posts().iter().map(Post::event).collect()
    }

    fn forget(&self) {
        self.posts.lock().unwrap().clear();
    }
}

fn serve(mut stream: TcpStream, posts: &Mutex<Vec<Post>>, script: &Mutex<Box<Script>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("the stream"));
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let post = Post { path, headers, body };
    let nth = {
        let mut posts = posts.lock().unwrap();
        posts.push(post.clone());
        posts.len() - 1
    };
    let answer = script.lock().unwrap()(nth, &post);
    match answer {
        Do::Answer(status, headers) => {
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\n{headers}content-length: 2\r\nconnection: close\r\n\r\nok"
            );
        }
        Do::Hang => std::thread::sleep(Duration::from_secs(600)),
        Do::Close => {}
    }
}

const TWO: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\nGo on from: {{ a }}"
"#;

const ALL: [&str; 5] =
    ["task.started a", "task.completed a", "task.started b", "task.completed b", "pipeline.completed"];

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Two tasks and a webhook whose address is in `HOOK_URL`.
fn told(server: &FakeLlm, receiver: &Receiver, keys: &str) -> Space {
    let space = space(server, &format!("[webhooks.ops]\nurl_env = \"HOOK_URL\"\n{keys}\n{TWO}"));
    space.set_env("HOOK_URL", &receiver.url);
    space
}

fn waiting(space: &Space) -> usize {
    space.files(".planexe/outbox").len()
}
