//! A quality against savings: one curve for each state and classifier.

use std::fmt::Write;

use super::{ModeReport, Report, number};
use crate::page::{Scale, escape, percent};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 536.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 326.0;

/// Half the size of a mark.
const MARK: f64 = 5.0;

/// A mode on the plot.
struct Point<'r> {
    mode: &'r ModeReport,
    x: f64,
    y: f64,
}

/// Draws `quality` over the share of bytes saved.
pub(super) fn plot(report: &Report, title: &str, quality: fn(&ModeReport) -> f64) -> String {
    let modes = &report.modes;
    let xs = modes.iter().map(|mode| mode.bytes_saved).chain([0.0]);
    let x = Scale::over(xs, 6, [LEFT, RIGHT]);
    let y = Scale::over(modes.iter().map(quality), 6, [BOTTOM, TOP]);
    let point = |mode| Point { mode, x: x.place(mode.bytes_saved), y: y.place(quality(mode)) };
    let points: Vec<Point<'_>> = modes.iter().map(point).collect();

    let mut svg = format!(
        "<figure>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0} against bytes saved\">\n<text \
         class=\"title\" x=\"0\" y=\"16\">{0}</text>\n",
        escape(title)
    );
    svg += &axes(&x, &y);
    svg += &line("frontier", &frontier(&points));
    for family in families(report) {
        let curve = family_curve(&points, &family);
        svg += &line(&format!("curve {}", colour(curve[0].mode)), &curve);
    }
    for point in &points {
        let mark = mark(point.mode, point.x, point.y);
        let told = format!(
            "{}: {} of bytes saved, {}",
            point.mode.mode.label(),
            percent(point.mode.bytes_saved),
            percent(quality(point.mode))
        );
        let _ = writeln!(svg, "<g><title>{}</title>{mark}</g>", escape(&told));
    }
    svg += &labels(report, &points);
    svg + "</svg>\n</figure>\n"
}

fn axes(x: &Scale, y: &Scale) -> String {
    let mut svg = String::new();
    for tick in y.ticks() {
        let (at, text) = (y.place(tick), y.label(tick));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick end\" \
             x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    for tick in x.ticks() {
        let (at, text) = (x.place(tick), x.label(tick));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/><text class=\"tick mid\" \
             x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
            BOTTOM + 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"axis mid\" x=\"{:.1}\" y=\"{:.1}\">bytes of weights saved →</text>",
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 44.0
    );
    svg
}

/// The points of a family, by savings.
fn family_curve<'p, 'r>(points: &'p [Point<'r>], family: &str) -> Vec<&'p Point<'r>> {
    let mut own: Vec<_> =
        points.iter().filter(|point| point.mode.mode.family() == family).collect();
    own.sort_by(|a, b| a.x.total_cmp(&b.x));
    own
}

/// The points that no other beats in both, by savings.
fn frontier<'p, 'r>(points: &'p [Point<'r>]) -> Vec<&'p Point<'r>> {
    // Up is a smaller y.
    let beats = |a: &Point<'_>, b: &Point<'_>| a.x >= b.x && a.y <= b.y && (a.x > b.x || a.y < b.y);
    let mut best: Vec<_> =
        points.iter().filter(|point| !points.iter().any(|other| beats(other, point))).collect();
    best.sort_by(|a, b| a.x.total_cmp(&b.x));
    best
}

