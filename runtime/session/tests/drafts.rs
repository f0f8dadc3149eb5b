//! What drafts gain on the demos, by what a further row of a pass costs: the same on any machine, however busy it is.
//!
//! The decoder, its exits and the governor are real, and so are the answers. The clock counts products: a token takes one unit, and each further
//! row of a pass a share of what it would take alone. `cargo test --release -p dynamax-session --test drafts -- --nocapture` shows the table.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;
use std::time::Duration;

use dynamax_config::{DeviceConfig, ExitMode};
use dynamax_engine::{Decoder, Outcome};
use dynamax_governor::Microjoules;
use dynamax_session::budget::Budget;
use dynamax_session::machine::Machine;
use dynamax_session::rounds::Drafter;
use dynamax_session::traffic::Ladder;
use dynamax_session::{Options, Rounds, Session, Source, Text};

/// Sentences that the demos have not read, in the tone of the books that they have.
const PROMPTS: [&str; 8] = [
    "Once upon a time a miller had three daughters, and the youngest of them could not be made to laugh.",
    "The lighthouse keeper looked at the glass and said that there would be wind before the morning.",
    "My dear cousin, you cannot think how dull the town has been since all of you went away to the sea.",
    "\"I observe,\" said the doctor, \"that you have come by the early train, and without your umbrella.\"",
    "The general rode along the line of his men, and as he came to the bridge he saw that it was gone.",
    "The cat sat upon the clock and asked whether anybody had thought of the hour that comes after the last.",
    "On the third day the ice closed behind the ship, and the captain ordered all hands to the boats.",
    "There was no news from the army, and at dinner everybody spoke of the price of candles instead.",
];

/// What makes measured costs larger than they are: a fifth of noise, a core that is lost in one step of 25, and caches that the first two passes
/// of each number of rows find cold.
struct Disturbance {
    random: u64,
    seen: [u8; 64],
}

impl Disturbance {
    fn disturb(&mut self, rows: usize, cost: f64) -> f64 {
        let noise = 0.8 + 0.4 * self.number();
        let lost = if self.number() < 0.04 { 1.0 + 1.5 * self.number() } else { 1.0 };
        let seen = &mut self.seen[rows.min(63)];
        let cold = if *seen < 2 { 1.3 } else { 1.0 };
        *seen = seen.saturating_add(1);
        cost * noise * lost * cold
    }

    /// From 0 to 1.
    fn number(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 40) as f64 / f64::from(1 << 24)
    }
}

/// Units of cost in a token at full depth.
const TOKEN: f64 = 1000.0;

/// Drafts as exits say, and counts what steps cost.
struct Counting {
    /// Share of a token's products up to the end of each segment, and that of the head.
    depth: Vec<f64>,
    head: f64,
    /// Cost of a further row, in what it would cost alone.
    row: f64,
    /// Segments behind which drafts wait.
    waiting: Vec<usize>,
    cost: f64,
    disturbance: Option<Disturbance>,
}

impl Counting {
    fn new(session: &Session<'_>, row: f64, disturbance: Option<Disturbance>) -> Self {
        let ladder = Ladder::of(session.model().program());
        let head = ladder.head.macs as f64;
        let all = head + ladder.segments.iter().map(|segment| segment.macs as f64).sum::<f64>();
        let mut sum = 0.0;
        let depth = ladder.segments.iter().map(|segment| {
            sum += segment.macs as f64 / all;
            sum
        });
        let depth = depth.collect();
        Self { depth, head: head / all, row, waiting: Vec::new(), cost: 0.0, disturbance }
    }

    fn step(&mut self, outcome: &Outcome) -> f64 {
        if outcome.drafts > 0 {
            return 1.0 + self.row * f64::from(outcome.drafts);
        }
        if usize::from(outcome.reach) + 1 < self.depth.len() {
            self.waiting.push(outcome.segment.into());
            return self.depth[usize::from(outcome.segment)] + self.head;
        }
        let rest = |segment: usize| 1.0 - self.depth[segment];
        1.0 + self.row * self.waiting.drain(..).map(rest).sum::<f64>()
    }
}

