//! Images and PDFs that go with a prompt: what they are by their first bytes, what they cost about, how each dialect is
//! given them, and what it does not take.
//!
//! | dialect | images | PDFs | limits, by the vendors' documentation |
//! |---|---|---|---|
//! | `openai` | PNG, JPEG, GIF, WebP | yes | 50 MB of a request, 500 images |
//! | `anthropic` | PNG, JPEG, GIF, WebP | yes | 5 MB an image as sent, 100 images, 32 MB of a request |
//! | `ollama` | PNG, JPEG, WebP | no | none; 50 MB here |
//! | `command` and agents | no | no | |

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::config::Api;
use crate::{CallError, Class};
use planexe_base::message::Message;
use planexe_base::record::Digest;

const MB: usize = 1 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `image/png`
    Png,
    /// `image/jpeg`
    Jpeg,
    /// `image/gif`
    Gif,
    /// `image/webp`
    Webp,
    /// `application/pdf`
    Pdf,
}

impl Media {
    /// By the first bytes; a name says nothing.
    pub fn of(bytes: &[u8]) -> Option<Media> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Media::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Media::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Media::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Media::Webp),
            [b'%', b'P', b'D', b'F', b'-', ..] => Some(Media::Pdf),
            _ => None,
        }
    }

    /// The media type.
    pub fn name(self) -> &'static str {
        match self {
            Media::Png => "image/png",
            Media::Jpeg => "image/jpeg",
            Media::Gif => "image/gif",
            Media::Webp => "image/webp",
            Media::Pdf => "application/pdf",
        }
    }
}

/// A file that goes with a prompt.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its path, relative to the run.
    pub path: String,
    /// What it is.
    pub media: Media,
    /// Its content.
    pub bytes: Arc<[u8]>,
    /// The digest of its content.
    pub digest: Digest,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {} bytes)", self.path, self.media.name(), self.bytes.len())
    }
}

impl Attachment {
    /// About how many tokens it is: of an image a pixel in 750, at most 1,600, as Anthropic counts and others come near; of
    /// a PDF 2,500 a page, by the pages that can be seen without unpacking it.
    pub fn tokens(&self) -> u64 {
        const MOST: u64 = 1_600;
        const PAGE: u64 = 2_500;
        if self.media == Media::Pdf {
            return pages(&self.bytes) * PAGE;
        }
        size(self.media, &self.bytes).map_or(MOST, |(width, height)| (width * height / 750).clamp(85, MOST))
    }

