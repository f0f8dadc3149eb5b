//! What a signature promises: nothing in a signed file can be changed unnoticed, and nobody else can sign.

#[cfg(test)]
#[expect(dead_code, reason = "the other tests of the container use more of it")]
#[path = "bundle/sample.rs"]
mod sample;

#[cfg(test)]
mod tests {
    use dynamax_bundle::{
        Bundle, BundleError, Hash, PublicKey, SIGNATURE_BYTES, SecretKey, TrustError, check_trust,
    };
    use proptest::prelude::*;

    use crate::sample::{Sample, hybrid, tiny};

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_bytes(&[seed; 32])
    }

    fn root(file: &[u8]) -> Hash {
        Bundle::parse(file).unwrap().hash()
    }

    fn signed(sample: &Sample, key: &SecretKey, counter: u64) -> Vec<u8> {
        let mut file = sample.file();
        file.extend(key.sign(root(&file), counter).emit());
        file
    }

    /// A device that trusts key 1 and has run version 5.
    fn device(file: &[u8]) -> Result<u64, String> {
        let bundle = Bundle::parse(file).map_err(|error| error.to_string())?;
        let signature =
            check_trust(&bundle, &[key(1).public()], 5).map_err(|error| error.to_string())?;
        bundle.verify().map_err(|error| error.to_string())?;
        Ok(signature.counter)
    }

    #[test]
    fn a_signed_bundle_is_the_bundle_and_a_trailer() {
        for sample in [tiny(), hybrid()] {
            let (plain, signed) = (sample.file(), signed(&sample, &key(1), 5));
            assert_eq!(&signed[..plain.len()], plain, "signing changes no byte before it");
            assert_eq!(signed.len(), plain.len() + SIGNATURE_BYTES, "one trailer");
            assert_eq!(device(&signed), Ok(5), "trusted");
            assert_eq!(root(&signed), root(&plain), "the same bundle");
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        for sample in [tiny(), hybrid()] {
            let mut file = signed(&sample, &key(1), 9);
            for bit in 0..file.len() * 8 {
                file[bit / 8] ^= 1 << (bit % 8);
                assert!(device(&file).is_err(), "bit {bit}");
                file[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(device(&file), Ok(9), "and as it was");
        }
    }

    #[test]
    fn any_other_length_is_refused() {
        let file = signed(&tiny(), &key(1), 9);
        let content = file.len() - SIGNATURE_BYTES;
        for len in content + 1..file.len() {
            assert!(device(&file[..len]).is_err(), "{len} bytes");
        }
        let twice = [file.as_slice(), &file[content..]].concat();
        assert!(device(&twice).is_err(), "two trailers");
    }

    #[test]
    fn the_four_reasons_are_told_apart() {
        let keys = [key(1).public()];
        let trust = |file: &[u8], least| check_trust(&Bundle::parse(file).unwrap(), &keys, least);
        let id = key(1).public().id();
        assert_eq!(trust(&tiny().file(), 0), Err(TrustError::Unsigned), "nobody");
        let other = key(2).public().id();
        let unknown = Err(TrustError::UnknownKey { key: other });
        assert_eq!(trust(&signed(&tiny(), &key(2), 5), 0), unknown, "another key");
        let mut moved = hybrid().file();
        moved.extend(key(1).sign(root(&tiny().file()), 5).emit());
        assert_eq!(trust(&moved, 0), Err(TrustError::Wrong { key: id }), "of another bundle");
        let mut claimed = tiny().file();
        let mut signature = key(2).sign(root(&claimed), 5);
        signature.key = id;
        claimed.extend(signature.emit());
        assert_eq!(trust(&claimed, 0), Err(TrustError::Wrong { key: id }), "in another's name");
        let file = signed(&tiny(), &key(1), 5);
        assert_eq!(trust(&file, 6), Err(TrustError::Older { found: 5, least: 6 }), "a step back");
        assert_eq!(trust(&file, 5).map(|signature| signature.counter), Ok(5), "the same again");
        let codes: Vec<u16> = [
            TrustError::Unsigned,
            TrustError::UnknownKey { key: id },
            TrustError::Wrong { key: id },
            TrustError::Older { found: 0, least: 1 },
        ]
        .iter()
        .inspect(|error| assert!(error.to_string().contains("; "), "says what to do: {error}"))
        .map(TrustError::code)
        .collect();
        assert_eq!(codes, [51, 52, 53, 54], "and by number");
    }

    #[test]
    fn a_raised_counter_is_not_believed() {
        let mut file = signed(&tiny(), &key(1), 4);
        let at = file.len() - SIGNATURE_BYTES + 8;
        file[at] = 200;
        let error = check_trust(&Bundle::parse(&file).unwrap(), &[key(1).public()], 5);
        assert!(matches!(error, Err(TrustError::Wrong { .. })), "{error:?}");
    }

    #[test]
    fn while_keys_are_rotated_both_are_trusted() {
        let both = [key(1).public(), key(2).public()];
        for signer in [1, 2] {
            let file = signed(&tiny(), &key(signer), 7);
            assert!(check_trust(&Bundle::parse(&file).unwrap(), &both, 0).is_ok(), "key {signer}");
        }
    }

    #[test]
    fn keys_that_vouch_for_anything_are_no_keys() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), None, "the neutral element");
        assert_eq!(PublicKey::from_bytes(&[0; 32]), None, "a point of small order");
        let public = key(1).public();
        assert_eq!(PublicKey::from_bytes(&public.to_bytes()), Some(public), "a real one");
        assert!(!format!("{:?}", key(1)).contains("0101"), "a secret is not shown");
    }

    /// ed25519 is deterministic, so `docs/FORMAT.md` can show a trailer.
    #[test]
    fn the_trailer_in_the_format_document_is_this_one() {
        use std::fmt::Write;
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/FORMAT.md");
        let document = std::fs::read_to_string(path).unwrap();
        let file = signed(&tiny(), &key(1), 5);
        let row = |(row, bytes): (usize, &[u8])| {
            let mut line = format!("+{:02x}", row * 16);
            bytes.iter().for_each(|byte| write!(line, " {byte:02x}").unwrap());
            println!("{line}");
            line
        };
        let rows = file[file.len() - SIGNATURE_BYTES..].chunks(16).enumerate().map(row);
        let missing: Vec<String> = rows.filter(|line| !document.contains(line)).collect();
        assert!(missing.is_empty(), "not in the document: {missing:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_other_trailer_is_believed(
            at in 0..SIGNATURE_BYTES,
            bytes in prop::collection::vec(any::<u8>(), 1..SIGNATURE_BYTES),
        ) {
            let written = signed(&tiny(), &key(1), 5);
            let mut file = written.clone();
            let start = file.len() - SIGNATURE_BYTES + at;
            let len = bytes.len().min(SIGNATURE_BYTES - at);
            file[start..start + len].copy_from_slice(&bytes[..len]);
            prop_assert!(device(&file).is_err() || file == written, "{len} bytes at {at}");
        }

        #[test]
        fn what_is_no_signature_is_no_trailer(bytes in prop::collection::vec(any::<u8>(), SIGNATURE_BYTES)) {
            let mut file = tiny().file();
            file.extend(bytes);
            prop_assert_eq!(Bundle::parse(&file).err(), Some(BundleError::SignatureMagic));
        }
    }
}
