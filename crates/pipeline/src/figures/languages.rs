//! Names of months and days of the week in the languages that dates are read in.

/// The months of a language in one form of theirs, and its days of the week from Monday on.
#[derive(Debug)]
pub(super) struct Row {
    /// What the language is called: in English, by itself, by its codes.
    called: &'static [&'static str],
    pub months: [&'static str; 12],
    pub days: [&'static str; 7],
}

const ENGLISH: &[&str] = &["english", "en"];
const POLISH: &[&str] = &["polish", "polski", "pl"];
const POLISH_DAYS: [&str; 7] =
    ["poniedziałek", "wtorek", "środa", "czwartek", "piątek", "sobota", "niedziela"];

/// One line a language and form; where a name is in several, the first one counts.
#[rustfmt::skip]
pub(super) const ROWS: [Row; 15] = [
    Row { called: ENGLISH, months: ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"], days: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] },
    Row { called: ENGLISH, months: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], days: ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] },
    Row { called: ENGLISH, months: ["Jan", "Feb", "Mar", "Apr", "May", "June", "July", "Aug", "Sept", "Oct", "Nov", "Dec"], days: ["Mon", "Tues", "Wed", "Thurs", "Fri", "Sat", "Sun"] },
    Row { called: &["german", "deutsch", "de"], months: ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"], days: ["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"] },
    Row { called: &["french", "français", "francais", "fr"], months: ["janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"], days: ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"] },
    Row { called: &["spanish", "español", "espanol", "castellano", "es"], months: ["enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"], days: ["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"] },
    Row { called: &["italian", "italiano", "it"], months: ["gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre"], days: ["lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"] },
    Row { called: &["portuguese", "português", "portugues", "pt"], months: ["janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro", "outubro", "novembro", "dezembro"], days: ["segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo"] },
    Row { called: &["dutch", "nederlands", "flemish", "nl"], months: ["januari", "februari", "maart", "april", "mei", "juni", "juli", "augustus", "september", "oktober", "november", "december"], days: ["maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"] },
    Row { called: &["danish", "dansk", "da"], months: ["januar", "februar", "marts", "april", "maj", "juni", "juli", "august", "september", "oktober", "november", "december"], days: ["mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag"] },
    Row { called: &["swedish", "svenska", "sv"], months: ["januari", "februari", "mars", "april", "maj", "juni", "juli", "augusti", "september", "oktober", "november", "december"], days: ["måndag", "tisdag", "onsdag", "torsdag", "fredag", "lördag", "söndag"] },
    Row { called: &["norwegian", "norsk", "bokmål", "nynorsk", "no", "nb"], months: ["januar", "februar", "mars", "april", "mai", "juni", "juli", "august", "september", "oktober", "november", "desember"], days: ["mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag"] },
    // A day of a month is in the genitive, a month is not, and after `w` it is in the locative.
    Row { called: POLISH, months: ["stycznia", "lutego", "marca", "kwietnia", "maja", "czerwca", "lipca", "sierpnia", "września", "października", "listopada", "grudnia"], days: POLISH_DAYS },
    Row { called: POLISH, months: ["styczeń", "luty", "marzec", "kwiecień", "maj", "czerwiec", "lipiec", "sierpień", "wrzesień", "październik", "listopad", "grudzień"], days: POLISH_DAYS },
    Row { called: POLISH, months: ["styczniu", "lutym", "marcu", "kwietniu", "maju", "czerwcu", "lipcu", "sierpniu", "wrześniu", "październiku", "listopadzie", "grudniu"], days: POLISH_DAYS },
];

impl Row {
    /// Whether a name is written so. In English it has a capital (`may 2027` is no month), elsewhere it may have one.
    fn is(&self, name: &str, written: &str) -> bool {
        name == written || self.called != ENGLISH && name.to_lowercase() == written.to_lowercase()
    }
}

/// The languages that a text may be written in: English, and the one that is named. All of them if none is, or if it is
/// not in the table.
#[derive(Debug, Clone)]
pub(super) struct Languages {
    of: Vec<&'static Row>,
}

impl Languages {
    pub fn new(named: Option<&str>) -> Languages {
        let named = named.unwrap_or_default().to_lowercase();
        let is_it =
            |row: &&Row| named.split(|c: char| !c.is_alphabetic()).any(|word| row.called.contains(&word));
        let mut of: Vec<&Row> = ROWS.iter().filter(is_it).collect();
        if of.is_empty() {
            of = ROWS.iter().collect();
        } else if of[0].called != ENGLISH {
            of.extend(ROWS.iter().filter(|row| row.called == ENGLISH));
        }
        Languages { of }
    }

    /// The line that has this month, and its number from 1.
    pub fn month(&self, name: &str) -> Option<(&'static Row, i8)> {
        self.of.iter().find_map(|row| {
            let at = row.months.iter().position(|month| row.is(month, name))?;
            Some((*row, i8::try_from(at + 1).ok()?))
        })
    }

    /// The line that has this day of the week, and its number from 0.
    pub fn day(&self, name: &str) -> Option<(&'static Row, usize)> {
        self.of.iter().find_map(|row| {
            let at = row.days.iter().position(|day| row.is(day, name))?;
            Some((*row, at))
        })
    }

    /// Whether one of these is read, of names as [`Row`] has them.
    pub fn has(&self, called: &str) -> bool {
        self.of.iter().any(|row| row.called.contains(&called))
    }
}

/// A name with a capital if `like` has one.
pub(super) fn cased(name: &str, like: &str) -> String {
    let is_capital = like.chars().next().is_some_and(char::is_uppercase);
    let mut rest = name.chars();
    match rest.next() {
        Some(first) if is_capital => first.to_uppercase().chain(rest).collect(),
        Some(first) if name != name.to_lowercase() => first.to_lowercase().chain(rest).collect(),
        _ => name.to_owned(),
    }
}
