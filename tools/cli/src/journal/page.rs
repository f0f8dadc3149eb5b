//! The page of a run: what was asked for, what came, and how it went from token to token.

use std::fmt::Write;

use super::timeline::timeline;
use super::traces::{Axis, Columns, Panel, depths};
use super::{Journal, figure, mean};
use crate::page::{Sample, card, definitions, document, escape, percent, said, section};

/// What a run was, besides its tokens.
pub(crate) struct Run<'r> {
    /// The model.
    pub(crate) title: &'r str,
    /// What the budgets come to, in sentences.
    pub(crate) outlook: Option<&'r str>,
    /// What was said.
    pub(crate) sample: Sample,
    /// Names and what they were.
    pub(crate) conditions: &'r [(&'r str, &'r str)],
}

/// Writes the page.
pub(crate) fn page(journal: &Journal, run: &Run<'_>) -> String {
    let sections = [
        headline(journal, run),
        section("From token to token", &traces(journal)),
        said(std::slice::from_ref(&run.sample), journal.segments),
        section("Conditions", &definitions(run.conditions)),
    ];
    document(&format!("Run · {}", run.title), &sections.concat())
}

fn headline(journal: &Journal, run: &Run<'_>) -> String {
    let mut cards = energy_cards(journal);
    cards += &time_card(journal);
    let depth = mean(journal.entries.iter().map(|entry| entry.depth)).unwrap_or(1.0);
    cards += &card("Depth", &percent(depth), "of the layers, in the mean");
    if let Some(share) = journal.entries.last().and_then(|entry| entry.agreement) {
        let floor = journal.asked.min_agreement;
        let floor =
            floor.map_or_else(String::new, |floor| format!(", at least {}", percent(floor)));
        let note = format!("of {} compared{floor}", journal.revealed);
        cards += &card("Agreement with full depth", &percent(share), &note);
    }
    let faults = journal.fault_sentences();
    let outlook = run.outlook.unwrap_or_default().lines();
    let outlook =
        outlook.chain(faults.iter().map(String::as_str)).fold(String::new(), |mut html, line| {
            let _ = writeln!(html, "<p>{}</p>", escape(line));
            html
        });
    format!(
        "<header>\n<p class=\"kicker\">Dynamax run</p>\n<h1>{}</h1>\n<p class=\"lead\">{} tokens behind the first, which comes \
         with the prompt</p>\n{outlook}<div class=\"cards\">\n{cards}</div>\n</header>\n",
        escape(run.title),
        journal.entries.len(),
    )
}

fn energy_cards(journal: &Journal) -> String {
    let Some(mj) = mean(journal.entries.iter().filter_map(|entry| entry.energy_mj)) else {
        return card("Energy of a token", "–", "not measured");
    };
    let asked = journal.asked.energy_mj;
    let budget = asked.map_or_else(String::new, |asked| format!(", budget {} mJ", figure(asked)));
    let note = format!("{}{budget}", journal.label());
    let mut cards = card("Energy of a token", &format!("{} mJ", figure(mj)), &note);
    if let (Some(worst), Some(asked)) = (journal.worst_window_mj(), asked) {
        let note = format!("of the budget, over {} tokens", journal.asked.window);
        cards += &card("Worst window", &percent(worst / asked), &note);
    }
    cards
}

fn time_card(journal: &Journal) -> String {
    let mut times: Vec<f64> = journal.entries.iter().map(|entry| entry.step_ms).collect();
    times.sort_unstable_by(f64::total_cmp);
    let p99 = times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
    let note = match journal.asked.latency_ms {
        Some(deadline) => {
            format!("deadline {} ms; {} of {} late", figure(deadline), journal.late(), times.len())
        }
        None => "no deadline".to_owned(),
    };
    card("99 % of tokens within", &format!("{} ms", figure(p99)), &note)
}

