//! Recordings to replay: what `tegrastats` wrote, or a table of time and power.
//!
//! - a line of `tegrastats` has the rail's name, then its power now and in the mean: `VDD_IN 4516mW/4480mW`, or `POM_5V_IN 3127/3127`
//!   from JetPack 4; lines are taken to be 1 s apart, or as far as is said;
//! - a table has the header `us,mw`, and a line for each sample.
//!
//! A recording begins again when it ends.

use std::format;
use std::path::Path;
use std::string::String;
use std::vec::Vec;

use super::{Draw, Meter, Source};
use crate::integrator::MeterFault;
use crate::units::{Microseconds, Milliwatts};

/// A recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    samples: Vec<(u64, u32)>,
}

impl Trace {
    /// Reads a recording; `rail` is what to look for in lines of `tegrastats`, `None` the first rail of each.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or has no samples, with its first line that is wrong.
    pub fn read(path: &Path, rail: Option<&str>) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Self::parse(&text, rail, Microseconds(1_000_000))
            .map_err(|problem| format!("{}: {problem}", path.display()))
    }

    /// Reads text; lines of `tegrastats` are `interval` apart.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and the line.
    pub fn parse(text: &str, rail: Option<&str>, interval: Microseconds) -> Result<Self, String> {
        let mut lines =
            text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).peekable();
        let is_table = lines.peek().is_some_and(|(line, _)| line.trim() == "us,mw");
        let mut samples: Vec<(u64, u32)> = Vec::new();
        for (line, number) in lines.skip(usize::from(is_table)) {
            let sample = if is_table {
                row(line)
            } else {
                tegrastats(line, rail).map(|mw| (samples.len() as u64 * interval.0, mw))
            };
            let Some(sample) = sample else {
                return Err(match (is_table, rail) {
                    (true, _) => format!(
                        "line {number}: a time in us and a power in mW were expected, like 10000,4516"
                    ),
                    (false, Some(rail)) => {
                        format!("line {number}: there is no power of \"{rail}\" in it")
                    }
                    (false, None) => {
                        format!(
                            "line {number}: it is no line of tegrastats, and the file has no header us,mw"
                        )
                    }
                });
            };
            if samples.last().is_some_and(|(before, _)| *before >= sample.0) {
                return Err(format!("line {number}: its time is not after the one before"));
            }
            samples.push(sample);
        }
        if samples.len() < 2 {
            return Err("it has fewer than two samples".into());
        }
        Ok(Self { samples })
    }

    /// Power at a moment, in a straight line between two samples.
    #[must_use]
    pub fn power(&self, now: Microseconds) -> Milliwatts {
        let (first, last) = (self.samples[0].0, self.samples[self.samples.len() - 1].0);
        let at = first + now.0 % (last - first);
        let next =
            self.samples.partition_point(|(time, _)| *time <= at).clamp(1, self.samples.len() - 1);
        let ((t0, p0), (t1, p1)) = (self.samples[next - 1], self.samples[next]);
        let share = (at - t0) as f64 / (t1 - t0) as f64;
        Milliwatts((f64::from(p0) * (1.0 - share) + f64::from(p1) * share + 0.5) as u32)
    }
}

fn row(line: &str) -> Option<(u64, u32)> {
    let (us, mw) = line.split_once(',')?;
    Some((us.trim().parse().ok()?, mw.trim().parse().ok()?))
}

/// The power of a rail in a line of `tegrastats`: the name, then `now/mean`, with or without unit.
fn tegrastats(line: &str, rail: Option<&str>) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let power = |pair: &[&str]| {
        let (now, mean) = pair[1].split_once('/')?;
        let number = |text: &str| text.strip_suffix("mW").unwrap_or(text).parse::<u32>().ok();
        number(mean)?;
        number(now).filter(|_| rail.is_none_or(|rail| rail == pair[0]))
    };
    words.windows(2).find_map(power)
}

