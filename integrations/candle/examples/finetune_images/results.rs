//! Finished runs in a file, which is whole after each of them.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::support::Outcome;

/// A finished run: a row of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) way: String,
    pub(crate) parameters: usize,
    pub(crate) rate: f64,
    pub(crate) split: u64,
    pub(crate) validation_loss: f64,
    pub(crate) validation_accuracy: f64,
    pub(crate) test_accuracy: f64,
    /// Of rotations.
    pub(crate) defect: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Results {
    path: PathBuf,
    runs: Vec<Run>,
}

impl Results {
    /// None yet; replaces a file.
    pub(crate) fn new(path: &Path) -> Outcome<Self> {
        let results = Self { path: path.into(), runs: Vec::new() };
        results.save()?;
        Ok(results)
    }

    /// Those of a file.
    pub(crate) fn read(path: &Path) -> Outcome<Self> {
        let named = |e: csv::Error| format!("{}: expected results of this example, got {e}", path.display());
        let runs =
            csv::Reader::from_path(path).map_err(named)?.deserialize().collect::<Result<_, _>>().map_err(named)?;
        Ok(Self { path: path.into(), runs })
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn find(&self, way: &str, rate: f64, split: u64) -> Option<&Run> {
        self.runs.iter().find(|run| run.way == way && run.rate == rate && run.split == split)
    }

    pub(crate) fn push(&mut self, run: Run) -> Outcome {
        self.runs.push(run);
        self.save()
    }

    fn save(&self) -> Outcome {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for run in &self.runs {
            writer.serialize(run)?;
        }
        let mut file = tempfile::NamedTempFile::new_in(self.path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(&writer.into_inner()?)?;
        file.persist(&self.path)?;
        Ok(())
    }
}
