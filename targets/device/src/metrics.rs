//! Counters and gauges in Prometheus' text form.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use dynamax_session::machine;

use crate::live::{BOUNDS_S, Histogram, Live};

/// The page of `/metrics`. What is not measured is left out.
pub(crate) fn text(live: &Live) -> String {
    let totals = live.totals().clone();
    let mut page = Page(String::new());
    page.counter("requests_total", "Requests for answers", live.requests.load(Ordering::Relaxed));
    page.counter(
        "requests_refused_total",
        "Refused: the queue was full",
        live.refused.load(Ordering::Relaxed),
    );
    page.counter("answers_total", "Answers, whole or not", totals.answers);
    page.counter("answers_cancelled_total", "Answers whose client went away", totals.cancelled);
    page.counter("tokens_total", "Tokens made", totals.tokens);
    page.counter("prompt_tokens_total", "Tokens of prompts", totals.prompt_tokens);
    page.counter("prompt_tokens_reused_total", "Of these, fed before", totals.reused_tokens);
    page.histogram("token_seconds", "Time for a token, behind the first", &totals.token);
    page.histogram("first_token_seconds", "Time for prompt and first token", &totals.first_token);
    page.gauge("queue_waiting", "Requests that wait", live.waiting.load(Ordering::Relaxed) as f64);
    page.gauge("connections", "Open connections", live.connections.load(Ordering::Relaxed) as f64);
    page.gauge("up_seconds", "Time since the start", live.uptime().as_secs_f64());
    let recent = totals.recent();
    let mut measured = |name: &str, what: &str, value: Option<f64>| {
        if let Some(value) = value {
            page.gauge(name, what, value);
        }
    };
    measured("recent_depth", "Share of layers, mean of the last tokens", recent.depth);
    measured("recent_ms_per_token", "Mean of the last tokens", recent.ms_per_token);
    measured("recent_energy_mj_per_token", "Mean of the last tokens", recent.energy_mj_per_token);
    measured("energy_joules_total", "Energy of all tokens", totals.energy_mj.map(|mj| mj / 1e3));
    measured("budget_energy_mj_per_token", "The budget", totals.budget.energy_mj_per_token);
    measured(
        "power_mode",
        "The power mode, as nvpmodel numbers it",
        totals.power_mode.map(f64::from),
    );
    measured("budget_latency_ms_per_token", "The budget", totals.budget.latency_ms_per_token);
    measured(
        "resident_bytes",
        "Memory that is held",
        machine::rss_bytes().map(|bytes| bytes as f64),
    );
    page.gauge(
        "meter_ok",
        "1 if the power meter works",
        f64::from(u8::from(totals.meter.is_whole())),
    );
    page.counter("meter_faults_total", "Times that the power meter broke", totals.meter.faults);
    let loaded = &totals.loaded;
    page.gauge("planned_bytes", "Memory that was planned", loaded.planned_bytes as f64);
    page.gauge(
        "memory_locked",
        "1 if memory cannot be swapped out",
        f64::from(u8::from(loaded.memory_locked)),
    );
    let labels = format!(
        "{{name=\"{}\",architecture=\"{}\",hash=\"{}\",slot=\"{}\",isa=\"{}\",threads=\"{}\",energy_source=\"{}\"}}",
        escape(&loaded.name),
        escape(&loaded.architecture),
        loaded.hash,
        loaded.slot,
        loaded.isa,
        loaded.threads,
        loaded.energy_source,
    );
    page.head("bundle_info", "What is loaded", "gauge");
    page.line("bundle_info", &labels, 1.0);
    page.0
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, what: &str, kind: &str) {
        let _ = write!(self.0, "# HELP dynamax_{name} {what}.\n# TYPE dynamax_{name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "dynamax_{name}{labels} {value}");
    }

    fn counter(&mut self, name: &str, what: &str, value: u64) {
        self.head(name, what, "counter");
        let _ = writeln!(self.0, "dynamax_{name} {value}");
    }

    fn gauge(&mut self, name: &str, what: &str, value: f64) {
        self.head(name, what, "gauge");
        self.line(name, "", value);
    }

    fn histogram(&mut self, name: &str, what: &str, histogram: &Histogram) {
        self.head(name, what, "histogram");
        for (bound, count) in BOUNDS_S.iter().zip(histogram.counts) {
            self.line(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), count as f64);
        }
        self.line(&format!("{name}_bucket"), "{le=\"+Inf\"}", histogram.count as f64);
        self.line(&format!("{name}_sum"), "", histogram.sum_s);
        self.line(&format!("{name}_count"), "", histogram.count as f64);
    }
}

/// A label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Budget, Said};

    #[test]
    fn a_token_is_counted_in_every_bucket_above_it() {
        let live =
            Live::new(Budget { energy_mj_per_token: Some(900.0), latency_ms_per_token: None });
        let said = Said {
            id: 1,
            text: "x".into(),
            ms: 30.0,
            segment: 0,
            depth: 0.5,
            energy_mj: None,
            logprob: None,
            alternatives: vec![],
        };
        live.token(&said, false);
        let text = text(&live);
        for line in [
            "dynamax_tokens_total 1",
            "dynamax_token_seconds_bucket{le=\"0.025\"} 0",
            "dynamax_token_seconds_bucket{le=\"0.05\"} 1",
            "dynamax_token_seconds_count 1",
            "dynamax_recent_depth 0.5",
            "dynamax_budget_energy_mj_per_token 900",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("energy_joules_total"), "not measured, not there");
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd", "labels");
    }
}