fn traces(journal: &Journal) -> String {
    let columns = Columns::of(journal);
    let asked = &journal.asked;
    let over = format!("line: mean over {} tokens; band: each token", asked.window);
    let energy = Panel {
        title: format!("Energy of a token, mJ ({})", journal.label()),
        note: &format!("{over}; dashes: budget"),
        each: Some(|entry| entry.energy_mj),
        line: Some(|entry| entry.window_mj),
        limit: asked.energy_mj.map(|energy| ("budget", energy)),
        axis: Axis::Quantity,
    };
    let time = Panel {
        title: "Time of a token's step, ms".to_owned(),
        note: "dashes: deadline",
        each: Some(|entry| Some(entry.step_ms)),
        line: Some(|entry| Some(entry.step_ms)),
        limit: asked.latency_ms.map(|deadline| ("deadline", deadline)),
        axis: Axis::Quantity,
    };
    let threshold = Panel {
        title: "Threshold of the exits".to_owned(),
        note: "no line: tokens may not leave",
        each: None,
        line: Some(|entry| entry.threshold),
        limit: None,
        axis: Axis::Share,
    };
    let agreement = Panel {
        title: "Agreement with full depth, so far".to_owned(),
        note: "of the tokens compared; dashes: the least that is asked for",
        each: None,
        line: Some(|entry| entry.agreement),
        limit: asked.min_agreement.map(|floor| ("least agreement", floor)),
        axis: Axis::PartOfShare,
    };
    let [energy, time, threshold, agreement] =
        [energy, time, threshold, agreement].map(|panel| panel.draw(&columns));
    let depths = depths(&columns, journal.segments);
    let timeline = timeline(journal, &columns);
    format!(
        "<div class=\"traces\">\n{energy}{time}{depths}{threshold}{agreement}{timeline}</div>\n"
    )
}

#[cfg(test)]
mod tests {
    use dynamax_governor::meter::Source;

    use super::super::tests::{journal, token};
    use super::*;
    use crate::page::{Piece, assert_is_sound};

    /// A journal of `count` tokens, some of which are late, some dear, and one unlike all others.
    fn long(count: usize) -> Journal {
        let mut journal = journal(Source::Model);
        for index in 0..count {
            let is_early = index % 3 > 0;
            let energy = if is_early { 1.2 } else { 2.4 };
            journal.push(&token(if index == 5 { 7.5 } else { 3.0 }, energy, is_early));
        }
        journal
    }

    fn run() -> Run<'static> {
        let piece = Piece { text: "a <b> & c".to_owned(), exit: 0 };
        let sample =
            Sample { mode: "budget".to_owned(), prompt: "Once".to_owned(), pieces: vec![piece] };
        let conditions = &[("machine", "Jetson <Orin> Nano")];
        Run {
            title: "demo (mamba2)",
            outlook: Some("A token takes 5.\nSo it is."),
            sample,
            conditions,
        }
    }

    #[test]
    fn a_page_shows_every_trace() {
        let page = page(&long(100), &run());
        if let Some(path) = std::env::var_os("DYNAMAX_PAGE") {
            std::fs::write(path, &page).unwrap();
        }
        assert_is_sound(&page);
        for title in [
            "Energy of a token, mJ (modelled)",
            "Depth",
            "Threshold",
            "Agreement",
            "What the governor",
        ] {
            assert!(page.contains(&format!("aria-label=\"{title}")), "{title}");
        }
        assert!(page.contains("<title>budget 2.00</title>"), "the budget is drawn");
        assert!(page.contains("deadline 5.00 ms; 1 of 100 late"), "late tokens are counted");
        assert!(page.contains("<title>keeping: token 1 to 100</title>"), "one span for one mode");
        assert!(page.contains("Jetson &lt;Orin&gt; Nano"), "text is no tag");
    }

    #[test]
    fn a_page_of_many_tokens_is_no_larger_than_its_columns() {
        let (few, many) = (page(&long(700), &run()), page(&long(70_000), &run()));
        assert_is_sound(&many);
        assert!(many.len() < few.len() * 3 / 2, "{} and {} bytes", few.len(), many.len());
        assert!(many.contains("1 of 70000 late"), "and none is lost");
    }

    #[test]
    fn a_page_without_tokens_or_budgets_is_sound() {
        let journal = Journal::new(super::super::Asked::nothing(64), None, 1);
        let page = page(&journal, &run());
        assert_is_sound(&page);
        assert!(page.contains("not measured") && page.contains("no deadline"), "said instead");
    }
}
