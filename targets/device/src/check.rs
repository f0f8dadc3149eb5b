//! `dynamaxd --check`: what would happen.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use dynamax_bundle::Bundle;
use dynamax_config::{Profile, show_bytes};
use dynamax_engine::LoadError;
use dynamax_governor::{Goal, Outlook, Verdict};
use dynamax_session::depth;
use dynamax_session::machine::Machine;
use dynamax_session::metering::Metering;
use dynamax_session::traffic::Ladder;
use dynamax_slots::SlotError;
use serde::Serialize;

use crate::loading::{self, Ready, Settled};

/// Everything that a start would find.
#[derive(Serialize)]
struct Report {
    config: String,
    board: String,
    slot: String,
    on_trial: bool,
    bundle: String,
    architecture: String,
    hash: String,
    signed: bool,
    key: Option<String>,
    counter: Option<u64>,
    signature_required: bool,
    context: u32,
    planned_bytes: u64,
    memory_bytes: Option<u64>,
    threads: usize,
    socket: String,
    tcp: Option<String>,
    api_key_required: bool,
    /// What the configuration names, what was opened, and whether it answers.
    meter: String,
    energy_source: &'static str,
    meter_ok: bool,
    energy_mj_per_token: Option<f64>,
    latency_ms_per_token: Option<f64>,
    /// Whether costs were measured on this board beforehand.
    profiled: bool,
    /// What the budget means for this bundle; nothing without one.
    outlook: Option<String>,
    /// The budget that cannot be kept; nothing if all can.
    unkept: Option<&'static str>,
}

/// Checks configuration, bundle, plan and meter.
pub(crate) fn run(path: &Path, root: &Path, json: bool) -> Result<()> {
    let settled = Settled::read(path, root)?;
    let ready = loading::look(&settled)?;
    let report = report(path, &settled, &ready)?;
    if json {
        println!("{}", serde_json::to_string(&report).context("the report")?);
    } else {
        show(&report);
    }
    match report.unkept {
        Some(budget) => Err(Unkept(budget).into()),
        None => Ok(()),
    }
}

/// A budget that cannot be kept. The service would start, and do what `[budget] sacrifice` says.
#[derive(Clone, Copy, Debug)]
struct Unkept(&'static str);

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[budget] {} cannot be kept with this bundle on this board: see what is said above",
            self.0
        )
    }
}

impl std::error::Error for Unkept {}

fn report(path: &Path, settled: &Settled, ready: &Ready) -> Result<Report> {
    let config = &settled.config;
    let bundle = ready.source.bundle()?;
    let meta = bundle.meta();
    let profile = ready.profile(settled, config.device.backend.name())?;
    let outlook = outlook(settled, &bundle, profile.as_ref())?;
    let metering = metering(settled, &bundle)?;
    Ok(Report {
        config: path.display().to_string(),
        board: config.device.board.clone(),
        slot: ready.slot.to_string(),
        on_trial: ready.on_trial,
        bundle: meta.name.to_owned(),
        architecture: meta.architecture.to_owned(),
        hash: bundle.hash().to_string(),
        signed: ready.signature.is_some(),
        key: ready.signature.map(|signature| signature.key.to_string()),
        counter: ready.signature.map(|signature| signature.counter),
        signature_required: config.trust.require_signature,
        context: settled.options().settings(&bundle).context,
        planned_bytes: ready.planned_bytes,
        memory_bytes: settled.memory_bytes,
        threads: threads(settled),
        socket: config.server.socket.display().to_string(),
        tcp: config.server.tcp.clone(),
        api_key_required: settled.api_key.is_some(),
        meter: format!("{:?}", config.power.meter).to_lowercase(),
        energy_source: metering.source().label(),
        meter_ok: metering.is_whole(),
        energy_mj_per_token: config.budget.energy_per_token.map(|energy| energy.0 as f64 / 1e3),
        latency_ms_per_token: config.budget.latency_per_token.map(|time| time.0 as f64 / 1e3),
        profiled: profile.is_some(),
        unkept: outlook.as_ref().and_then(|outlook| unkept(outlook.verdict)),
        outlook: outlook.map(|outlook| outlook.to_string().trim().to_owned()),
    })
}

