//! What is printed: tables, numbers, messages.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use serde::Serialize;

/// A table with a header line; the first column is text, the others are numbers and set to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(String::from).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(printable).collect());
    }

    /// One line for each row.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let widths: Vec<usize> =
            (0..columns).map(|c| self.rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (c, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width - cell.chars().count());
                match c {
                    0 => text += &format!("{cell}{padding}"),
                    _ => text += &format!("  {padding}{cell}"),
                }
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// The same for documents.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.rows[0]);
        text += &format!("|---{}|\n", "|--:".repeat(self.rows[0].len() - 1));
        text += &self.rows[1..].iter().map(|row| line(row)).collect::<String>();
        text
    }
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {e}")),
        _ => Ok(()),
    }
}

/// Prints one JSON object.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), String> {
    let json = serde_json::to_string(value).map_err(|e| format!("JSON output: {e}"))?;
    print(&format!("{json}\n"))
}

/// Prints a message to standard error, if anyone listens.
pub(crate) fn complain(kind: &str, message: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{kind}: {}", printable(message));
}

/// Text from a file or a path, fit for a terminal: control characters, which could move the cursor or rename the window,
/// become their escapes (`\u{1b}`).
pub(crate) fn printable(text: impl Display) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.to_string().chars().map(escape).collect()
}

/// A number with four digits, in the shorter notation.
pub(crate) fn number(x: f64) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x) { format!("{x:.4}") } else { format!("{x:.3e}") }
}

/// A duration given in seconds.
pub(crate) fn seconds(s: f64) -> String {
    match s {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// 1 layer, 2 layers.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// `[2, 3]` as 2×3.
pub(crate) fn shape(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "scalar".into();
    }
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}
