//! Texts from files, and their tokens.

use std::path::Path;

use papilio::generator::Generator;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PostProcessor, Tokenizer, TruncationParams};

use super::Sentences;
use crate::error::{Result, input};

/// The tokenizer of a model.
#[derive(Debug, Clone)]
pub struct Tokens {
    tokenizer: Tokenizer,
}

impl Tokens {
    /// Reads `tokenizer.json` of a model's directory.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming the file.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let shown = path.display().to_string();
        let text = std::fs::read(&path).or_else(|e| input(shown.clone(), "a readable file", e))?;
        Self::from_json(&text, &shown)
    }

    /// Of the bytes of a `tokenizer.json`; `shown` stands for it in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_json(text: &[u8], shown: &str) -> Result<Self> {
        match Tokenizer::from_bytes(text) {
            Ok(tokenizer) => Ok(Self { tokenizer }),
            Err(e) => input(shown, "a tokenizer", e),
        }
    }

    /// Tokens of a sentence, at most `longest`, with what the model wants around it.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) with the tokenizer's words, and for a length that has no room for anything.
    pub fn sentence(&self, text: &str, longest: usize) -> Result<Vec<u32>> {
        tokens(&self.shortened(Some(longest))?, text)
    }

    /// Tokens of sentences and their classes.
    ///
    /// # Errors
    /// As [`sentence`](Self::sentence), and for a sentence without tokens.
    pub fn sentences(&self, texts: &Labelled, longest: usize) -> Result<Sentences> {
        let tokenizer = self.shortened(Some(longest))?;
        let ids = texts.rows.iter().map(|(text, _)| tokens(&tokenizer, text)).collect::<Result<_>>()?;
        Sentences::new(ids, texts.rows.iter().map(|(_, class)| *class).collect())
    }

    /// Tokens of a whole text.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) with the tokenizer's words.
    pub fn text(&self, text: &str) -> Result<Vec<u32>> {
        tokens(&self.shortened(None)?, text)
    }

    /// Without padding, and without truncation or with this one.
    fn shortened(&self, longest: Option<usize>) -> Result<Tokenizer> {
        let mut tokenizer = self.tokenizer.clone();
        tokenizer.with_padding(None);
        let around = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if let Some(longest) = longest.filter(|longest| *longest <= around) {
            return input("longest sentence", format!("more than the {around} tokens around it"), longest);
        }
        let truncation = longest.map(|max_length| TruncationParams { max_length, ..TruncationParams::default() });
        match tokenizer.with_truncation(truncation) {
            Ok(_) => Ok(tokenizer),
            Err(e) => input("tokenizer", "one that can be set to a length", e),
        }
    }
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    match tokenizer.encode(text, true) {
        Ok(encoding) => Ok(encoding.get_ids().to_vec()),
        Err(e) => input("text", "one that the tokenizer takes", e),
    }
}

/// Texts with classes, and the names of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Each text with its class.
    pub rows: Vec<(String, u32)>,
    /// Names of classes, sorted.
    pub labels: Vec<String>,
}

impl Labelled {
    /// Reads a CSV file with a header: the columns `text` and `label`; the first two if it has neither.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) naming file and line: not readable, no two columns, only one of these names, an empty text or label, one class only.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let mut reader = csv::Reader::from_path(path).or_else(|e| input(shown.clone(), "a readable CSV file", e))?;
        let header = reader.headers().or_else(|e| input(shown.clone(), "a header", e))?;
        let column = |name: &str| header.iter().position(|h| h.trim() == name);
        let (text, label) = match (column("text"), column("label")) {
            (Some(text), Some(label)) => (text, label),
            (None, None) if header.len() >= 2 => (0, 1),
            _ => return input(shown, "columns `text` and `label`", header.iter().collect::<Vec<_>>().join(", ")),
        };
        let mut pairs = Vec::new();
        for (row, record) in reader.records().enumerate() {
            let record = record.or_else(|e| input(shown.clone(), "CSV", e))?;
            let field = |column: usize| record.get(column).map(str::trim).filter(|field| !field.is_empty());
            match (field(text), field(label)) {
                (Some(text), Some(label)) => pairs.push((text.to_string(), label.to_string())),
                _ => return input(format!("{shown}, row {}", row + 1), "a text and a label", "an empty field"),
            }
        }
        let labelled = Self::new(pairs);
        match labelled.labels.len() {
            0 | 1 => input(shown, "at least two different labels", labelled.labels.len()),
            _ => Ok(labelled),
        }
    }

    /// Texts with the names of their classes.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        let mut labels: Vec<String> = pairs.iter().map(|(_, label)| label.clone()).collect();
        labels.sort();
        labels.dedup();
        let class = |label: &String| labels.binary_search(label).unwrap_or_default() as u32;
        let rows = pairs.into_iter().map(|(text, label)| (text, class(&label))).collect();
        Self { rows, labels }
    }

    /// Shuffles, and takes a share of the texts apart.
    pub fn split(mut self, share: f64, seed: u64) -> (Self, Self) {
        Generator::new(seed).shuffle(&mut self.rows);
        let kept = self.rows.len() - ((self.rows.len() as f64 * share) as usize).min(self.rows.len());
        let rows = self.rows.split_off(kept);
        let labels = self.labels.clone();
        (self, Self { rows, labels })
    }
}

/// A tokenizer of bytes, for small models made on the spot: `[PAD]`, `[CLS]`, `[SEP]`, then the 256 bytes. Sentences get `[CLS]` and
/// `[SEP]` around them if `wrapped`. It is the text of a `tokenizer.json`.
///
/// # Errors
/// [`Error::Input`](crate::Error::Input) with the words of `tokenizers`.
pub fn byte_tokenizer(wrapped: bool) -> Result<String> {
    let build = || -> tokenizers::Result<String> {
        const SPECIAL: [&str; 3] = ["[PAD]", "[CLS]", "[SEP]"];
        let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        bytes.sort_unstable();
        let names = SPECIAL.iter().map(|s| s.to_string()).chain(bytes.iter().map(char::to_string));
        let mut vocabulary = Vocab::default();
        vocabulary.extend(names.zip(0u32..));
        let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocabulary, Vec::new()).build()?);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        tokenizer.add_special_tokens(SPECIAL.map(|s| AddedToken::from(s, true)))?;
        if wrapped {
            let mut template = TemplateProcessing::builder();
            template.try_single("[CLS] $A [SEP]")?;
            let special = SPECIAL[1..].iter().zip(1u32..).map(|(s, id)| (s.to_string(), id)).collect::<Vec<_>>();
            tokenizer.with_post_processor(Some(template.special_tokens(special).build()?));
        }
        tokenizer.to_string(true)
    };
    build().or_else(|e| input("byte tokenizer", "one that can be built", e))
}
