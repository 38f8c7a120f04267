use super::*;

/// Answers with what it was asked; of a list of models nothing.
struct Echo;

impl Answers for Echo {
    fn answer(&self, asked: Asked, to: &mut Answering<'_>) -> io::Result<()> {
        match asked.route {
            Route::Models => Ok(()),
            Route::Responses => {
                to.begin(200, &[JSON])?;
                to.piece(b"")?;
                to.piece(&asked.body)?;
                to.end()
            }
            _ => to.whole(200, &[JSON, ("x-asked", asked.header("x-what").unwrap_or("-"))], &asked.body),
        }
    }
}

#[test]
fn the_socket_serves_as_the_port_does_and_no_longer_than_it() {
    let base = tempfile::tempdir().unwrap();
    let socket = Socket::bind(&[base.path().to_owned()]).unwrap();
    let path = socket.path().to_owned();
    let relay = Relay::bind("secret", Some(socket)).unwrap();
    let ask = |token: &str, path: &Path| {
        let mut stream = UnixStream::connect(path).unwrap();
        let request = format!(
            "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                 connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let held = relay
        .serve_while(
            &Echo,
            || (),
            || {
                let answer = ask("secret", &path).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n{}"), "{answer}");
                // The body of one without the token is not read: the answer may be cut off by that.
                let refused = ask("other", &path);
                assert!(refused.is_err() || refused.is_ok_and(|it| it.starts_with("HTTP/1.1 401")));
                UnixStream::connect(&path).unwrap()
            },
        )
        .unwrap();
    assert!(!path.exists() && UnixStream::connect(&path).is_err());
    assert_eq!((&held).read(&mut [0; 1]).unwrap(), 0, "what is open is closed");
}

/// What is answered to these bytes.
fn answer(bytes: &str) -> String {
    let relay = Relay::bind("token", None).unwrap();
    let address = relay.address;
    let talk = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    relay.serve_while(&Echo, || (), talk).unwrap()
}

#[test]
fn bodies_are_read_however_they_are_framed() {
    let post = |headers: &str, body: &str| {
        answer(&format!("POST /v1/messages HTTP/1.1\r\nX-Api-Key: token\r\n{headers}\r\n{body}"))
    };
    for (headers, body, status, said) in [
        ("content-length: 2\r\nx-what: a\x07b\r\n", "hi", "200 OK", "x-asked: ab\r\n"),
        ("content-length: 2\r\n", "hi", "200 OK", "\r\n\r\nhi"),
        ("content-length: 0\r\ncontent-encoding: identity\r\n", "", "200 OK", "content-length: 0"),
        ("transfer-encoding: chunked\r\n", "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "200 OK", "\r\n\r\nabcde"),
        ("expect: 100-continue\r\ncontent-length: 2\r\n", "hi", "100 Continue", "HTTP/1.1 200 OK"),
        (
            "content-encoding: gzip\r\ncontent-length: 2\r\n",
            "hi",
            "400 Bad Request",
            "a compressed body is not read",
        ),
        ("transfer-encoding: chunked\r\n", "xyz\r\n", "400 Bad Request", "chunks cannot be read"),
        ("transfer-encoding: chunked\r\n", "3\r\nab", "400 Bad Request", "chunks cannot be read"),
        ("transfer-encoding: chunked\r\n", "ffffffffffffffff\r\n", "400 Bad Request", "larger than 64 MiB"),
        ("content-length: x\r\n", "", "400 Bad Request", "`content-length` is no number"),
        ("content-length: 99999999999\r\n", "", "400 Bad Request", "larger than 64 MiB"),
    ] {
        let found = post(headers, body);
        assert!(
            found.starts_with(&format!("HTTP/1.1 {status}")) && found.contains(said),
            "{headers}{body}: {found}"
        );
    }
    assert_eq!(post("content-length: 9\r\n", "short"), "", "it never came whole");
}

#[test]
fn a_connection_carries_one_request_after_the_other() {
    let get = "GET /v1/models HTTP/1.1\r\nauthorization: bearer token\r\n";
    let found = answer(&format!("{get}\r\n{get}\r\n"));
    assert_eq!(found.matches("503 Service Unavailable").count(), 2, "{found}");
    assert!(found.contains("nothing answered") && found.contains("x-should-retry: true"), "{found}");
    assert_eq!(answer(&format!("{get}connection: close\r\n\r\n{get}\r\n")).matches("503").count(), 1);
    let old = get.replace("1.1", "1.0");
    assert_eq!(answer(&format!("{old}\r\n{old}\r\n")).matches("503").count(), 1);
    let streamed = answer("POST /v1/responses HTTP/1.1\r\napi-key: token\r\ncontent-length: 2\r\n\r\nhi");
    assert!(streamed.ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "{streamed}");
    for nothing in ["", "\r\n", "GET\r\n", "GET /v1/models HTTP/1.1\r\nx: y\r\n"] {
        assert_eq!(answer(nothing), "", "{nothing:?}");
    }
    for status in [401, 402, 404, 413, 418, 429, 500] {
        let line = String::from_utf8(head(status, &[])).unwrap();
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")) && line.ends_with("\r\n"), "{line}");
    }
}