impl Meter for Trace {
    fn source(&self) -> Source {
        Source::Trace
    }

    fn sample(&mut self, now: Microseconds) -> Result<Draw, MeterFault> {
        Ok(Draw::Power(self.power(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JETPACK_6: &str = "\
08-12-2025 10:01:02 RAM 2461/7620MB (lfb 4x2MB) SWAP 0/3810MB (cached 0MB) CPU [3%@1510,0%@1510] EMC_FREQ 1%@2133 \
GR3D_FREQ 0%@[305] VDD_IN 4516mW/4480mW VDD_CPU_GPU_CV 554mW/530mW VDD_SOC 1267mW/1260mW
08-12-2025 10:01:03 RAM 2461/7620MB (lfb 4x2MB) SWAP 0/3810MB (cached 0MB) CPU [93%@1510,90%@1510] EMC_FREQ 41%@2133 \
GR3D_FREQ 0%@[305] VDD_IN 8516mW/6480mW VDD_CPU_GPU_CV 2554mW/1530mW VDD_SOC 2267mW/1760mW
";

    const JETPACK_4: &str = "\
RAM 1800/3964MB (lfb 300x4MB) IRAM 0/252kB(lfb 252kB) CPU [9%@102,3%@102] EMC_FREQ 0% GR3D_FREQ 0% PLL@35C \
POM_5V_IN 2127/2127 POM_5V_GPU 40/40 POM_5V_CPU 320/320
RAM 1800/3964MB (lfb 300x4MB) IRAM 0/252kB(lfb 252kB) CPU [9%@102,3%@102] EMC_FREQ 0% GR3D_FREQ 0% PLL@35C \
POM_5V_IN 3127/2627 POM_5V_GPU 40/40 POM_5V_CPU 820/570
";

    #[test]
    fn tegrastats_of_every_jetpack_is_understood() {
        let second = Microseconds(1_000_000);
        let mut trace = Trace::parse(JETPACK_6, None, second).unwrap();
        assert_eq!(trace.power(Microseconds(0)), Milliwatts(4516), "the first rail");
        assert_eq!(trace.power(Microseconds(500_000)), Milliwatts(6516), "half way");
        assert_eq!(trace.power(second), Milliwatts(4516), "it begins again");
        assert_eq!(trace.sample(Microseconds(0)), Ok(Draw::Power(Milliwatts(4516))), "as a meter");
        assert_eq!(trace.source().label(), "trace", "label");
        let soc = Trace::parse(JETPACK_6, Some("VDD_SOC"), second).unwrap();
        assert_eq!(soc.power(Microseconds(0)), Milliwatts(1267), "a rail by name");
        let old = Trace::parse(JETPACK_4, Some("POM_5V_CPU"), second).unwrap();
        assert_eq!(old.power(Microseconds(0)), Milliwatts(320), "without units");
    }

    #[test]
    fn a_table_is_understood() {
        let trace =
            Trace::parse("us,mw\n0,1000\n10000,3000\n\n20000,3000\n", None, Microseconds(1))
                .unwrap();
        assert_eq!(trace.power(Microseconds(5000)), Milliwatts(2000), "between");
    }

    #[test]
    fn what_is_no_recording_is_refused_with_its_line() {
        let refused = |text: &str, rail| Trace::parse(text, rail, Microseconds(1)).unwrap_err();
        assert!(refused("", None).contains("fewer than two"), "empty");
        assert!(refused("us,mw\n0,1\n", None).contains("fewer than two"), "one sample");
        assert!(refused("us,mw\n0,1\n5,x\n", None).starts_with("line 3: a time"), "words");
        assert!(refused("us,mw\n5,1\n5,1\n", None).starts_with("line 3: its time"), "not after");
        assert!(
            refused(JETPACK_6, Some("VDD_GPU")).contains("no power of \"VDD_GPU\""),
            "another rail"
        );
        assert!(refused("hello\nworld\n", None).contains("no line of tegrastats"), "prose");
    }
}