    fn base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    fn encoded(&self) -> usize {
        self.bytes.len().div_ceil(3) * 4
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Tokens of some attachments, about.
pub fn tokens(files: &[Attachment]) -> u64 {
    files.iter().map(Attachment::tokens).sum()
}

/// Pages that a PDF names openly; what is packed is reckoned by its size.
fn pages(bytes: &[u8]) -> u64 {
    const NAME: &[u8] = b"/Type";
    let open = bytes.windows(NAME.len() + 7).filter(|window| {
        let Some(rest) = window.strip_prefix(NAME) else { return false };
        let rest = rest.trim_ascii_start();
        rest.strip_prefix(b"/Page").is_some_and(|after| !after.first().is_some_and(u8::is_ascii_alphabetic))
    });
    (open.count() as u64).max(bytes.len() as u64 / 100_000).max(1)
}

/// Width and height of an image, where its head tells.
fn size(media: Media, bytes: &[u8]) -> Option<(u64, u64)> {
    let big = |at: usize, len: usize| {
        Some(bytes.get(at..at + len)?.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    let little = |at: usize| Some(u64::from(*bytes.get(at)?) | (u64::from(*bytes.get(at + 1)?) << 8));
    match media {
        Media::Png => Some((big(16, 4)?, big(20, 4)?)),
        Media::Gif => Some((little(6)?, little(8)?)),
        Media::Webp if bytes.get(12..16)? == b"VP8X" => {
            let side = |at: usize| Some((little(at)? | (u64::from(*bytes.get(at + 2)?) << 16)) + 1);
            Some((side(24)?, side(27)?))
        }
        Media::Jpeg => {
            let mut at = 2;
            // Segments, until one that begins a frame.
            loop {
                let (mark, kind) = (bytes.get(at)?, *bytes.get(at + 1)?);
                if *mark != 0xff {
                    return None;
                }
                if matches!(kind, 0xc0..=0xcf) && !matches!(kind, 0xc4 | 0xc8 | 0xcc) {
                    return Some((big(at + 7, 2)?, big(at + 5, 2)?));
                }
                at += 2 + big(at + 2, 2)?.max(2) as usize;
            }
        }
        Media::Webp | Media::Pdf => None,
    }
}

/// Why a dialect does not take some files. Told before anything is sent.
pub fn refuse(api: Api, files: &[Attachment]) -> Result<(), CallError> {
    let refused = |what: String, hint: &str| {
        Err(CallError::new(
            Class::BadRequest,
            Message::new(format!("{what}: not sent")).hint(hint.to_owned()),
        ))
    };
    if files.is_empty() {
        return Ok(());
    }
    let (each, all, most) = match api {
        Api::Anthropic => (5 * MB, 32 * MB, 100),
        Api::Openai | Api::Ollama => (50 * MB, 50 * MB, 500),
        Api::Recorded | Api::Simulated => return Ok(()),
        Api::Command | Api::Claude | Api::Codex | Api::Gemini => {
            let hint = "name a model of `openai`, `anthropic` or `ollama`";
            return refused(format!("a model of `api = \"{}\"` takes no files", api.name()), hint);
        }
    };
    for file in files {
        let unknown = api == Api::Ollama && matches!(file.media, Media::Pdf | Media::Gif);
        if unknown {
            let what = format!("`{}` is {}, which `ollama` does not take", file.path, file.media.name());
            return refused(what, "turn its pages into PNG images first");
        }
        if file.media != Media::Pdf && file.encoded() > each {
            let what = format!(
                "`{}` is {:.1} MB as it is sent, and an image may have {}",
                file.path,
                file.encoded() as f64 / MB as f64,
                each / MB
            );
            return refused(what, "make it smaller");
        }
    }
    let total: usize = files.iter().map(Attachment::encoded).sum();
    if total > all || files.len() > most {
        let what = format!(
            "{} files of {:.1} MB as they are sent, and a request may have {most} of {} MB",
            files.len(),
            total as f64 / MB as f64,
            all / MB
        );
        return refused(what, "attach fewer, or run a task for each with `foreach`");
    }
    Ok(())
}

/// The content of a message in OpenAI's words: the files, then the text. Without files it is the text alone.
pub(crate) fn openai(files: &[Attachment], text: &str) -> Value {
    with_text(files, text, |file| {
        let data = format!("data:{};base64,{}", file.media.name(), file.base64());
        match file.media {
            Media::Pdf => json!({ "type": "file", "file": { "filename": file.name(), "file_data": data } }),
            _ => json!({ "type": "image_url", "image_url": { "url": data } }),
        }
    })
}

/// The same in Anthropic's.
pub(crate) fn anthropic(files: &[Attachment], text: &str) -> Value {
    with_text(files, text, anthropic_block)
}

/// The same before a text in parts.
pub(crate) fn anthropic_before(files: &[Attachment], parts: Vec<Value>) -> Value {
    files.iter().map(anthropic_block).chain(parts).collect()
}

fn anthropic_block(file: &Attachment) -> Value {
    let kind = if file.media == Media::Pdf { "document" } else { "image" };
    let source = json!({ "type": "base64", "media_type": file.media.name(), "data": file.base64() });
    json!({ "type": kind, "source": source })
}

/// Images as Ollama wants them, beside the text.
pub(crate) fn ollama(files: &[Attachment]) -> Value {
    files.iter().map(Attachment::base64).collect()
}

fn with_text(files: &[Attachment], text: &str, part: impl Fn(&Attachment) -> Value) -> Value {
    if files.is_empty() {
        return Value::from(text);
    }
    files.iter().map(part).chain([json!({ "type": "text", "text": text })]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> Attachment {
        Attachment {
            path: "pictures/a.bin".into(),
            media: Media::of(bytes).expect("a known kind"),
            bytes: bytes.into(),
            digest: Digest::of(bytes),
        }
    }

    fn png(width: u32, height: u32, more: usize) -> Attachment {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.resize(bytes.len() + more, 0);
        file(&bytes)
    }

    #[test]
    fn the_first_bytes_say_what_a_file_is() {
        for (bytes, wanted) in [
            (&b"\x89PNG\r\n\x1a\n"[..], Some(Media::Png)),
            (b"\xff\xd8\xff\xe0", Some(Media::Jpeg)),
            (b"GIF89a", Some(Media::Gif)),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some(Media::Webp)),
            (b"%PDF-1.7", Some(Media::Pdf)),
            (b"<svg", None),
            (b"", None),
            (b"RIFF\0\0\0\0WAVE", None),
        ] {
            assert_eq!(Media::of(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn tokens_go_by_pixels_and_pages() {
        assert_eq!(png(750, 100, 0).tokens(), 100);
        assert_eq!((png(9000, 9000, 0).tokens(), png(1, 1, 0).tokens()), (1_600, 85));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04xx\xff\xc0\0\x11\x08\x01\x2c\x01\xf4";
        assert_eq!(file(jpeg).tokens(), 500 * 300 / 750);
        let pdf = file(b"%PDF-1.7 <</Type /Pages>> <</Type /Page >> <</Type/Page/x>> some more");
        assert_eq!(pdf.tokens(), 5_000);
        // Heads that are cut short, or lie.
        for bytes in [&b"\xff\xd8\xff"[..], b"\xff\xd8\xff\xe0\0\0", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X"] {
            assert_eq!(file(bytes).tokens(), 1_600, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_too_large_or_unknown_there_is_refused() {
        let class = |api, files: &[Attachment]| refuse(api, files).err().map(|error| error.message.text);
        let large = png(1, 1, 4 * MB);
        assert_eq!(class(Api::Openai, std::slice::from_ref(&large)), None);
        assert!(class(Api::Anthropic, &[large]).is_some_and(|text| text.contains("5.3 MB")));
        let pdf = file(b"%PDF-1.7");
        assert!(
            class(Api::Ollama, std::slice::from_ref(&pdf))
                .is_some_and(|text| text.contains("application/pdf"))
        );
        assert_eq!(class(Api::Anthropic, std::slice::from_ref(&pdf)), None);
        assert!(
            class(Api::Anthropic, &vec![pdf.clone(); 101]).is_some_and(|text| text.contains("101 files"))
        );
        assert!(class(Api::Command, &[pdf]).is_some() && class(Api::Command, &[]).is_none());
    }

    #[test]
    fn a_prompt_without_files_is_the_text_it_was() {
        assert_eq!((openai(&[], "x"), anthropic(&[], "x")), (json!("x"), json!("x")));
        let files = [png(1, 1, 0), file(b"%PDF-1.7")];
        let said = openai(&files, "x");
        assert_eq!((&said[0]["type"], &said[1]["file"]["filename"]), (&json!("image_url"), &json!("a.bin")));
        let said = anthropic(&files, "x");
        assert_eq!((&said[1]["type"], &said[2]["text"]), (&json!("document"), &json!("x")));
    }
}
