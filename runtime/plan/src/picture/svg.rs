//! The picture for a report.

use alloc::format;
use alloc::string::String;

use super::{readable, time_range, title};
use crate::Buffer;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
/// Room for the title, the labels of the bytes, those of the steps, and the right edge.
const TOP: f64 = 52.0;
const LEFT: f64 = 84.0;
const BOTTOM: f64 = 52.0;
const RIGHT: f64 = 24.0;
/// Marks on an axis, at most.
const MARKS: u64 = 8;

/// Fills of the buffers by index: neighbours differ much. Plain hexadecimal, which every converter understands.
const FILLS: [&str; 12] = [
    "#8fb8e8", "#f2b880", "#a3d3a0", "#d9a7d8", "#f0d77b", "#86cfcb", "#ee9f9a", "#b7b3ea",
    "#c9d67f", "#f3b3cb", "#9ccbe3", "#d6bfa0",
];

/// Text and lines follow the reader's colour scheme; the buffers are of middling lightness, and look well on both.
const STYLE: &str = "\
<style>\
.page{fill:#ffffff}.plot{fill:#f4f5f7}.text{fill:#24292f}.faint{fill:#6a737d}\
.grid{stroke:#d9dde2;stroke-width:1}.buffer{stroke:#ffffff;stroke-width:0.75}.label{fill:#15202b}\
@media (prefers-color-scheme:dark){\
.page{fill:#15181d}.plot{fill:#1d2127}.text{fill:#e4e7eb}.faint{fill:#9aa3ad}\
.grid{stroke:#323840}.buffer{stroke:#15181d}}\
text{font-family:ui-sans-serif,system-ui,Helvetica,Arial,sans-serif;font-size:12px}\
.label{font-size:11px}.title{font-size:15px;font-weight:600}\
</style>\n";

/// Where steps and bytes lie on the page.
struct Frame {
    first_step: u32,
    steps: f64,
    arena_bytes: f64,
}

impl Frame {
    fn x(&self, step: u32) -> f64 {
        LEFT + f64::from(step.saturating_sub(self.first_step)) / self.steps * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, byte: u64) -> f64 {
        HEIGHT - BOTTOM - byte as f64 / self.arena_bytes * (HEIGHT - TOP - BOTTOM)
    }
}

/// Draws the plan as an SVG image of 960 × 540: one rectangle for each buffer that is ever live, with its index and
/// its size as a tooltip, and as a label where there is room.
///
/// Axes are in operator steps and in bytes; the title compares the arena with the lower bound. The colours follow the
/// reader's preference of light or dark. Coordinates have two decimals, so the text is the same everywhere.
///
/// # Panics
///
/// Panics if there is not one offset for each buffer.
#[must_use]
pub fn svg_picture(buffers: &[Buffer], offsets: &[u64], arena_bytes: u64) -> String {
    assert_eq!(buffers.len(), offsets.len(), "one offset for each buffer");
    let (lower, upper) = time_range(buffers);
    let frame = Frame {
        first_step: lower,
        steps: f64::from(upper - lower),
        arena_bytes: arena_bytes.max(1) as f64,
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n"
    );
    svg += STYLE;
    svg += &format!("<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n");
    svg += &format!(
        "<text class=\"title text\" x=\"{LEFT}\" y=\"30\">{}</text>\n",
        title(buffers, arena_bytes)
    );
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    svg += &format!(
        "<rect class=\"plot\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    svg += &byte_axis(&frame, arena_bytes);
    svg += &step_axis(&frame, lower, upper);
    for (index, (buffer, &offset)) in buffers.iter().zip(offsets).enumerate() {
        if buffer.is_ever_live() {
            svg += &rectangle(&frame, index, buffer, offset);
        }
    }
    svg += "</svg>\n";
    svg
}

fn byte_axis(frame: &Frame, arena_bytes: u64) -> String {
    let mut svg = String::new();
    let distance = round_distance(arena_bytes, 2);
    let marks = (0..=MARKS * 2)
        .map(|mark| mark.saturating_mul(distance))
        .take_while(|&byte| byte <= arena_bytes);
    for byte in marks {
        let (y, right) = (frame.y(byte), WIDTH - RIGHT);
        svg += &format!("<path class=\"grid\" d=\"M{LEFT} {y:.2}H{right}\"/>\n");
        let (x, y) = (LEFT - 8.0, y + 4.0);
        svg += &format!(
            "<text class=\"faint\" x=\"{x}\" y=\"{y:.2}\" text-anchor=\"end\">{}</text>\n",
            readable(byte)
        );
    }
    svg
}

fn step_axis(frame: &Frame, lower: u32, upper: u32) -> String {
    let mut svg = String::new();
    let distance = round_distance(u64::from(upper - lower), 10);
    let first = u64::from(lower).div_ceil(distance);
    let marks = (first..=first + MARKS).map(|mark| mark * distance);
    for step in marks.filter_map(|step| u32::try_from(step).ok()).filter(|&step| step <= upper) {
        let (x, y) = (frame.x(step), HEIGHT - BOTTOM + 18.0);
        svg += &format!(
            "<text class=\"faint\" x=\"{x:.2}\" y=\"{y}\" text-anchor=\"middle\">{step}</text>\n"
        );
    }
    let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0);
    svg += &format!(
        "<text class=\"faint\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">operator step</text>\n"
    );
    svg
}

