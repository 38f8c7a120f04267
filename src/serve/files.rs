//! The files of the page. They are part of the program; none is read from disk.

use super::http::Answer;

/// The file at a path.
pub(super) fn find(path: &str) -> Option<Answer> {
    let (kind, text) = match path {
        "/" => ("text/html", include_str!("page/index.html").to_owned()),
        "/app.css" => (
            "text/css",
            [
                planexe_ui::page::TONES,
                planexe_ui::page::COMMON,
                include_str!("page/app.css"),
                planexe_ui::page::PICTURES,
            ]
            .concat(),
        ),
        "/app.js" => ("text/javascript", include_str!("page/app.js").to_owned()),
        "/dom.js" => ("text/javascript", include_str!("page/dom.js").to_owned()),
        "/views.js" => ("text/javascript", include_str!("page/views.js").to_owned()),
        "/pan.js" => ("text/javascript", include_str!("page/pan.js").to_owned()),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg").to_owned()),
        _ => return None,
    };
    Some(Answer::text(200, kind, text))
}
