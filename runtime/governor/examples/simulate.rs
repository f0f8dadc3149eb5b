//! Prints the grid of simulated boards, texts and budgets: `cargo run --release -p dynamax-governor --features std --example
//! simulate [SEEDS]`.

use dynamax_governor::sim;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20);
    print!("{}", sim::table(&sim::grid(seeds)));
}
