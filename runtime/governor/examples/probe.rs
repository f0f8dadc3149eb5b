use dynamax_governor::sim::*;
use dynamax_governor::*;
struct Spy {
    g: Governor,
    d: Option<Decision>,
    by: [u32; 6],
    capped: [u32; 6],
    n: u32,
    dee: [u32; 6],
    end: u32,
}
impl Policy for Spy {
    fn leaves_behind(&mut self, s: usize, score: f32, e: u32) -> bool {
        let d = self.d.unwrap();
        let r = d.leaves_behind(s, score, e);
        if r && score < d.threshold {
            if d.may_start(s + 1, 0) { self.by[s] += 1 } else { self.capped[s] += 1 }
        }
        r
    }
    fn begin(&mut self, c: u32) {
        let d = self.g.decide(c);
        self.dee[d.last_segment as usize] += 1;
        self.d = Some(d);
        self.n += 1;
        if self.n % 100 == 0 {
            let (f, _) = self.g.full_depth_costs(c);
            println!(
                "{} pos {:.2} thr {:.3} deep {} mode {:?} full {:?} mean {:?} D {:?} fac {:?}",
                self.n,
                self.g.position(),
                d.threshold,
                d.last_segment,
                d.mode,
                f,
                self.g.mean_energy(),
                d.deadline_us,
                self.g.disagreement_factor().0
            );
        }
    }
    fn end(&mut self, s: Sample) {
        self.g.observe(s);
    }
    fn position(&self) -> f32 {
        self.g.position()
    }
}
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let b = &BOARDS[a[0]];
    let t = &TEXTS[a[1]];
    let k = &ASKS[a[2]];
    let cal = calibrate(t, 20000, 4711);
    let full = b.model().full(context_bucket(750));
    let (bu, de) = (full.uj * k.energy, full.us * k.deadline);
    println!("budget {bu} deadline {de} full {full:?}");
    for l in cal.levels() {
        println!("{:.3} {:.4} {:?}", l.threshold, l.agreement, &l.exits[..6]);
    }
    for s in 0..6 {
        print!("{:.3} {:.3} ", cal.forced(s), b.model().to_exit(s, 2).uj / full.uj);
    }
    println!();
    let c = GovernorConfig {
        energy_per_token: Some(Microjoules(bu as u64)),
        latency_per_token: Some(Microseconds(de as u64)),
        min_agreement: k.floor,
        rows_that_may_wait: b.rows_that_may_wait,
        ..Default::default()
    };
    let g = Governor::new(c, b.believed(1), cal, Metering::Measured).unwrap();
    let toks = t.tokens(1500, 1);
    let mut s = Spy { g, d: None, by: [0; 6], capped: [0; 6], n: 0, dee: [0; 6], end: 0 };
    let o = run(&mut s, b, &toks, (64, de), 1);
    println!(
        "{o:?}\nby latest start {:?}\ncapped {:?}\ndeepest {:?} {}",
        s.by, s.capped, s.dee, s.end
    );
}
