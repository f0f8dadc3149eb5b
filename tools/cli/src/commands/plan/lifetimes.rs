//! Plans bare buffers from a CSV file: for other people's instances.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dynamax_plan::{Buffer, Effort};

use super::{Arguments, BufferReport, Report, show_report};
use crate::failure::Failure;

/// Columns that the header must name; others are passed over.
const COLUMNS: [&str; 4] = ["id", "lower", "upper", "size"];

/// The search gives up after this; easy instances take milliseconds, published hard ones seconds.
const MOST_SEARCH: Duration = Duration::from_secs(120);

pub(super) fn run(file: &Path, arguments: &Arguments) -> Result<()> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("{shown}: cannot be read"))?;
    let (ids, buffers) = parse(&text).with_context(|| shown.to_string())?;
    let capacity = arguments.capacity.map(|bytes| bytes.0);
    let lower_bound_bytes = dynamax_plan::lower_bound(&buffers);
    let solution = dynamax_plan::search(&buffers, 1, capacity, Effort::within(MOST_SEARCH));
    let report = Report {
        arena_bytes: solution.arena_bytes,
        lower_bound_bytes,
        weights_bytes: 0,
        state_bytes: 0,
        log_bytes: 0,
        pending_bytes: 0,
        sampling_bytes: 0,
        total_bytes: solution.arena_bytes,
        gpu: None,
        buffers: reports(&ids, &buffers, &solution.offsets),
    };
    dynamax_plan::verify(&buffers, &solution.offsets, solution.arena_bytes)?;
    show_report(arguments, &report)?;
    match capacity {
        Some(capacity) if solution.arena_bytes > capacity => {
            let missing = solution.arena_bytes - capacity;
            let bound = if lower_bound_bytes > capacity {
                "no placement can fit"
            } else {
                "a placement may exist"
            };
            Err(Failure(format!(
                "{shown}: needs {} bytes, {missing} more than the capacity of {capacity}; at least {lower_bound_bytes} \
                 are live at once, so {bound}",
                solution.arena_bytes
            ))
            .into())
        }
        _ => Ok(()),
    }
}

fn reports(ids: &[String], buffers: &[Buffer], offsets: &[u64]) -> Vec<BufferReport> {
    let all = ids.iter().zip(buffers).zip(offsets);
    let report = |((id, buffer), offset): ((&String, &Buffer), &u64)| BufferReport {
        id: id.clone(),
        lower: buffer.lower,
        upper: buffer.upper,
        size: buffer.size,
        offset: *offset,
    };
    all.map(report).collect()
}

/// Reads ids and buffers; the header says which column is which.
fn parse(text: &str) -> Result<(Vec<String>, Vec<Buffer>)> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, header) =
        lines.next().context("the file is empty; the first line must be id,lower,upper,size")?;
    let names: Vec<_> = header.split(',').map(str::trim).collect();
    let column = |name: &str| {
        let found = names.iter().position(|column| column.eq_ignore_ascii_case(name));
        found.with_context(|| {
            format!("line 1: no column \"{name}\" in \"{header}\"; expected id,lower,upper,size")
        })
    };
    let [id, lower, upper, size] = COLUMNS.map(column);
    let (id, lower, upper, size) = (id?, lower?, upper?, size?);
    let (mut ids, mut buffers) = (Vec::new(), Vec::new());
    for (index, line) in lines {
        let at = index + 1;
        let cells: Vec<_> = line.split(',').map(str::trim).collect();
        ensure!(
            cells.len() == names.len(),
            "line {at}: {} values, the header names {}",
            cells.len(),
            names.len()
        );
        let number = |column: usize, name: &str| -> Result<u64> {
            cells[column].parse().with_context(|| {
                format!("line {at}: {name} \"{}\" is no whole number", cells[column])
            })
        };
        let step = |column: usize, name: &str| -> Result<u32> {
            let number = number(column, name)?;
            u32::try_from(number)
                .with_context(|| format!("line {at}: {name} {number} is beyond {}", u32::MAX))
        };
        let buffer = Buffer {
            lower: step(lower, "lower")?,
            upper: step(upper, "upper")?,
            size: number(size, "size")?,
        };
        if buffer.lower >= buffer.upper {
            bail!(
                "line {at}: lower {} is not before upper {}; lifetimes are [lower, upper)",
                buffer.lower,
                buffer.upper
            );
        }
        ensure!(buffer.size < 1 << 48, "line {at}: size {} is beyond 2^48", buffer.size);
        ids.push(cells[id].to_owned());
        buffers.push(buffer);
    }
    ensure!(!buffers.is_empty(), "no buffers behind the header");
    Ok((ids, buffers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let (ids, buffers) = parse("size,id,upper,lower\n64,a,3,1\n").unwrap();
        assert_eq!(ids, ["a"], "id");
        assert_eq!(buffers, [Buffer { lower: 1, upper: 3, size: 64 }], "numbers");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, expected) in [
            ("", "the file is empty"),
            ("id,lower,upper\n", "no column \"size\""),
            ("id,lower,upper,size\n", "no buffers"),
            ("id,lower,upper,size\na,1,2\n", "line 2: 3 values"),
            ("id,lower,upper,size\na,1,2,x\n", "line 2: size \"x\""),
            ("id,lower,upper,size\na,2,2,8\n", "line 2: lower 2 is not before upper 2"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
