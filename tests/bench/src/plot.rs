//! A plot of frozen time against size, as plain SVG; both axes are logarithmic.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What was measured for one size.
pub struct Point {
    pub items: u32,
    pub zlm: f64,
    pub classical: Option<f64>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// An axis from one power of ten to another.
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-3).log10().floor() as i32;
        let most = values.fold(0.0, f64::max).max(1e-3).log10().ceil() as i32;
        Self { first: least, last: most.max(least + 1), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + part * (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10f64.powi(power))
    }
}

/// Writes the plot, and makes its directory.
pub fn write(path: &Path, points: &[Point]) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    fs::write(path, draw(points)).with_context(|| path.display().to_string())
}

fn draw(points: &[Point]) -> String {
    let x = Axis::of(points.iter().map(|p| f64::from(p.items)), LEFT, WIDTH - RIGHT);
    let seconds = points.iter().flat_map(|p| [Some(p.zlm), p.classical]).flatten();
    let y = Axis::of(seconds, HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">Seconds that a user is locked out, by size of the mailbox</text>\n"
    );
    let mut put = |line: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "{line}");
    };
    for power in y.powers() {
        let at = y.at(power);
        put(format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>", WIDTH - RIGHT));
        put(format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{power} s</text>", LEFT - 8.0, at + 4.0));
    }
    for power in x.powers() {
        let at = x.at(power);
        put(format!(
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
            HEIGHT - BOTTOM
        ));
        put(format!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{power}</text>", HEIGHT - BOTTOM + 18.0));
    }
    put(format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">items</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0
    ));
    let zlm: Vec<(f64, f64)> = points.iter().map(|p| (f64::from(p.items), p.zlm)).collect();
    let classical: Vec<(f64, f64)> = points.iter().filter_map(|p| Some((f64::from(p.items), p.classical?))).collect();
    for (name, color, values) in [("zlm", "#0a6", zlm), ("classical", "#c40", classical)] {
        let places: Vec<String> =
            values.iter().map(|(items, s)| format!("{:.1},{:.1}", x.at(*items), y.at(*s))).collect();
        put(format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>", places.join(" ")));
        for (items, s) in &values {
            let (cx, cy) = (x.at(*items), y.at(*s));
            put(format!(
                "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill=\"{color}\"><title>{name}, {items} items: {s:.2} s</title></circle>"
            ));
            put(format!(
                "<text x=\"{cx:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{color}\">{s:.2}</text>",
                cy - 8.0
            ));
        }
        if let Some((items, s)) = values.last() {
            put(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>",
                x.at(*items) + 22.0,
                y.at(*s) + 4.0
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_is_further_right_and_longer_is_higher() {
        let x = Axis::of([1000.0, 200_000.0].into_iter(), 70.0, 530.0);
        assert_eq!((x.first, x.last), (3, 6));
        assert_eq!(x.at(1000.0), 70.0);
        let y = Axis::of([0.4, 12.0].into_iter(), 350.0, 40.0);
        assert!(y.at(12.0) < y.at(0.4));
    }
}
