//! What is seen of the service from outside: memory, processor time, and how long tokens took.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::service::Client;

/// Bytes of a page of memory on the systems this runs on.
const PAGE_BYTES: u64 = 4096;

/// The service's process.
#[derive(Debug)]
pub(super) struct Process {
    folder: PathBuf,
}

/// Sums at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    tokens: f64,
    cpu_ns: u64,
}

impl Process {
    pub(super) fn new(id: u32) -> Self {
        Self { folder: format!("/proc/{id}").into() }
    }

    /// Memory that it holds.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(self.folder.join("statm"));
        let text = text.context("the service has ended")?;
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        Ok(pages.context("no resident pages in statm")? * PAGE_BYTES)
    }

    /// Time that the processor has spent on its threads that decode.
    fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(self.folder.join("task")).context("the service has ended")? {
            let task = task?.path();
            if std::fs::read_to_string(task.join("comm"))?.trim() != "decode" {
                continue;
            }
            let text = std::fs::read_to_string(task.join("schedstat"))?;
            let nanoseconds = text.split(' ').next().and_then(|time| time.parse::<u64>().ok());
            sum += nanoseconds.context("no time in schedstat")?;
        }
        Ok(sum)
    }

    /// Looks at it.
    pub(super) fn sample(&self, client: &Client) -> Result<Sample> {
        let tokens = client.metric("tokens_total")? + client.metric("prompt_tokens_total")?
            - client.metric("prompt_tokens_reused_total")?;
        Ok(Sample { tokens, cpu_ns: self.cpu_ns()? })
    }
}

/// What clients have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each token behind the first of its answer.
    pub(super) token_ms: Vec<f64>,
    pub(super) answers: usize,
    pub(super) refusals: usize,
    pub(super) failures: usize,
}

/// One minute under load.
#[derive(Debug)]
pub(super) struct Minute {
    pub(super) tokens: usize,
    pub(super) resident_bytes: u64,
    seen: Seen,
    /// Processor time for each token, of prompts too.
    cpu_ms: f64,
}

impl Minute {
    pub(super) const HEAD: &'static str =
        "minute   tokens answers refused failed   p50 ms   p99 ms   cpu ms  memory, bytes";

    pub(super) fn of(last: &Sample, now: &Sample, mut seen: Seen, resident_bytes: u64) -> Self {
        seen.token_ms.sort_by(f64::total_cmp);
        let tokens = (now.tokens - last.tokens).max(1.0);
        let cpu_ms = (now.cpu_ns - last.cpu_ns) as f64 / 1e6 / tokens;
        Self { tokens: tokens as usize, resident_bytes, seen, cpu_ms }
    }

    fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.seen.token_ms.len().saturating_sub(1);
        self.seen.token_ms.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// The median of the minutes' p99.
    pub(super) fn p99_ms(minutes: &[Self]) -> f64 {
        median(minutes.iter().map(|minute| minute.quantile_ms(0.99)).collect())
    }

    /// The median of the minutes' processor time for a token.
    pub(super) fn cpu_ms(minutes: &[Self]) -> f64 {
        median(minutes.iter().map(|minute| minute.cpu_ms).collect())
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { answers, refusals, failures, .. } = self.seen;
        write!(
            f,
            "{:>8} {answers:>7} {refusals:>7} {failures:>6} {:>8.3} {:>8.3} {:>8.4} {:>14}",
            self.tokens,
            self.quantile_ms(0.5),
            self.quantile_ms(0.99),
            self.cpu_ms,
            self.resident_bytes
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_what_came_between_two_samples() {
        let last = Sample { tokens: 100.0, cpu_ns: 1_000_000_000 };
        let now = Sample { tokens: 600.0, cpu_ns: 2_000_000_000 };
        let token_ms = (1..=101).rev().map(f64::from).collect();
        let minute = Minute::of(&last, &now, Seen { token_ms, ..Seen::default() }, 4096);
        assert_eq!(minute.tokens, 500, "tokens");
        assert!((minute.cpu_ms - 2.0).abs() < 1e-9, "a second for 500: {}", minute.cpu_ms);
        assert!((minute.quantile_ms(0.5) - 51.0).abs() < 1e-9, "the middle of 1 to 101");
        assert!((Minute::p99_ms(&[minute]) - 100.0).abs() < 1e-9, "one of them is longer");
    }
}
