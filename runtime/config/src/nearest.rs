//! Which known word was meant.

/// The known word that is fewest edits away, if it is few for the word's length.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let (edits, best) = known.into_iter().map(|name| (edits(word, name), name)).min()?;
    (edits <= 1 + word.chars().count().max(best.chars().count()) / 3).then_some(best)
}

/// Fewest insertions, removals and replacements that turn `a` into `b` (Levenshtein's distance, row by row).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3, "insertions");
        assert_eq!(edits("kitten", "sitting"), 3, "the textbook's");
        assert_eq!(edits("window", "window"), 0, "none");
    }

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["energy_per_token", "latency_per_token", "window"];
        assert_eq!(nearest("energy_pre_token", known), Some("energy_per_token"), "swapped letters");
        assert_eq!(nearest("windw", known), Some("window"), "a letter left out");
        assert_eq!(nearest("colour", known), None, "nothing like it");
    }
}
