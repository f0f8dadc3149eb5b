//! What a bundle costs on a board: the file that `dynamax profile` writes and the governor starts from.
//!
//! ```toml
//! board = "jetson-orin-nano-8gb"
//! backend = "cpu"                     # what executed the Program
//! source = "ina3221"                  # what measured the energy
//! bundle = "…"                        # the bundle's hash
//! power_mode = 2                      # of the board, if it has any
//! head = [4100.0, 40500.0]            # us, uJ
//!
//! [[segment]]
//! first_row_us = [9000.0, …]          # for contexts up to 255, 511, … 16383, and longer
//! first_row_uj = [90000.0, …]
//! more_rows_us = [200.0, 1900.0, …]   # 1, 3, 7 and 15 further rows of a pass, together
//! more_rows_uj = [2000.0, 19000.0, …]
//! probe = [10.0, 90.0]
//! us_95 = [8900.0, 9100.0]            # what the first of first_row_us is between, with a confidence of 95 %
//! uj_95 = [89000.0, 91000.0]
//! ```

use std::array;
use std::fmt::Write;

use dynamax_governor::{CONTEXT_BUCKETS, Cost, CostModel, MORE_ROWS, SegmentCost};

use crate::document::{Document, Section};
use crate::error::{ConfigError, Kind};

/// What a bundle costs on a board.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The board's name.
    pub board: String,
    /// What executed the Program, by its name in `device.toml`; `cpu`, if the file does not say.
    pub backend: String,
    /// What measured the energy: the label of a meter's source.
    pub source: String,
    /// The bundle's hash, in hexadecimal digits.
    pub bundle: String,
    /// The power mode that the board was in, if it has any.
    pub power_mode: Option<u32>,
    /// The costs.
    pub model: CostModel,
    /// How sure they are, segment by segment; empty if nobody said.
    pub spreads: Vec<Spread>,
}

/// What a segment's cost is between, with a confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Microseconds.
    pub us: [f32; 2],
    /// Microjoules.
    pub uj: [f32; 2],
}

impl Profile {
    /// Reads text; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn from_text(file: &str, text: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(file, text)?;
        document.only(&[
            "board",
            "backend",
            "source",
            "bundle",
            "power_mode",
            "head",
            "segment",
        ])?;
        let top = document.root_section();
        let word = |key| Ok::<_, ConfigError>(top.need(key, top.text(key)?)?.to_owned());
        let sections = top.each("segment")?;
        let spreads = sections.iter().map(|section| spread(*section));
        let spreads = spreads.collect::<Result<Option<Vec<_>>, _>>()?.unwrap_or_default();
        let segments = sections.into_iter().map(segment).collect::<Result<Vec<_>, _>>()?;
        let model = CostModel::new(&segments, cost(top, "head")?).map_err(|error| {
            top.refusal(Kind::Relation, "segment", format!("makes no sense: {error}"))
        })?;
        Ok(Self {
            board: word("board")?,
            backend: top.text("backend")?.unwrap_or("cpu").to_owned(),
            source: word("source")?,
            bundle: word("bundle")?,
            power_mode: top.integer("power_mode", 0..=255)?,
            model,
            spreads,
        })
    }

    /// The text that [`Self::from_text`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let pair = |cost: Cost| format!("[{:?}, {:?}]", cost.us, cost.uj);
        let mut text = format!(
            "board = {:?}\nbackend = {:?}\nsource = {:?}\nbundle = {:?}\n",
            self.board, self.backend, self.source, self.bundle
        );
        if let Some(mode) = self.power_mode {
            let _ = writeln!(text, "power_mode = {mode}");
        }
        let _ = writeln!(text, "head = {}", pair(self.model.head()));
        for (index, segment) in self.model.segments().iter().enumerate() {
            let list = |costs: &[Cost], of: fn(&Cost) -> f32| costs.iter().map(of).collect();
            let lists = |costs: &[Cost]| -> [Vec<f32>; 2] {
                [list(costs, |cost| cost.us), list(costs, |cost| cost.uj)]
            };
            let [us, uj] = lists(&segment.first_row);
            let [more_us, more_uj] = lists(&segment.more_rows);
            let probe = pair(segment.probe);
            let _ = write!(
                text,
                "\n[[segment]]\nfirst_row_us = {us:?}\nfirst_row_uj = {uj:?}\nmore_rows_us = {more_us:?}\nmore_rows_uj = \
                 {more_uj:?}\nprobe = {probe}\n"
            );
            if let Some(Spread { us, uj }) = self.spreads.get(index) {
                let _ = writeln!(text, "us_95 = {us:?}\nuj_95 = {uj:?}");
            }
        }
        text
    }
}