impl Drafter for Counting {
    fn draft(&mut self, decoder: &mut Decoder<'_>, _drafts: &[u32]) -> u32 {
        decoder.best()
    }

    fn hear(&mut self, decoder: &mut Decoder<'_>) {
        _ = decoder.best();
    }

    fn stepped(&mut self, outcome: &Outcome, _: Duration) -> Option<Microjoules> {
        let rows = outcome.drafts as usize + self.waiting.len();
        let cost = TOKEN * self.step(outcome);
        self.cost += cost;
        let disturbance = self.disturbance.as_mut();
        let measured = disturbance.map_or(cost, |disturbance| disturbance.disturb(rows, cost));
        Some(Microjoules(measured as u64))
    }
}

/// Tokens for the cost of one at full depth, over all answers, where a further row costs this share of a token, and may seem to cost more.
fn gain(session: &Session<'_>, (row, is_disturbed): (f64, bool), tokens: usize) -> f64 {
    let mut config = DeviceConfig::default();
    config.exit.mode = ExitMode::Verified;
    // What is budgeted is what counts.
    config.budget.energy_per_token = Some(Microjoules(TOKEN as u64 * 100));
    let machine = Machine { threads: 1, root: Path::new("no-board"), profile: None };
    let program = session.model();
    let budget = Budget::new(&session.bundle, program.program(), &config, &machine).unwrap();
    let text = Text::of(&session.bundle).unwrap();
    let mut memory = session.memory();
    let mut decoder = session.decoder(&mut memory);
    let mut cost = 0.0;
    for (random, prompt) in (0..).zip(PROMPTS) {
        let disturbance = is_disturbed.then_some(Disturbance { random, seen: [0; 64] });
        let mut counting = Counting::new(session, row, disturbance);
        let mut rounds = Rounds::new(budget.clone());
        decoder.use_exits(Some(rounds.settings())).unwrap();
        let mut said = text.encode(prompt).unwrap();
        decoder.take(&said).unwrap();
        rounds.begin_sequence();
        for made in 0..tokens {
            let token = decoder.best();
            let room = tokens - made - 1;
            let goes_on = rounds.step(&mut decoder, (&said, token), room, &mut counting).unwrap();
            assert!(goes_on, "no budget stops it");
            said.push(token);
        }
        let _ = rounds.end_sequence();
        cost += counting.cost;
    }
    (PROMPTS.len() * tokens) as f64 * TOKEN / cost
}

#[test]
fn demos_gain_where_rows_are_cheap_and_lose_next_to_nothing_where_they_are_dear() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/cli/demo");
    for demo in ["transformer", "mamba2"] {
        let source = Source::open(&folder.join(format!("{demo}.dmx"))).unwrap();
        let threads = Some(1.try_into().unwrap());
        let options = Options { threads, drafts: Some(8), ..Options::default() };
        let session = Session::open(&source, &options).unwrap();
        for (row, tokens, least, least_disturbed) in [
            (0.2, 256, 1.8, 1.7),
            (0.3, 256, 1.6, 1.58),
            (0.4, 256, 1.4, 1.35),
            (0.5, 256, 1.25, 1.25),
            (0.6, 256, 1.15, 1.1),
            (0.8, 256, 0.99, 0.98),
            (1.2, 512, 0.98, 0.98),
        ] {
            let [quiet, disturbed] =
                [false, true].map(|is_disturbed| gain(&session, (row, is_disturbed), tokens));
            println!("{demo}: a row costs {row:.1}: {quiet:.2}, disturbed {disturbed:.2}");
            assert!(quiet >= least, "{demo}: a row costs {row:.1}, {quiet:.3} times full depth");
            assert!(
                disturbed >= least_disturbed,
                "{demo}: a row costs {row:.1} and is disturbed, {disturbed:.3} times full depth"
            );
        }
    }
}
