//! The files of an experiment, in a folder of its own. All of it can be made anew from the trials' own records, so each
//! is written as a whole, after each round.

use std::path::{Path, PathBuf};

use crate::records::{Config, PairLine, RunLine, SCHEMA, ScoreLine, Trialled};
use crate::results::{ResultRow, decision, read_tsv, tsv, with_promotion};
use planexe_base::fs::{self, Durability, FsError};
use planexe_store::jsonl;

/// The folder of an experiment.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder.
    pub dir: PathBuf,
}

impl Folder {
    /// The experiment of an id, among those of a task.
    pub fn new(experiments: &Path, id: &str) -> Folder {
        Folder { dir: experiments.join(id) }
    }

    /// What was compared, if it can be read.
    pub fn config(&self) -> Option<Config> {
        let bytes = fs::read_optional(&self.dir.join("config.json")).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// The table of results.
    pub fn results(&self) -> Vec<ResultRow> {
        let text = fs::read_to_string(&self.dir.join("results.tsv")).unwrap_or_default();
        read_tsv(&text)
    }

    /// Writes all files, `config.json` last: what it names is there.
    pub fn write(
        &self,
        config: &Config,
        trials: &[Trialled],
        pairs: &[PairLine],
        rows: &[ResultRow],
    ) -> Result<(), FsError> {
        fs::make_dirs(&self.dir, Durability::Synced)?;
        let runs: Vec<RunLine> = trials.iter().map(run_line).collect();
        let scores: Vec<ScoreLine> = trials.iter().map(score_line).collect();
        let config_text = serde_json::to_string_pretty(config).unwrap_or_default() + "\n";
        for (name, bytes) in [
            ("runs.jsonl", jsonl::to_lines(&runs)),
            ("scores.jsonl", jsonl::to_lines(&scores)),
            ("pairs.jsonl", jsonl::to_lines(pairs)),
            ("results.tsv", tsv(rows).into_bytes()),
            ("decision.md", decision(config, trials, rows).into_bytes()),
            ("config.json", config_text.into_bytes()),
        ] {
            let path = self.dir.join(name);
            // Where no judge compares there are no pairs.
            let is_new = fs::read_optional(&path)?.map_or(!bytes.is_empty(), |former| former != bytes);
            if is_new {
                fs::write_atomic(&path, &bytes, Durability::Synced)?;
            }
        }
        Ok(())
    }

    /// Notes which text was promoted: in `decision.md` for people, and in `config.json`.
    pub fn write_promotion(&self, config: &Config) -> Result<(), FsError> {
        let page = self.dir.join("decision.md");
        if let Some(text) = fs::read_optional(&page)? {
            let text = with_promotion(&String::from_utf8_lossy(&text), config);
            fs::write_atomic(&page, text.as_bytes(), Durability::Synced)?;
        }
        let text = serde_json::to_string_pretty(config).unwrap_or_default() + "\n";
        fs::write_atomic(&self.dir.join("config.json"), text.as_bytes(), Durability::Synced)
    }
}

fn run_line(Trialled { cell, variant, became }: &Trialled) -> RunLine {
    RunLine {
        schema: SCHEMA,
        cell: cell.id.clone(),
        variant: variant.clone(),
        blake3: cell.variant.clone(),
        model: cell.model.clone(),
        run: cell.run.clone(),
        sample: cell.sample,
        answer: became.answer.clone(),
        folder: cell.folder(),
        input_tokens: became.input_tokens,
        output_tokens: became.output_tokens,
        cost_usd: became.cost_usd,
        calls: became.calls,
        seconds: became.seconds,
        class: became.class.clone(),
        message: became.message.clone(),
    }
}

fn score_line(Trialled { cell, variant, became }: &Trialled) -> ScoreLine {
    ScoreLine {
        schema: SCHEMA,
        cell: cell.id.clone(),
        variant: variant.clone(),
        model: cell.model.clone(),
        run: cell.run.clone(),
        sample: cell.sample,
        score: became.score,
        notes: became.notes.clone(),
    }
}
