//! Just enough of Rust's lexical rules to tell code from comments and strings.

/// A word, `::`, a punctuation mark, or `""` for any literal text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// Cuts Rust into tokens; comments and lifetimes vanish.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (text, len) = if rest.starts_with("//") {
            ("", rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            ("", comment(rest))
        } else if let Some(len) = literal(rest) {
            ("\"\"", len)
        } else if first == '\'' {
            ("", 1) // of a lifetime: its name is a harmless word
        } else if word > 0 {
            (&rest[..word], word)
        } else if rest.starts_with("::") {
            ("::", 2)
        } else {
            (rest[..first.len_utf8()].trim(), first.len_utf8())
        };
        if !text.is_empty() {
            tokens.push(Token { text, line });
        }
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    tokens
}

/// Length of the block comment that starts here; they nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string, raw string or character that starts here, if one does.
fn literal(text: &str) -> Option<usize> {
    let open = text.trim_start_matches(['b', 'c']);
    if let Some(raw) = open.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let start = text.len() - raw.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            return Some(text[start..].find(&close).map_or(text.len(), |at| start + at + close.len()));
        }
    }
    let prefix = text.len() - open.len();
    let quote = open.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    let mut characters = open.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            c if c == quote => return Some(prefix + at + 1),
            // 'x' is a character, 'x… a lifetime
            _ if quote == '\'' && at == 1 && !open[1 + c.len_utf8()..].starts_with('\'') => return None,
            _ => {}
        }
    }
    Some(text.len())
}
