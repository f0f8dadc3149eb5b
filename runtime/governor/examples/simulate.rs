//! Prints the grid of simulated boards, texts and budgets: `cargo run --release -p dynamax-governor --features std --example
//! simulate [SEEDS] [FIRST]`, by default 20 seeds from 1 on.

use dynamax_governor::sim;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().ok());
    let seeds = arguments.next().flatten().unwrap_or(20);
    let first = arguments.next().flatten().unwrap_or(1);
    print!("{}", sim::table(&sim::grid(&(first..first + seeds))));
}
