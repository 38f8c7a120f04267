//! Lines and server-sent events out of a byte stream, with a bound on each line and on the whole.

use std::io::{self, Read};

/// Most bytes of one body: an answer of a million words is a fault.
pub(super) const BODY_CAP: u64 = 16 * 1024 * 1024;
/// Most bytes of one line. A server that does not stream sends a whole answer on one.
pub(super) const LINE_CAP: usize = 8 * 1024 * 1024;

/// Why no further line came.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke: a reset, an end before the announced length, a broken chunk.
    Broken(io::Error),
    /// The body or a line is over its cap.
    TooLarge(&'static str),
}

/// Reads lines of any end (LF, CRLF or CR) without keeping more than one and a buffer.
pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// The unread part of `buffer`.
    start: usize,
    /// Up to here `buffer[start..]` is known to hold no line end.
    looked: usize,
    /// The last line ended in a CR: an LF that follows belongs to it.
    after_cr: bool,
    left: u64,
    ended: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R) -> Lines<R> {
        Lines {
            reader,
            buffer: Vec::new(),
            start: 0,
            looked: 0,
            after_cr: false,
            left: BODY_CAP,
            ended: false,
        }
    }

    /// Lets a body be larger than an answer: it holds those of many calls.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.left = bytes;
    }

    /// The next line without its end; None at a clean end. A last line without an end is a line.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        loop {
            if self.after_cr
                && let Some(next) = self.buffer.get(self.start)
            {
                self.start += usize::from(*next == b'\n');
                self.looked = self.looked.max(self.start);
                self.after_cr = false;
            }
            if let Some(at) = self.buffer[self.looked..].iter().position(|byte| matches!(byte, b'\n' | b'\r'))
            {
                let (from, to) = (self.start, self.looked + at);
                self.start = to + 1;
                self.looked = self.start;
                self.after_cr = self.buffer[to] == b'\r';
                return Ok(Some(&self.buffer[from..to]));
            }
            self.looked = self.buffer.len();
            if self.ended {
                let from = std::mem::replace(&mut self.start, self.buffer.len());
                let line = &self.buffer[from..];
                return Ok((!line.is_empty()).then_some(line));
            }
            self.fill()?;
        }
    }

    /// The first bytes that are not white space, read but not taken; None if there are none.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            let rest = &self.buffer[self.start..];
            if let Some(byte) = rest.iter().find(|byte| !byte.is_ascii_whitespace()) {
                return Ok(Some(*byte));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// Passes over a byte order mark at the start, which some gateways put there.
    pub(super) fn skip_mark(&mut self) -> Result<(), Fault> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        while !self.ended
            && self.buffer.len() - self.start < MARK.len()
            && MARK.starts_with(&self.buffer[self.start..])
        {
            self.fill()?;
        }
        if self.buffer[self.start..].starts_with(MARK) {
            self.start += MARK.len();
            self.looked = self.looked.max(self.start);
        }
        Ok(())
    }

    /// All that is left, at most `cap` bytes of it, and what ended it early.
    pub(super) fn rest(&mut self, cap: usize) -> (Vec<u8>, Option<Fault>) {
        let mut fault = None;
        while !self.ended && self.buffer.len() - self.start < cap {
            if let Err(found) = self.fill() {
                fault = Some(found);
                break;
            }
        }
        let end = self.buffer.len().min(self.start.saturating_add(cap));
        let rest = self.buffer[self.start..end].to_vec();
        self.start = self.buffer.len();
        self.looked = self.start;
        (rest, fault)
    }

    fn fill(&mut self) -> Result<(), Fault> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.looked -= self.start;
            self.start = 0;
        }
        if self.buffer.len() > LINE_CAP {
            return Err(Fault::TooLarge("a line"));
        }
        let have = self.buffer.len();
        self.buffer.resize(have + (4096.max(have / 2)).min(256 * 1024), 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[have..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.ended = true,
            Ok(read) if read as u64 > self.left => return Err(Fault::TooLarge("the answer")),
            Ok(read) => self.left -= read as u64,
            Err(error) => return Err(Fault::Broken(error)),
        }
        Ok(())
    }
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Event {
    /// Its `event:` field; empty if there is none.
    pub name: String,
    /// Its `data:` lines, joined by line ends.
    pub data: Vec<u8>,
}