fn segment(section: Section<'_>) -> Result<SegmentCost, ConfigError> {
    section.only(&[
        "first_row_us",
        "first_row_uj",
        "more_rows_us",
        "more_rows_uj",
        "probe",
        "us_95",
        "uj_95",
    ])?;
    Ok(SegmentCost {
        first_row: costs::<CONTEXT_BUCKETS>(section, ["first_row_us", "first_row_uj"])?,
        more_rows: costs::<{ MORE_ROWS.len() }>(section, ["more_rows_us", "more_rows_uj"])?,
        probe: cost(section, "probe")?,
    })
}

/// Costs as two lists: of microseconds, and of microjoules.
fn costs<const N: usize>(
    section: Section<'_>,
    [us, uj]: [&str; 2],
) -> Result<[Cost; N], ConfigError> {
    let list = |key| section.need(key, section.numbers::<N>(key)?);
    let (us, uj) = (list(us)?, list(uj)?);
    Ok(array::from_fn(|index| Cost { us: us[index] as f32, uj: uj[index] as f32 }))
}

fn spread(section: Section<'_>) -> Result<Option<Spread>, ConfigError> {
    let pair = |key| section.numbers::<2>(key);
    let narrow = |both: [f64; 2]| both.map(|value| value as f32);
    let both = pair("us_95")?.zip(pair("uj_95")?);
    Ok(both.map(|(us, uj)| Spread { us: narrow(us), uj: narrow(uj) }))
}

fn cost(section: Section<'_>, key: &str) -> Result<Cost, ConfigError> {
    let [us, uj] = section.need(key, section.numbers::<2>(key)?)?;
    Ok(Cost { us: us as f32, uj: uj as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        let mut first_row = [Cost::default(); CONTEXT_BUCKETS];
        for (bucket, cost) in first_row.iter_mut().enumerate() {
            *cost = Cost { us: 9000.25 + bucket as f32, uj: 90_000.5 };
        }
        let segment = SegmentCost {
            first_row,
            more_rows: [0.5, 900.0, 2700.0, 1.0e7].map(|us| Cost { us, uj: 10.0 * us }),
            probe: Cost { us: 0.1, uj: 0.3 },
        };
        let model = CostModel::new(&[segment; 3], Cost { us: 4100.0, uj: 40_500.0 }).unwrap();
        let spread = Spread { us: [8900.5, 9100.0], uj: [89_000.0, 91_000.0] };
        Profile {
            board: "generic".into(),
            backend: "wgpu".into(),
            source: "rapl".into(),
            bundle: "00ff".into(),
            power_mode: Some(2),
            model,
            spreads: vec![spread; 3],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = profile().to_text();
        assert_eq!(Profile::from_text("profile.toml", &text), Ok(profile()), "{text}");
    }

    #[test]
    fn names_may_hold_quotes() {
        let quoted = Profile { board: "a \"fast\" \\ board".into(), ..profile() };
        let text = quoted.to_text();
        assert_eq!(Profile::from_text("profile.toml", &text), Ok(quoted), "{text}");
    }

    #[test]
    fn a_profile_that_names_no_backend_is_of_the_cpu() {
        let text = profile().to_text().replace("backend = \"wgpu\"\n", "");
        let expected = Profile { backend: "cpu".into(), ..profile() };
        assert_eq!(Profile::from_text("profile.toml", &text), Ok(expected), "{text}");
    }

    #[test]
    fn modes_and_spreads_may_be_unknown() {
        let bare = Profile { power_mode: None, spreads: Vec::new(), ..profile() };
        let text = bare.to_text();
        assert!(!text.contains("_95") && !text.contains("power_mode"), "{text}");
        assert_eq!(Profile::from_text("profile.toml", &text), Ok(bare), "{text}");
    }

    #[test]
    fn a_profile_that_makes_no_sense_is_refused() {
        let good = profile().to_text();
        let cases = [
            (
                good.replace("9000.25, ", ""),
                "[segment] first_row_us has 7 numbers: 8 were expected",
            ),
            (
                good.replace("0.1, 0.3", "-0.1, 0.3"),
                "makes no sense: the cost of segment 0 is negative",
            ),
            (good.replace("source = \"rapl\"\n", ""), "source is missing"),
            (good.replace("head", "heads"), "heads is not known; did you mean \"head\"?"),
            (
                good.replace("4100.0", "true"),
                "head is [true, 40500.0]: a list of numbers was expected",
            ),
        ];
        for (text, sentence) in cases {
            let error = Profile::from_text("profile.toml", &text).unwrap_err().to_string();
            assert!(error.contains(sentence), "{sentence}: {error}");
        }
    }
}
