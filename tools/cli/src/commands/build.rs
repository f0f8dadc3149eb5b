//! `dynamax build`: from a checkpoint to a bundle.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use dynamax_bundle::DType;
use dynamax_config::show_bytes as show;
use dynamax_models::build::{BuildOptions, Built, Draft, ExitSource};
use dynamax_models::gguf::Gguf;
use dynamax_session::{Source, keys};
use serde::Serialize;

use super::{print_json, sign};
use crate::progress;

/// Import a checkpoint, quantize, lower, plan and pack it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax build ./Mistral-7B-v0.3 -o m.dmx                 q4, 4.5 bits per weight
  dynamax build ./mamba2-130m -o m.dmx --quant q8          8.5 bits per weight
  dynamax build mistral-7b.Q4_0.gguf -o m.dmx              the weights of a GGUF file, as they are
  dynamax build ./mistral -o m.dmx --exits ./exits         with early exits
  dynamax build ./llama -o m.dmx --quant f32 --context 512 as trained, for comparisons")]
pub(crate) struct Arguments {
    /// Directory with config.json, model.safetensors (or shards) and tokenizer.json; or a GGUF file.
    checkpoint: PathBuf,
    /// The bundle to write.
    #[arg(short, long)]
    output: PathBuf,
    /// How matrices are stored; norms, convolutions, A, D and dt stay f32. By default q4, or as a GGUF file has them.
    #[arg(long, value_enum)]
    quant: Option<Quant>,
    /// How keys and values are cached; by default f16, or f32 in an f32 bundle.
    #[arg(long, value_enum)]
    kv: Option<Kv>,
    /// Tokens to plan for by default: prompt and answer together.
    #[arg(long)]
    context: Option<u32>,
    /// Rows of a prompt computed together by default.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    rows: u32,
    /// Folder with exits that `dynamax exits` trained for this checkpoint; by default those beside the checkpoint, if
    /// there are any. "none" leaves them out.
    #[arg(long, value_name = "DIR")]
    exits: Option<PathBuf>,
    /// Sign it with this secret key, as `dynamax sign` does.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// The version that the signed bundle gets; by default the time in seconds.
    #[arg(long, requires = "sign")]
    counter: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Quant {
    /// 4.5 bits per weight.
    Q4,
    /// 8.5 bits per weight.
    Q8,
    /// 16 bits per weight.
    F16,
    /// 32 bits per weight.
    F32,
}

impl From<Quant> for DType {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::Q4 => Self::Q4,
            Quant::Q8 => Self::Q8,
            Quant::F16 => Self::F16,
            Quant::F32 => Self::F32,
        }
    }
}

/// How keys and values are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kv {
    F16,
    F32,
}

#[derive(Serialize)]
struct Report {
    output: String,
    file_bytes: u64,
    weights_bytes: u64,
    params: u64,
    bits_per_weight: f64,
    seconds: f64,
    snr_db_min: Option<f64>,
    snr_db_mean: Option<f64>,
    signed_with: Option<String>,
    warnings: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let checkpoint = &arguments.checkpoint;
    ensure!(
        checkpoint.is_dir() || Gguf::is_one(checkpoint),
        "{}: neither a directory nor a GGUF file; give the directory of a checkpoint (config.json, model.safetensors)",
        checkpoint.display()
    );
    // Before the work: a key that cannot be read should not cost a build.
    let key = arguments.sign.as_deref().map(keys::read_secret).transpose()?;
    let options = BuildOptions {
        quant: arguments.quant.map(DType::from),
        kv: arguments.kv.map(|kv| if kv == Kv::F16 { DType::F16 } else { DType::F32 }),
        context: arguments.context,
        max_rows: arguments.rows,
        exits: match &arguments.exits {
            None => ExitSource::Beside,
            Some(none) if none.as_os_str() == "none" => ExitSource::Nowhere,
            Some(folder) => ExitSource::Folder(folder.clone()),
        },
    };
    let draft = Draft::open(checkpoint, &options)?;
    let bar = progress::bytes(draft.file_len(), "packing");
    let built = draft.write(&arguments.output, &mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    Source::open(&arguments.output)?.note_whole()?;
    let counter = arguments.counter.unwrap_or_else(sign::now);
    let signature =
        key.map(|key| keys::sign_in_place(&arguments.output, &key, counter)).transpose()?;
    for warning in &built.warnings {
        eprintln!("dynamax: warning: {warning}");
    }
    let report = Report {
        signed_with: signature.map(|signature| signature.key.to_string()),
        ..report(arguments, &built, start.elapsed().as_secs_f64())
    };
    if arguments.json {
        return print_json(&report);
    }
    let snr = report.snr_db_mean.zip(report.snr_db_min);
    let snr = snr.map_or_else(String::new, |(mean, min)| {
        format!(" · signal to noise {mean:.1} dB, least {min:.1}")
    });
    println!(
        "{}: {} · {:.3} M weights, {:.2} bits each{snr} · {:.1} s",
        report.output,
        show(report.file_bytes),
        report.params as f64 / 1e6,
        report.bits_per_weight,
        report.seconds,
    );
    Ok(())
}

fn report(arguments: &Arguments, built: &Built, seconds: f64) -> Report {
    let snr: Vec<f64> = built
        .quality
        .weights
        .iter()
        .map(|weight| weight.snr_db)
        .filter(|db| db.is_finite())
        .collect();
    Report {
        output: arguments.output.display().to_string(),
        file_bytes: built.file_bytes,
        weights_bytes: built.weights_bytes,
        params: built.params,
        bits_per_weight: built.weights_bytes as f64 * 8.0 / built.params.max(1) as f64,
        seconds,
        snr_db_min: snr.iter().copied().min_by(f64::total_cmp),
        snr_db_mean: (!snr.is_empty()).then(|| snr.iter().sum::<f64>() / snr.len() as f64),
        signed_with: None,
        warnings: built.warnings.clone(),
    }
}
