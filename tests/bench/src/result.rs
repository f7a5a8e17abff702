//! Numbers of several rounds, and how they are printed.

use anyhow::{Context, Result};
use serde::Serialize;

/// The same thing measured several times.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    pub fn add(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one; of an even number the lower of the two.
    pub fn median(&self) -> Result<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len().checked_sub(1).context("nothing was measured")? / 2;
        Ok((sorted[middle] * 1e4).round() / 1e4)
    }

    /// The least.
    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// For a table: the median, the least, and how many.
    pub fn told(&self) -> String {
        match self.median() {
            Ok(median) => format!("{median:.3} (least {:.3}, n={})", self.least(), self.0.len()),
            Err(_) => "-".into(),
        }
    }
}

/// How results are printed.
pub struct Print {
    /// As JSON.
    pub json: bool,
}

impl Print {
    /// A result: its line of JSON, or its line of the table.
    pub fn result(&self, result: &impl Serialize, line: &str) -> Result<()> {
        match self.json {
            true => println!("{}", serde_json::to_string(result)?),
            false => println!("{line}"),
        }
        Ok(())
    }
}

/// Says on stderr what is going on.
pub fn note(text: impl std::fmt::Display) {
    eprintln!("# {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_least() {
        let mut times = Times::default();
        assert!(times.median().is_err());
        for seconds in [3.0, 1.0, 2.0, 9.0] {
            times.add(seconds);
        }
        assert_eq!((times.median().unwrap(), times.least()), (2.0, 1.0));
    }
}
