//! `dynamax inspect`: what is inside a bundle.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use dynamax_bundle::{Bundle, Kind, ProgramBuf, Rows, SectionKind, Tensor};
use dynamax_config::show_bytes as show;
use serde::Serialize;

use super::print_json;
use crate::source::{self, Demo};

/// Show what is inside a bundle.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  dynamax inspect m.dmx\n  dynamax inspect m.dmx --json | jq .bits_per_weight"
)]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// List every tensor and every operator.
    #[arg(long)]
    all: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'b> {
    name: &'b str,
    arch: &'b str,
    params: u64,
    quant: &'static str,
    kv: &'static str,
    segments: usize,
    exits: Vec<Exit>,
    layers: u32,
    d_model: u32,
    vocab_size: u32,
    weights_bytes: u64,
    bits_per_weight: f64,
    bytes_by_dtype: BTreeMap<&'static str, u64>,
    context_max: u32,
    context: u32,
    max_rows: u32,
    tokenizer: bool,
    chat_template: bool,
    signed: bool,
    signature: Option<Signed>,
    calibration: Option<Calibrated>,
    operators: BTreeMap<&'static str, usize>,
    created_by: &'b str,
    file_bytes: u64,
}

/// A claim: `dynamax verify --key` checks it.
#[derive(Serialize)]
struct Signed {
    key: String,
    counter: u64,
}

#[derive(Serialize)]
struct Exit {
    after_layer: u16,
    classifier: &'static str,
}

#[derive(Serialize)]
struct Calibrated {
    certificates: Vec<ShownCertificate>,
}

#[derive(Serialize)]
struct ShownCertificate {
    state: &'static str,
    thresholds: Vec<f32>,
    risk: f32,
    confidence: f32,
    n: u64,
    unit: &'static str,
    observed: f32,
    depth_mean: f32,
    data_hash: String,
}

impl fmt::Display for ShownCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: at most {} disagree with confidence {}, thresholds {:?}; {:.4} of {} {} did, at depth {:.0} %",
            self.state,
            self.risk,
            self.confidence,
            self.thresholds,
            self.observed,
            self.n,
            self.unit,
            100.0 * self.depth_mean
        )
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let bundle = source.verified()?;
    let program = bundle.program_buf().with_context(|| source.path().display().to_string())?;
    let report = report(&bundle, &program, source.bytes().len() as u64)?;
    if arguments.json {
        return print_json(&report);
    }
    show_report(&report);
    if arguments.all {
        show_all(&bundle, &program);
    }
    Ok(())
}

fn report<'b>(bundle: &Bundle<'b>, program: &ProgramBuf, file_bytes: u64) -> Result<Report<'b>> {
    let meta = bundle.meta();
    let weights =
        program.tensors.iter().filter(|tensor| matches!(tensor.kind, Kind::Weight { .. }));
    let mut bytes_by_dtype = BTreeMap::new();
    for tensor in weights {
        *bytes_by_dtype.entry(tensor.dtype.name()).or_default() +=
            tensor.stored_bytes().unwrap_or(0);
    }
    let mut operators = BTreeMap::new();
    for op in &program.ops {
        *operators.entry(op.name()).or_default() += 1;
    }
    let weights_bytes: u64 = bytes_by_dtype.values().sum();
    Ok(Report {
        name: meta.name,
        arch: meta.architecture,
        params: meta.params,
        quant: meta.quant.name(),
        kv: meta.kv.name(),
        segments: program.segments.len(),
        exits: program.exits.iter().map(|exit| shown_exit(program, exit)).collect(),
        layers: meta.n_layers,
        d_model: meta.d_model,
        vocab_size: meta.vocab_size,
        weights_bytes,
        bits_per_weight: weights_bytes as f64 * 8.0 / meta.params.max(1) as f64,
        bytes_by_dtype,
        context_max: meta.context_max,
        context: meta.context,
        max_rows: meta.max_rows,
        tokenizer: bundle.find(SectionKind::Tokenizer).is_some(),
        chat_template: bundle.find(SectionKind::ChatTemplate).is_some(),
        signed: bundle.signature().is_some(),
        signature: bundle
            .signature()
            .map(|signature| Signed { key: signature.key.to_string(), counter: signature.counter }),
        calibration: calibrated(bundle, program.exits.len())?,
        operators,
        created_by: meta.created_by,
        file_bytes,
    })
}

