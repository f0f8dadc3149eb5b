//! Whatever is changed in a file, it is refused.

use proptest::prelude::*;

use crate::exercise::{exercise, open};
use crate::sample::{Sample, hybrid, tiny};

fn both() -> [Sample; 2] {
    [tiny(), hybrid()]
}

#[test]
fn a_file_as_it_was_written_is_accepted() {
    for sample in both() {
        assert_eq!(open(&sample.file()), Ok(()), "{} sections", sample.sections.len());
    }
}

#[test]
fn any_flipped_bit_is_refused() {
    for sample in both() {
        let mut file = sample.file();
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&file).is_err(), "bit {bit}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn any_truncation_is_refused() {
    for sample in both() {
        let file = sample.file();
        for len in 0..file.len() {
            assert!(open(&file[..len]).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn any_appended_byte_is_refused() {
    let mut file = tiny().file();
    file.push(0);
    for byte in 0..=255 {
        *file.last_mut().unwrap() = byte;
        assert!(open(&file).is_err(), "{byte} appended");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_other_bytes_in_a_row_are_refused(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let written = hybrid().file();
        let mut file = written.clone();
        let at = at.index(file.len() - bytes.len());
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        prop_assert!(open(&file).is_err() || file == written, "{} bytes at {at}", bytes.len());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn random_headers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut file = vec![0; 64];
        file[12..16].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        file.extend(bytes);
        exercise(&file);
    }
}