impl Event {
    /// Reads the next event that has data into `self`; false at a clean end. Comments, other fields and
    /// events without data are passed over. An event that the end cuts short of its empty line counts:
    /// what it holds must prove itself anyway.
    pub(super) fn read<R: Read>(&mut self, lines: &mut Lines<R>) -> Result<bool, Fault> {
        self.name.clear();
        self.data.clear();
        let mut any = false;
        while let Some(line) = lines.next()? {
            if line.is_empty() {
                if any {
                    return Ok(true);
                }
                self.name.clear();
                continue;
            }
            let (field, value) = match line.iter().position(|byte| *byte == b':') {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (line, &b""[..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => {
                    if any {
                        self.data.push(b'\n');
                    }
                    any = true;
                    if self.data.len() + value.len() > LINE_CAP {
                        return Err(Fault::TooLarge("an event"));
                    }
                    self.data.extend_from_slice(value);
                }
                b"event" => {
                    self.name = String::from_utf8_lossy(value).into_owned();
                }
                _ => {}
            }
        }
        Ok(any)
    }
}

/// Hands out its bytes a few at a time, so that every line is cut somewhere.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// The events in some bytes that come so many at a time, by name and data. For tests and fuzzing.
#[doc(hidden)]
pub fn events_of(bytes: &[u8], step: usize) -> Vec<(String, Vec<u8>)> {
    let mut lines = Lines::new(Drip(bytes, step));
    let mut event = Event::default();
    let mut all = Vec::new();
    while event.read(&mut lines).is_ok_and(|more| more) {
        all.push((event.name.clone(), event.data.clone()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_they_are_cut() {
        for (text, wanted) in [
            ("data: a\n\ndata: b\n\n", vec![("", "a"), ("", "b")]),
            ("data:a\r\n\r\n:\r\n\r\ndata:  b\r\n\r\n", vec![("", "a"), ("", " b")]),
            ("event: x\ndata: a\ndata: b\n\n", vec![("x", "a\nb")]),
            ("event: ping\n\ndata: a\n\n", vec![("", "a")]),
            (": OPENROUTER PROCESSING\n\nid: 1\nretry: 5\ndata: a\n\n", vec![("", "a")]),
            ("data: a\r\rdata: b\rdata:\r\r\r", vec![("", "a"), ("", "b\n")]),
            ("data: a\r\n\rdata: b\n\r\n", vec![("", "a"), ("", "b")]),
            ("data: a", vec![("", "a")]),
            ("data\n\n", vec![("", "")]),
            ("", vec![]),
            ("\n\n:\n\n", vec![]),
        ] {
            let wanted: Vec<_> = wanted.into_iter().map(|(a, b)| (a.to_owned(), b.into())).collect();
            for step in 1..8 {
                assert_eq!(events_of(text.as_bytes(), step), wanted, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn lines_are_bounded() {
        let mut lines = Lines::new(io::repeat(b'x'));
        assert!(matches!(lines.next(), Err(Fault::TooLarge(_))));
        let mut lines = Lines::new(io::repeat(b'\n'));
        let mut count = 0u64;
        let fault = loop {
            match lines.next() {
                Ok(_) => count += 1,
                Err(fault) => break fault,
            }
        };
        assert!(matches!(fault, Fault::TooLarge(_)));
        assert!(count <= BODY_CAP);
    }

    #[test]
    fn peek_takes_nothing() {
        let mut lines = Lines::new(Drip(b" \n {\"a\"\n}", 2));
        assert_eq!(lines.peek().unwrap(), Some(b'{'));
        assert_eq!(lines.rest(100).0, b" \n {\"a\"\n}");
        assert_eq!(Lines::new(Drip(b"  ", 1)).peek().unwrap(), None);
        for (text, first) in
            [(&b"\xef\xbb\xbfa\n"[..], Some(b'a')), (b"\xefa", Some(0xef)), (b"a", Some(b'a')), (b"", None)]
        {
            let mut lines = Lines::new(Drip(text, 1));
            lines.skip_mark().unwrap();
            assert_eq!(lines.peek().unwrap(), first, "{text:?}");
        }
    }
}
