//! Comma-separated values, with quoted fields.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use csv_core::{ReadFieldResult, Reader};

/// The rows of a file with a header.
#[derive(Debug)]
pub(super) struct Table {
    columns: HashMap<String, usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads `text`; every row has as many fields as the header.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut records = records(text)?.into_iter();
        let header = records.next().context("empty; expected a header")?;
        let columns: HashMap<_, _> =
            header.into_iter().enumerate().map(|(index, name)| (name, index)).collect();
        let rows: Vec<_> = records.collect();
        for (index, row) in rows.iter().enumerate() {
            let (number, found, expected) = (index + 1, row.len(), columns.len());
            ensure!(
                found == expected,
                "row {number}: {found} fields; expected {expected}, as in the header"
            );
        }
        Ok(Self { columns, rows })
    }

    /// Rows behind the header.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The field of a row, from 0, in a column.
    pub(super) fn field(&self, row: usize, column: &str) -> Result<&str> {
        let index = self.columns.get(column).with_context(|| format!("no column {column:?}"))?;
        Ok(&self.rows[row][*index])
    }
}

/// Fields of each record; blank lines are none.
fn records(text: &str) -> Result<Vec<Vec<String>>> {
    let mut reader = Reader::new();
    let mut input = text.as_bytes();
    // A field is never longer than what it was written as.
    let mut output = vec![0; text.len()];
    let (mut records, mut record) = (Vec::new(), Vec::new());
    let mut filled = 0;
    loop {
        let (result, read, written) = reader.read_field(input, &mut output[filled..]);
        input = &input[read..];
        filled += written;
        match result {
            // An empty input tells the reader that there is no more.
            ReadFieldResult::InputEmpty => {}
            ReadFieldResult::OutputFull => anyhow::bail!("a field is longer than the file"),
            ReadFieldResult::Field { record_end } => {
                record.push(std::str::from_utf8(&output[..filled])?.to_owned());
                filled = 0;
                if record_end {
                    records.push(std::mem::take(&mut record));
                }
            }
            ReadFieldResult::End => return Ok(records),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas_quotes_and_lines() {
        let text = "a,b\r\n\"1, \"\"2\"\"\",\"x\ny\"\n\nä,\n";
        let table = Table::read(text).unwrap();
        assert_eq!(table.len(), 2, "the blank line is none");
        assert_eq!(table.field(0, "a").unwrap(), "1, \"2\"", "commas and quotes");
        assert_eq!(table.field(0, "b").unwrap(), "x\ny", "two lines");
        assert_eq!([table.field(1, "a").unwrap(), table.field(1, "b").unwrap()], ["ä", ""]);
    }

    #[test]
    fn a_file_may_end_without_a_line_end() {
        let table = Table::read("a,b\n1,2").unwrap();
        assert_eq!(table.field(0, "b").unwrap(), "2", "the last field");
        assert!(table.field(0, "c").is_err(), "no such column");
        assert!(Table::read("").is_err(), "no header");
    }
}
