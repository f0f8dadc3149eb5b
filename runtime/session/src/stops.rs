//! Ends a stream of text at the first of some strings, which may arrive in pieces.

/// Holds text back while it may turn out to be the start of a stop string.
#[derive(Clone, Debug)]
pub struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    /// Watches for `stops`; empty ones are left out.
    #[must_use]
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let stops = stops.into_iter().map(Into::into).filter(|stop: &String| !stop.is_empty());
        Self { stops: stops.collect(), held: String::new() }
    }

    /// Takes the next piece: returns the text that is certain, and whether a stop string was met. What stands behind
    /// one is dropped, and so is the stop string.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let certain = self.held.len() - self.uncertain();
        let rest = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is still held back when the text ends.
    #[must_use]
    pub fn end(self) -> String {
        self.held
    }

    /// Bytes at the end that may be the start of a stop string.
    fn uncertain(&self) -> usize {
        let starts = |start: usize| {
            self.held.is_char_boundary(start)
                && self.stops.iter().any(|stop| stop.starts_with(&self.held[start..]))
        };
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let first = self.held.len().saturating_sub(longest.saturating_sub(1));
        (first..self.held.len()).find(|start| starts(*start)).map_or(0, |at| self.held.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes pieces until a stop: all that was shown, and whether it stopped.
    fn shown(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut watch = Stops::new(stops.iter().copied());
        let mut text = String::new();
        for piece in pieces {
            let (certain, stopped) = watch.push(piece);
            text += &certain;
            if stopped {
                return (text, true);
            }
        }
        (text + &watch.end(), false)
    }

    #[test]
    fn a_stop_string_in_pieces_is_met() {
        let stops = ["\nUser:", "###"];
        assert_eq!(shown(&stops, &["Hello", " you\nUs", "er", ": me"]), ("Hello you".into(), true));
        assert_eq!(shown(&stops, &["a#", "#", "b ##", "# c"]), ("a##b ".into(), true), "late");
    }

    #[test]
    fn the_first_of_several_ends_the_text() {
        assert_eq!(shown(&["cd", "b"], &["abcd"]), ("a".into(), true), "b comes first");
    }

    #[test]
    fn text_without_a_stop_string_is_whole() {
        let pieces = ["né", "é ab", "ab", "aé"];
        assert_eq!(shown(&["abc", "éa"], &pieces), (pieces.concat(), false), "nothing lost");
        assert_eq!(shown(&[], &["a", "b"]), ("ab".into(), false), "no stops");
        assert_eq!(shown(&[""], &["a"]), ("a".into(), false), "an empty one stops nothing");
    }

    #[test]
    fn only_what_may_be_a_stop_is_held_back() {
        let mut watch = Stops::new(["END"]);
        assert_eq!(watch.push("the E"), ("the ".into(), false), "E may go on");
        assert_eq!(watch.push("N"), (String::new(), false), "EN may go on");
        assert_eq!(watch.push("x"), ("ENx".into(), false), "it did not");
    }
}