/// The certificates, if there are any.
fn calibrated(bundle: &Bundle<'_>, exits: usize) -> Result<Option<Calibrated>> {
    let Some(calibration) = bundle.calibration()? else { return Ok(None) };
    let certificates = calibration
        .certificates()
        .map(|certificate| ShownCertificate {
            state: certificate.state.name(),
            thresholds: certificate.thresholds[..exits].to_vec(),
            risk: certificate.risk,
            confidence: certificate.confidence,
            n: certificate.n,
            unit: certificate.unit.plural(),
            observed: certificate.observed,
            depth_mean: certificate.depth_mean,
            data_hash: certificate.data.to_string(),
        })
        .collect();
    Ok(Some(Calibrated { certificates }))
}

fn shown_exit(program: &ProgramBuf, exit: &dynamax_bundle::Exit) -> Exit {
    let segment = &program.segments[usize::from(exit.segment)];
    Exit { after_layer: segment.layers, classifier: exit.classifier.name() }
}

fn show_report(report: &Report<'_>) {
    let line = |name: &str, value: String| println!("{name:<16}{value}");
    let yes = |there: bool| if there { "yes" } else { "no" }.to_owned();
    let tokens = |count: u32| {
        if count == u32::MAX { "no limit".to_owned() } else { format!("{count} tokens") }
    };
    line("name", report.name.to_owned());
    line("architecture", report.arch.to_owned());
    line(
        "shape",
        format!(
            "{} layers, d_model {}, vocabulary {}",
            report.layers, report.d_model, report.vocab_size
        ),
    );
    line(
        "weights",
        format!("{:.3} M, {:.2} bits each", report.params as f64 / 1e6, report.bits_per_weight),
    );
    let by_dtype =
        report.bytes_by_dtype.iter().map(|(dtype, bytes)| format!("{dtype} {}", show(*bytes)));
    line(
        "bytes",
        format!("{} ({})", show(report.weights_bytes), by_dtype.collect::<Vec<_>>().join(", ")),
    );
    line("file", show(report.file_bytes));
    line("context", format!("{}, at most {}", tokens(report.context), tokens(report.context_max)));
    line("rows", format!("{} at a time", report.max_rows));
    line("kv cache", report.kv.to_owned());
    line("segments", report.segments.to_string());
    let exits =
        report.exits.iter().map(|exit| format!("{} ({})", exit.after_layer, exit.classifier));
    line(
        "exits",
        match report.exits.is_empty() {
            true => "none".to_owned(),
            false => format!("after layers {}", exits.collect::<Vec<_>>().join(", ")),
        },
    );
    let operators = report.operators.iter().map(|(name, count)| format!("{count} {name}"));
    line("operators", operators.collect::<Vec<_>>().join(", "));
    line("tokenizer", yes(report.tokenizer));
    line("chat template", yes(report.chat_template));
    let certificates = report.calibration.iter().flat_map(|calibrated| &calibrated.certificates);
    for certificate in certificates.clone() {
        line("calibration", certificate.to_string());
    }
    if certificates.count() == 0 {
        line("calibration", "none".to_owned());
    }
    let signature = report.signature.as_ref();
    let signature =
        signature.map(|Signed { key, counter }| format!("version {counter}, key {key}"));
    line("signature", signature.unwrap_or_else(|| "none".to_owned()));
    line("made by", report.created_by.to_owned());
}

fn show_all(bundle: &Bundle<'_>, program: &ProgramBuf) {
    let names: Vec<_> = bundle.sections().map(|section| section.name).collect();
    println!("\ntensors");
    for (index, tensor) in program.tensors.iter().enumerate() {
        println!(
            "  {index:<5} {:<5} {:<18} {}",
            tensor.dtype.name(),
            shape(tensor),
            describe(tensor, &names)
        );
    }
    println!("\noperators");
    for (index, op) in program.ops.iter().enumerate() {
        println!("  {index:<5} {op:?}");
    }
}

fn shape(tensor: &Tensor) -> String {
    let rows = match tensor.rows {
        Rows::Fixed(rows) => rows.to_string(),
        Rows::Many => "rows".into(),
        Rows::Cache { window: 0 } => "context".into(),
        Rows::Cache { window } => format!("window {window}"),
    };
    format!("[{rows}, {}]", tensor.width)
}

fn describe(tensor: &Tensor, names: &[&str]) -> String {
    match tensor.kind {
        Kind::Weight { section, .. } => names.get(usize::from(section)).unwrap_or(&"?").to_string(),
        Kind::State => "state".into(),
        Kind::Activation => "activation".into(),
    }
}
