//! `docs/FORMAT.md` shows a real bundle.

use std::fmt::Write;
use std::path::PathBuf;

use crate::sample::tiny;

/// The dump as the document has it, without the notes at its right.
fn dump(file: &[u8]) -> Vec<String> {
    let line = |(row, bytes): (usize, &[u8])| {
        let mut line = format!("{:04x}", row * 16);
        bytes.iter().for_each(|byte| write!(line, " {byte:02x}").unwrap());
        line
    };
    file.chunks(16).enumerate().map(line).collect()
}

#[test]
fn the_dump_in_the_format_document_is_the_smallest_bundle() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/FORMAT.md");
    let document = std::fs::read_to_string(path).unwrap();
    let file = tiny().file();
    let is_row = |line: &str| {
        line.get(..4).is_some_and(|at| at.bytes().all(|digit| digit.is_ascii_hexdigit()))
            && line.as_bytes().get(4) == Some(&b' ')
    };
    let shown: Vec<&str> = document.lines().filter(|line| is_row(line)).collect();
    let expected = dump(&file);
    for line in &expected {
        println!("{line}");
    }
    let first = shown.first().map(|line| line.starts_with(&expected[0]));
    assert_eq!(first, Some(true), "the dump starts at 0; above is what it should be");
    for line in shown {
        let found = expected.iter().any(|row| line.starts_with(row.as_str()));
        assert!(found, "not in the bundle: {line}; above is what it should be");
    }
    // The content of weights is cut out of the document; the header is there in full.
    let first_section = tiny().writer().offset(0) as usize;
    for row in &expected[..first_section / 16] {
        assert!(document.contains(row.as_str()), "not in the document: {row}");
    }
    assert!(document.contains(&format!("{} bytes in all", file.len())), "{} bytes", file.len());
}
