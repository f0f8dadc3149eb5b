//! The page over a report with every kind of mode. Set `DYNAMAX_PAGE` to a path to keep it, and look at it.

use super::*;
use crate::eval::report::{Conditions, Mode, Oracle};
use crate::page::{Piece, assert_is_sound};

fn mode(state: Option<&str>, classifier: Option<&str>, threshold: Option<f64>) -> Mode {
    let exit = if threshold.is_some() { "fixed" } else { "off" };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Mode { exit: exit.into(), threshold, state: owned(state), classifier: owned(classifier) }
}

/// A mode whose numbers follow from how boldly it leaves, 0 to 1, and how much that hurts.
fn measured(mode: Mode, boldness: f64, hurt: f64) -> ModeReport {
    let early = (900.0 * boldness) as u64;
    let middle = (600.0 * boldness) as u64;
    let agreement = 1.0 - hurt * boldness * boldness;
    ModeReport {
        mode,
        accuracy: 0.412 - 0.3 * (1.0 - agreement),
        accuracy_full: 0.412,
        agreement,
        depth_mean: 1.0 - 0.45 * boldness,
        flops_saved: 0.40 * boldness,
        bytes_saved: 0.38 * boldness,
        acceptance: None,
        said_before: None,
        acceptance_by_place: Vec::new(),
        time_saved: 0.33 * boldness,
        energy_mj_per_token: Some(880.0 - 300.0 * boldness),
        tokens_per_exit: vec![early, middle, 200, 2000 - 200 - early - middle],
        tokens_per_s: 41.0 / (1.0 - 0.33 * boldness),
        scores: [("exact", 0.412), ("f1", 0.487)].into(),
    }
}

fn report() -> Report {
    let mut modes = vec![measured(mode(None, None, None), 0.0, 0.0)];
    modes[0].tokens_per_exit = vec![0, 0, 0, 2000];
    for (state, classifier, hurt) in [
        ("copy", "calm", 0.14),
        ("propagate", "calm", 0.06),
        ("skip", "ffn", 0.22),
        ("deferred", "mamba", 0.03),
    ] {
        for (threshold, boldness) in [(0.95, 0.2), (0.9, 0.4), (0.8, 0.65), (0.7, 0.85), (0.6, 1.0)]
        {
            let boldness = if state == "deferred" { 0.8 * boldness } else { boldness };
            let mode = mode(Some(state), Some(classifier), Some(threshold));
            modes.push(measured(mode, boldness, hurt));
        }
    }
    let oracle = Oracle {
        depth_mean: 0.52,
        flops_saved: 0.44,
        bytes_saved: 0.43,
        tokens_per_exit: vec![1100, 500, 200, 200],
    };
    let conditions = Conditions {
        bundle: "codestral-mamba-7b.dmx".into(),
        bundle_hash: "d0".repeat(32),
        model: "mamba2, q4, 7.28 billion weights".into(),
        data: "triviaqa_test_subsample.jsonl".into(),
        data_hash: "4a".repeat(32),
        machine: "Jetson Orin Nano".into(),
        isa: "neon-dotprod",
        threads: 6,
        energy_source: "ina3221",
    };
    let (task, accuracy_is) = ("triviaqa", "exact");
    Report { task, n: 1000, accuracy_is, modes, oracle: Some(oracle), prompts_cut: 0, conditions }
}

fn sample() -> Sample {
    let words = "The highest point of the Cotswolds is Cleeve Hill, which looks down on <Cheltenham> & \
                 the race course; on a clear day one sees Wales from it.";
    let exits = [3, 1, 0, 0, 0, 2, 0, 3, 2, 0, 1, 0, 0, 0, 3];
    let pieces = words.split_inclusive(' ').zip(exits.into_iter().cycle());
    Sample {
        mode: "deferred · mamba @ 0.8".into(),
        prompt:
            "Question: Cleeve Hill is the highest point in which range of English hills?\nAnswer: "
                .into(),
        pieces: pieces.map(|(text, exit)| Piece { text: text.into(), exit }).collect(),
    }
}

#[test]
fn a_page_shows_every_mode() {
    let (report, page) = (report(), page(&report(), &[sample()]));
    if let Some(path) = std::env::var_os("DYNAMAX_PAGE") {
        std::fs::write(path, &page).unwrap();
    }
    for mode in &report.modes {
        // In both plots, and as a bar.
        let (name, saved) = (escape(&mode.mode.label()), percent(mode.bytes_saved));
        assert!(
            page.matches(&format!("<title>{name}: {saved} of bytes")).count() == 2,
            "{name} in the plots"
        );
        assert!(page.contains(&format!(">{name}</text>")), "{name} has a bar");
    }
    assert_eq!(page.matches("<tr>").count(), report.modes.len() + 1, "rows, and a header");
}

#[test]
fn a_page_is_sound_and_its_text_escaped() {
    let page = page(&report(), &[sample()]);
    assert_is_sound(&page);
    assert!(page.contains("&lt;Cheltenham&gt; ") && page.contains("&amp; "), "a text is no tag");
}

#[test]
fn labels_do_not_cover_each_other() {
    let page = page(&report(), &[]);
    let mut places = Vec::new();
    for svg in page.split("<svg viewBox=\"0 0 560").skip(1) {
        let own = svg.split("</svg>").next().unwrap();
        let labels = own.split("<text class=\"label ").skip(1);
        let boxes: Vec<[f64; 4]> = labels
            .map(|label| {
                // A colour, then x="…" y="…">text<.
                let mut parts = label.split(['"', '>', '<']);
                let x: f64 = parts.nth(2).unwrap().parse().unwrap();
                let y: f64 = parts.nth(1).unwrap().parse().unwrap();
                let text = parts.nth(1).unwrap();
                [x, y - 9.0, x + 6.0 * text.len() as f64, y]
            })
            .collect();
        places.push(boxes);
    }
    assert_eq!(places.len(), 2, "two plots");
    for boxes in places {
        assert!(boxes.len() > 11, "most points have one: {boxes:?}");
        for (index, a) in boxes.iter().enumerate() {
            for b in &boxes[index + 1..] {
                let apart = a[0] >= b[2] || b[0] >= a[2] || a[1] >= b[3] || b[1] >= a[3];
                assert!(apart, "{a:?} covers {b:?}");
            }
        }
    }
}

#[test]
fn full_depth_alone_has_no_plots() {
    let mut report = report();
    report.modes.truncate(1);
    report.oracle = None;
    let page = page(&report, &[]);
    assert!(page.contains("Only full depth was measured"), "said instead");
    assert!(!page.contains("What was said"), "no samples, no section");
}