fn threads(settled: &Settled) -> usize {
    let here = dynamax_session::machine::default_threads;
    settled.threads.map_or_else(here, std::num::NonZeroUsize::get)
}

/// Opens the meter, as a start would, and hears it once.
fn metering(settled: &Settled, bundle: &Bundle<'_>) -> Result<Metering> {
    let program = bundle.program_buf()?;
    let ladder = Ladder::of(&program.as_program());
    let metering = Metering::open(&settled.config, &settled.root, ladder, threads(settled))?;
    metering.settle();
    Ok(metering)
}

/// What the configuration will come to, as far as costs and calibration tell.
fn outlook(
    settled: &Settled,
    bundle: &Bundle<'_>,
    profile: Option<&Profile>,
) -> Result<Option<Outlook>> {
    let machine = Machine { threads: threads(settled), root: &settled.root, profile };
    let program = bundle.program_buf()?;
    let depth = depth::of_device(&settled.config, bundle, &program.as_program(), &machine)?;
    Ok(depth.budget().map(|budget| budget.outlook(0)))
}

/// The budget that a verdict says cannot be kept. Agreement is none: it gives way where the user ranks it so.
fn unkept(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::GivesWay(Goal::Energy) | Verdict::OutOfReach(Goal::Energy) => {
            Some("energy_per_token")
        }
        Verdict::GivesWay(Goal::Latency) | Verdict::OutOfReach(Goal::Latency) => {
            Some("latency_per_token")
        }
        _ => None,
    }
}

/// Where costs come from.
const PROFILED: &str = "as profiled";
const UNPROFILED: &str = "from the board's rates, which dynamax profile would correct";

fn show(report: &Report) {
    let line = |name: &str, value: String| println!("{name:<12}{value}");
    line("config", report.config.clone());
    line("board", report.board.clone());
    let trial = if report.on_trial { ", on trial" } else { "" };
    line(
        "bundle",
        format!("{} ({}), slot {}{trial}", report.bundle, report.architecture, report.slot),
    );
    let signature = report.key.as_ref().zip(report.counter);
    let signature = signature.map(|(key, counter)| format!("version {counter}, key {key}"));
    let checked = if report.signature_required { "" } else { " (not required)" };
    line("signature", format!("{}{checked}", signature.unwrap_or_else(|| "none".into())));
    let limit = report.memory_bytes.map_or_else(|| "no limit".into(), show_bytes);
    let context = if report.context == u32::MAX {
        "without limit".into()
    } else {
        report.context.to_string()
    };
    line(
        "memory",
        format!("{} planned of {limit}, context {context}", show_bytes(report.planned_bytes),),
    );
    line("threads", report.threads.to_string());
    line("socket", report.socket.clone());
    let key = if report.api_key_required { ", with an API key" } else { "" };
    line("tcp", report.tcp.as_ref().map_or_else(|| "none".into(), |tcp| format!("{tcp}{key}")));
    let state = match (report.meter_ok, report.energy_source) {
        (false, _) => ", which does not measure now: energy would be modelled",
        (true, "model") => ", an estimate",
        (true, _) => "",
    };
    line("meter", format!("{}{state}", report.energy_source));
    let budget = |value: Option<f64>, unit| {
        value.map_or_else(|| "no budget".into(), |value| format!("{value} {unit} a token"))
    };
    line("energy", budget(report.energy_mj_per_token, "mJ"));
    line("latency", budget(report.latency_ms_per_token, "ms"));
    if let Some(outlook) = &report.outlook {
        line("costs", if report.profiled { PROFILED } else { UNPROFILED }.into());
        println!("{outlook}");
    }
    println!("the service would start");
}

/// 1 if the answer is "no", 2 if something is wrong with what was given.
pub(crate) fn status(error: &anyhow::Error) -> u8 {
    let no = error.chain().any(|cause| {
        cause.is::<Unkept>()
            || cause.is::<dynamax_bundle::TrustError>()
            || cause.is::<dynamax_bundle::BundleError>()
            || matches!(cause.downcast_ref(), Some(LoadError::Memory { .. }))
            || cause.downcast_ref().is_some_and(SlotError::is_no)
    });
    if no { 1 } else { 2 }
}
