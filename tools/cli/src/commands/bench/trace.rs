//! What each thread did when, as a file that <https://ui.perfetto.dev> opens (Chrome's trace event format).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use dynamax_bundle::{Bundle, Kind, Op, Program};
use dynamax_engine::crew::Observer;
use serde::Serialize;

/// Work of one thread on some operators.
#[derive(Debug)]
struct Span {
    ops: Range<usize>,
    start_us: f64,
    end_us: f64,
}

/// Collects what every worker does.
#[derive(Debug)]
pub(super) struct Trace {
    begin: Instant,
    /// Of each worker.
    spans: Vec<Mutex<Vec<Span>>>,
}

/// An entry of the file.
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    cat: &'a str,
    /// A span with a length.
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: usize,
}

impl Observer for Trace {
    fn starts(&self, worker: usize, ops: Range<usize>) {
        let start_us = self.now_us();
        self.of(worker).push(Span { ops, start_us, end_us: start_us });
    }

    fn ends(&self, worker: usize) {
        let end_us = self.now_us();
        if let Some(span) = self.of(worker).last_mut() {
            span.end_us = end_us;
        }
    }
}

impl Trace {
    /// For so many workers; the time starts now.
    pub(super) fn new(workers: usize) -> Self {
        // Room for a while, so that growing does not show.
        let spans = (0..workers).map(|_| Mutex::new(Vec::with_capacity(1 << 16))).collect();
        Self { begin: Instant::now(), spans }
    }

    /// Microseconds since the start.
    pub(super) fn now_us(&self) -> f64 {
        self.begin.elapsed().as_secs_f64() * 1e6
    }

    fn of(&self, worker: usize) -> MutexGuard<'_, Vec<Span>> {
        self.spans[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file: a line for each worker, and one for `steps`, which are named and have their times.
    pub(super) fn write(
        &self,
        path: &Path,
        bundle: &Bundle<'_>,
        program: &Program<'_>,
        steps: &[(String, Range<f64>)],
    ) -> Result<()> {
        let file =
            File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let mut file = BufWriter::new(file);
        let event = |name: &str, cat: &str, time: Range<f64>, tid: usize| {
            let (ts, dur) = (time.start, time.end - time.start);
            serde_json::to_string(&Event { name, cat, ph: "X", ts, dur, pid: 1, tid })
        };
        writeln!(file, "{{\"traceEvents\":[")?;
        for (name, time) in steps {
            writeln!(file, "{},", event(name, "step", time.clone(), 0)?)?;
        }
        for worker in 0..self.spans.len() {
            for span in &*self.of(worker) {
                let (name, kind) = describe(bundle, program, span.ops.clone());
                let time = span.start_us..span.end_us;
                writeln!(file, "{},", event(&name, kind, time, worker + 1)?)?;
            }
        }
        let names = (0..=self.spans.len()).map(|tid| {
            let name = if tid == 0 { "steps".into() } else { format!("worker {}", tid - 1) };
            let args = serde_json::json!({ "name": name });
            serde_json::json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": args })
        });
        let names: Vec<_> = names.map(|name| name.to_string()).collect();
        writeln!(file, "{}\n]}}", names.join(",\n"))?;
        file.flush().with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// The name of some work, with the weight that tells its layer, and the kind of operator.
fn describe(
    bundle: &Bundle<'_>,
    program: &Program<'_>,
    ops: Range<usize>,
) -> (String, &'static str) {
    if ops.is_empty() {
        return (format!("quantize, before operator {}", ops.start), "quantize");
    }
    let op = &program.ops[ops.start];
    let weight = weight_name(bundle, program, op);
    let more = ops.len() - 1;
    let name = match (weight, more) {
        (Some(weight), 0) => format!("{} {weight}", op.name()),
        (Some(weight), more) => format!("{} {weight} and {more} more", op.name()),
        (None, _) => format!("{} {}", op.name(), ops.start),
    };
    (name, op.name())
}

/// The name of the first weight of an operator.
fn weight_name<'b>(bundle: &Bundle<'b>, program: &Program<'_>, op: &Op) -> Option<&'b str> {
    let section = op.operands().inputs.into_iter().flatten().find_map(|id| {
        match program.tensor(id).kind {
            Kind::Weight { section, .. } => Some(usize::from(section)),
            _ => None,
        }
    })?;
    bundle.sections().nth(section).map(|section| section.name)
}
