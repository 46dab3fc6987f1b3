//! The network as a picture.

use core::fmt::Write;

use alloc::string::{String, ToString};
use alloc::vec;

use super::network::Network;
use crate::error::{Error, Result};

/// The largest n and number of stages that are drawn.
pub const MOST_DRAWN: usize = 64;

/// Colour of what the highlighted input reaches.
const ACCENT: &str = "#c2410c";

impl Network {
    /// An SVG picture: levels from left to right, the coordinates downwards, a line for every link, the density of the product
    /// below each level. With `from`, everything that input reaches is highlighted. The text is the same for the same
    /// network; ink is `currentColor`, so that it fits light and dark pages.
    ///
    /// ```
    /// use papilio::{topology::Butterfly, transmission::Network};
    /// let svg = Network::new(8, &Butterfly::classic(2))?.picture("butterfly, n = 8", Some(0))?;
    /// assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Size`] for more than [`MOST_DRAWN`] coordinates or stages, [`Error::Index`] for an input `from` that does not
    /// exist.
    pub fn picture(&self, title: &str, from: Option<usize>) -> Result<String> {
        let (n, m) = (self.n, self.num_stages());
        if n > MOST_DRAWN || m > MOST_DRAWN {
            return Err(Error::Size {
                what: "picture of a network",
                expected: "at most 64 coordinates and 64 stages".to_string(),
                got: alloc::format!("n = {n} and {m} stages"),
            });
        }
        if let Some(got) = from.filter(|&from| from >= n) {
            return Err(Error::Index { what: "highlighted input", expected: n, got });
        }
        let paper = Paper::new(n, m);
        let mut svg = String::new();
        paper.draw(self, title, from, &mut svg)?;
        Ok(svg)
    }
}

/// Measures.
struct Paper {
    n: usize,
    m: usize,
    /// Distance of levels and of coordinates.
    dx: f64,
    dy: f64,
    font: f64,
}

const LEFT: f64 = 34.0;
const TOP: f64 = 58.0;

impl Paper {
    fn new(n: usize, m: usize) -> Self {
        let dy = if n <= 16 { 24.0 } else { 16.0 };
        // Steep bundles need room; many stages need to fit.
        let dx = (40.0 + 5.0 * n as f64).clamp(64.0, if m <= 12 { 150.0 } else { 80.0 });
        Self { n, m, dx, dy, font: if n <= 16 { 12.0 } else { 11.0 } }
    }

    fn x(&self, level: usize) -> f64 {
        LEFT + self.dx * level as f64
    }

    fn y(&self, i: usize) -> f64 {
        TOP + self.dy * i as f64
    }

    /// Writing to a string cannot fail, so what `write!` returns is dropped.
    fn draw(&self, network: &Network, title: &str, from: Option<usize>, svg: &mut String) -> Result<()> {
        let (width, bottom) = (self.x(self.m) + LEFT, self.y(self.n - 1) + 34.0);
        let title = escape(title);
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" style=\"max-width:100%;height:auto\" font-family=\"sans-serif\" font-size=\"{font}\" role=\"img\" \
             aria-label=\"{title}\">\n<title>{title}</title>",
            height = bottom + 12.0,
            font = self.font,
        );
        let _ = writeln!(svg, "<text x=\"8\" y=\"20\" font-size=\"14\" fill=\"currentColor\">{title}</text>");
        let mut reached = vec![false; self.n];
        from.into_iter().for_each(|from| reached[from] = true);
        let mut nodes = String::new();
        self.nodes(0, &reached, &mut nodes);
        for k in 0..self.m {
            let links = network.links(k)?;
            let mut next = vec![false; self.n];
            links.iter().filter(|(a, _)| reached[*a]).for_each(|(_, b)| next[*b] = true);
            // Highlighted links last, on top of the others.
            for highlighted in [false, true] {
                let mut path = String::new();
                for &(a, b) in links.iter().filter(|(a, _)| reached[*a] == highlighted) {
                    let _ = write!(path, "M{} {}L{} {}", self.x(k), self.y(a), self.x(k + 1), self.y(b));
                }
                if !path.is_empty() {
                    let ink = if highlighted { ACCENT } else { "currentColor" };
                    let (opacity, stroke) = match (highlighted, from) {
                        (true, _) => (0.9, 1.4),
                        (false, Some(_)) => (0.25, 0.8),
                        (false, None) => (0.6, 0.9),
                    };
                    let _ = writeln!(
                        svg,
                        "<path d=\"{path}\" fill=\"none\" stroke=\"{ink}\" stroke-opacity=\"{opacity}\" stroke-width=\"{stroke}\"/>"
                    );
                }
            }
            let (middle, label) = (self.x(k) + self.dx / 2.0, TOP - 16.0);
            self.text(middle, label, "middle", &alloc::format!("stage {k}"), svg);
            reached = next;
            self.nodes(k + 1, &reached, &mut nodes);
        }
        svg.push_str(&nodes);
        for i in 0..self.n {
            let y = self.y(i) + 0.35 * self.font;
            self.text(self.x(0) - 10.0, y, "end", &i.to_string(), svg);
            self.text(self.x(self.m) + 10.0, y, "start", &i.to_string(), svg);
        }
        for (k, density) in network.reachability()?.densities().enumerate() {
            let percent = 100.0 * density;
            let percent = if percent < 9.95 && density < 1.0 {
                alloc::format!("{percent:.1} %")
            } else {
                alloc::format!("{percent:.0} %")
            };
            self.text(self.x(k), bottom - 6.0, "middle", &percent, svg);
        }
        svg.push_str("</svg>\n");
        Ok(())
    }

    fn nodes(&self, level: usize, reached: &[bool], svg: &mut String) {
        for (i, reached) in reached.iter().enumerate() {
            let ink = if *reached { ACCENT } else { "currentColor" };
            let _ = writeln!(svg, "<circle cx=\"{}\" cy=\"{}\" r=\"3\" fill=\"{ink}\"/>", self.x(level), self.y(i));
        }
    }

    fn text(&self, x: f64, y: f64, anchor: &str, text: &str, svg: &mut String) {
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"currentColor\">{text}</text>");
    }
}

fn escape(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
