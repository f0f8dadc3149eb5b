//! The bits of some cases, on every instruction set of every machine.
//!
//! A hash that changes is a change of the numbers that every model gives: it needs a reason, not an update.

use super::attention::Attend;
use super::conv::Conv;
use super::dual::Dual;
use super::elementwise::{Elementwise, Which};
use super::norm::Norm;
use super::rope::Rope;
use super::scan::Scan;
use super::support::{Case, Cuts, isas};

/// FNV-1a over the bits of the results.
fn hash(numbers: &[f32]) -> u64 {
    numbers
        .iter()
        .flat_map(|x| x.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn note(&mut self, name: &str, case: &impl Case, want: u64) {
        for isa in isas() {
            let got = hash(&case.run(isa, Cuts::WHOLE));
            if got != want {
                self.0.push(format!("{name} on {isa:?}: {got:#018x}"));
            }
        }
    }
}

#[test]
fn every_operator_has_the_bits_of_every_machine() {
    let mut found = Differences::default();

    let norm = Norm { gated: false, group: 75, groups: 2, repeats: 2, seed: 1 };
    found.note("rms_norm", &norm, 0x3832_ff39_5944_ebfb);
    found.note("gated_rms_norm", &Norm { gated: true, ..norm }, 0x6a42_d154_4680_6d2a);

    let gate = Elementwise { which: Which::SwiGlu, width: 1003, seed: 2 };
    found.note("swiglu", &gate, 0x2200_f689_9a7c_d0e6);
    found.note("silu", &Elementwise { which: Which::Silu, ..gate }, 0xc653_ba44_a801_ef93);

    found.note(
        "rope",
        &Rope { n_heads: 3, half: 37, position: 54_321, seed: 3 },
        0x787a_46cd_dfe7_5550,
    );

    let conv = Conv { rows: 7, channels: 99, d_conv: 4, bias: true, silu: true, seed: 4 };
    found.note("causal_conv", &conv, 0x938b_7b70_a0e6_911f);
    found.note(
        "selective_scan",
        &Scan { rows: 6, channels: 83, d_state: 16, seed: 5 },
        0xf45b_e764_3c4e_bd21,
    );
    let (heads_per_group, d_state, head_dim) = (2, 17, 87);
    let dual = Dual { rows: 5, n_groups: 2, heads_per_group, d_state, head_dim, seed: 6 };
    found.note("state_space_dual", &dual, 0x4165_4c1b_b6b6_4570);

    let (rows, n_kv_heads, group, head_dim, window) = (80, 2, 5, 24, 41);
    let half = Attend { rows, n_kv_heads, group, head_dim, window, half: true, seed: 7 };
    found.note("attention, f16", &half, 0x11d9_1f87_6140_7e78);
    found.note("attention, f32", &Attend { half: false, window: 0, ..half }, 0xe700_17aa_a274_e390);

    assert!(found.0.is_empty(), "{:#?}", found.0);
}