fn line(class: &str, points: &[&Point<'_>]) -> String {
    if points.len() < 2 {
        return String::new();
    }
    let places: Vec<_> =
        points.iter().map(|point| format!("{:.1},{:.1}", point.x, point.y)).collect();
    format!("<polyline class=\"{class}\" points=\"{}\"/>\n", places.join(" "))
}

/// Families in the order of the report; full depth is a point, not a curve.
fn families(report: &Report) -> Vec<String> {
    let mut families: Vec<String> = Vec::new();
    for mode in &report.modes {
        let family = mode.mode.family();
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

/// The colour says what happens to the state.
fn colour(report: &ModeReport) -> &'static str {
    match (report.mode.exit.as_str(), report.mode.state.as_deref()) {
        ("off", _) => "full",
        ("verified", _) => "c4",
        (_, Some("copy")) => "c0",
        (_, Some("propagate")) => "c1",
        (_, Some("skip")) => "c2",
        (_, Some("deferred")) => "c3",
        _ => "c5",
    }
}

/// The shape says which classifier.
fn mark(report: &ModeReport, x: f64, y: f64) -> String {
    let class = colour(report);
    let polygon = |places: &[[f64; 2]]| {
        let places: Vec<_> =
            places.iter().map(|[dx, dy]| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
        format!("<polygon class=\"mark {class}\" points=\"{}\"/>", places.join(" "))
    };
    let m = MARK;
    match report.mode.classifier.as_deref() {
        Some("ffn") => polygon(&[[-m, -m], [m, -m], [m, m], [-m, m]]),
        Some("mamba") => polygon(&[[0.0, -m - 1.5], [m + 1.0, m - 0.5], [-m - 1.0, m - 0.5]]),
        _ if class == "full" => {
            polygon(&[[0.0, -m - 2.0], [m + 2.0, 0.0], [0.0, m + 2.0], [-m - 2.0, 0.0]])
        }
        _ => format!("<circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{m}\"/>"),
    }
}

/// What colours and shapes mean: the mark of each family beside its name.
pub(super) fn legend(report: &Report) -> String {
    let mut html = String::from("<ul class=\"legend\">\n");
    for family in families(report) {
        let Some(mode) = report.modes.iter().find(|mode| mode.mode.family() == family) else {
            continue;
        };
        let _ = writeln!(
            html,
            "<li><svg viewBox=\"0 0 16 16\" width=\"16\" height=\"16\" aria-hidden=\"true\">{}</svg>{}</li>",
            mark(mode, 8.0, 8.0),
            escape(&family)
        );
    }
    html + "</ul>\n"
}

/// A rectangle: left, top, right, bottom.
type Place = [f64; 4];

/// Thresholds beside their points, where they cover neither marks nor curves nor each other; tooltips tell the others.
fn labels(report: &Report, points: &[Point<'_>]) -> String {
    let around = |point: &Point<'_>| {
        [point.x - MARK - 1.0, point.y - MARK - 1.0, point.x + MARK + 1.0, point.y + MARK + 1.0]
    };
    let mut taken: Vec<Place> = points.iter().map(around).collect();
    for family in families(report) {
        taken.extend(
            family_curve(points, &family).windows(2).flat_map(|pair| dots(pair[0], pair[1])),
        );
    }
    let mut svg = String::new();
    for point in points {
        let text = match point.mode.mode.threshold {
            Some(threshold) => number(threshold),
            None if point.mode.mode.exit == "off" => "full depth".into(),
            None => continue,
        };
        let free =
            |place: &Place| is_inside(place) && !taken.iter().any(|other| overlap(place, other));
        let Some(place) = corners(point, &text).into_iter().find(free) else { continue };
        taken.push(place);
        let _ = writeln!(
            svg,
            "<text class=\"label {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            colour(point.mode),
            place[0],
            place[3] - 2.0,
            escape(&text)
        );
    }
    svg
}

/// Where a label may be: above right, below left, below right, above left.
fn corners(point: &Point<'_>, text: &str) -> [Place; 4] {
    // A digit of 11 pixels is about 6.4 wide.
    let (width, height) = (6.4 * text.chars().count() as f64 + 2.0, 12.0);
    [[true, false], [false, true], [true, true], [false, false]].map(|[right, down]| {
        let left = if right { point.x + 7.0 } else { point.x - 7.0 - width };
        let top = if down { point.y + 4.0 } else { point.y - 4.0 - height };
        [left, top, left + width, top + height]
    })
}

fn is_inside(place: &Place) -> bool {
    place[0] > LEFT && place[2] < WIDTH && place[1] > TOP - 16.0 && place[3] < BOTTOM
}

/// A line between two points, as small rectangles.
fn dots(from: &Point<'_>, to: &Point<'_>) -> Vec<Place> {
    let steps = ((to.x - from.x).hypot(to.y - from.y) / 3.0).ceil().max(1.0);
    let dot = |step: usize| {
        let share = step as f64 / steps;
        let (x, y) = (from.x + share * (to.x - from.x), from.y + share * (to.y - from.y));
        [x - 1.0, y - 1.0, x + 1.0, y + 1.0]
    };
    (0..=steps as usize).map(dot).collect()
}

fn overlap(a: &Place, b: &Place) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}