/// The distance of marks on an axis of this length: a power of `base`, or for tens also 2 and 5 times one.
fn round_distance(length: u64, base: u64) -> u64 {
    let factors: &[u64] = if base == 10 { &[1, 2, 5] } else { &[1] };
    let mut power: u64 = 1;
    loop {
        for factor in factors {
            let distance = power.saturating_mul(*factor);
            if length / distance <= MARKS {
                return distance;
            }
        }
        power = power.saturating_mul(base);
    }
}

fn rectangle(frame: &Frame, index: usize, buffer: &Buffer, offset: u64) -> String {
    let end = offset.saturating_add(buffer.size);
    let (x, y) = (frame.x(buffer.lower), frame.y(end));
    let (width, height) = (frame.x(buffer.upper) - x, frame.y(offset) - y);
    let fill = FILLS[index % FILLS.len()];
    let size = readable(buffer.size);
    let (lower, upper) = (buffer.lower, buffer.upper);
    let mut svg = format!(
        "<rect class=\"buffer\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" rx=\"2\" \
         fill=\"{fill}\"><title>buffer {index}: {} bytes ({size}) at {offset}, steps {lower}..{upper}\
         </title></rect>\n",
        buffer.size
    );
    let (middle_x, middle_y) = (x + width / 2.0, y + height / 2.0 + 4.0);
    let long = format!("{index}: {size}");
    let short = format!("{index}");
    let has_room = |text: &str| height >= 14.0 && width >= 7.0 * text.len() as f64 + 6.0;
    if let Some(text) = [long, short].into_iter().find(|text| has_room(text)) {
        svg += &format!(
            "<text class=\"label\" x=\"{middle_x:.2}\" y=\"{middle_y:.2}\" text-anchor=\"middle\" \
             pointer-events=\"none\">{text}</text>\n"
        );
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svg_has_one_rectangle_for_each_live_buffer() {
        let buffers = [
            Buffer { lower: 0, upper: 2, size: 4096 },
            Buffer { lower: 2, upper: 2, size: 4096 },
            Buffer { lower: 1, upper: 3, size: 96 },
        ];
        let svg = svg_picture(&buffers, &[0, 0, 4096], 4192);
        assert_eq!(svg.matches("class=\"buffer\"").count(), 2, "the second is never live");
        assert!(svg.contains("buffer 2: 96 bytes (96 B) at 4096, steps 1..3"), "tooltip");
        assert!(svg.contains("no arena is smaller"), "title");
    }

    #[test]
    fn marks_of_an_axis_are_round_and_few() {
        assert_eq!(
            [7, 80, 81, 400, 401].map(|length| round_distance(length, 10)),
            [1, 10, 10, 50, 50],
            "decimal"
        );
        assert_eq!(round_distance(1 << 20, 2), 1 << 17, "binary");
        assert!(u64::MAX / round_distance(u64::MAX, 10) <= MARKS, "the longest");
    }

    #[test]
    fn svg_of_nothing_and_of_the_largest_sizes_is_drawn() {
        assert!(svg_picture(&[], &[], 0).ends_with("</svg>\n"), "nothing");
        let largest = [Buffer { lower: 0, upper: u32::MAX, size: u64::MAX }];
        assert!(svg_picture(&largest, &[0], u64::MAX).ends_with("</svg>\n"), "the largest");
    }
}
