//! candle's own quantized model of llama, with the options and the report of llama-bench as far as `compare.py` uses them:
//! `-m MODEL.gguf -p 128,512 -n 64 -r 3 -t 2 -o json`. `run.sh` builds it, outside this repository.

use std::fs::File;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).unwrap_or_else(|| panic!("{name} is missing"))
    };
    let number = |name: &str| value(name).parse::<usize>().expect("a number");
    // Read when the first product is shared out.
    std::env::set_var("RAYON_NUM_THREADS", value("-t"));
    let (tokens, repetitions) = (number("-n"), number("-r"));

    let mut file = File::open(value("-m"))?;
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;

    let mut reports = Vec::new();
    for prompt in value("-p").split(',').map(|prompt| prompt.parse().expect("a number")) {
        // As llama-bench: once before it counts, then the mean of the rates.
        take(&mut model, prompt)?;
        let rates = (0..repetitions).map(|_| take(&mut model, prompt)).collect::<Result<Vec<_>>>()?;
        reports.push((prompt, 0, rates));
    }
    decode(&mut model, 1)?;
    let rates = (0..repetitions).map(|_| decode(&mut model, tokens)).collect::<Result<Vec<_>>>()?;
    reports.push((0, tokens, rates));

    let reports: Vec<String> = reports
        .iter()
        .map(|(prompt, tokens, rates)| {
            let mean = rates.iter().sum::<f64>() / rates.len() as f64;
            format!("{{\"n_prompt\": {prompt}, \"n_gen\": {tokens}, \"avg_ts\": {mean}}}")
        })
        .collect();
    println!("[{}]", reports.join(",\n"));
    Ok(())
}

/// Takes a prompt; tokens a second.
fn take(model: &mut ModelWeights, tokens: usize) -> Result<f64> {
    let ids: Vec<u32> = (0..tokens as u32).map(|i| i * 7919 % 32_000).collect();
    let start = Instant::now();
    // Position 0 starts a new cache.
    model.forward(&Tensor::new(&ids[..], &Device::Cpu)?.unsqueeze(0)?, 0)?;
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

/// Decodes tokens behind nothing; tokens a second.
fn decode(model: &mut ModelWeights, tokens: usize) -> Result<f64> {
    let start = Instant::now();
    let mut token = 1_u32;
    for position in 0..tokens {
        let logits = model.forward(&Tensor::new(&[[token]], &Device::Cpu)?, position)?;
        token = logits.squeeze(0)?.argmax(0)?.to_scalar()?;
    }
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}
