//! Prints the grid of simulated boards, texts and budgets: `cargo run --release -p dynamax-governor --features std --example
//! simulate [SEEDS]`.

fn main() {
    let seeds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20);
    print!("{}", dynamax_governor::sim::table(seeds));
}
