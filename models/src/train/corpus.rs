//! Texts as one stream of tokens to train on, and one that is held out.

use std::path::PathBuf;

use tokenizers::Tokenizer;

use super::TrainError;
use super::tokenizer::encode;

/// One in this many tokens of each text is held out: its end.
const HELD_OUT_SHARE: usize = 50;

/// Reads texts.
///
/// # Errors
///
/// A file that is missing or not UTF-8.
pub fn read_texts(paths: &[PathBuf]) -> Result<Vec<String>, TrainError> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .map_err(|error| TrainError::Text { path: path.clone(), error })?;
        // A mark of the byte order is no part of the text, and line ends differ by nothing but their origin.
        Ok(text.trim_start_matches('\u{feff}').replace("\r\n", "\n"))
    };
    paths.iter().map(read).collect()
}

/// Tokens of all texts, each text ended by the token for it.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// To train on.
    pub train: Vec<u32>,
    /// The end of each text, never trained on.
    pub held_out: Vec<u32>,
    /// Tells this corpus from others.
    pub fingerprint: u64,
}

impl Corpus {
    /// Encodes `texts`, each of which `end` ends, for sequences of `seq_len` tokens.
    ///
    /// # Errors
    ///
    /// Less text than one sequence to train on and one to hold out.
    pub fn new(
        texts: &[String],
        tokenizer: &Tokenizer,
        end: Option<u32>,
        seq_len: usize,
    ) -> Result<Self, TrainError> {
        let (mut train, mut held_out) = (Vec::new(), Vec::new());
        for text in texts {
            let mut ids = encode(tokenizer, text)?;
            ids.extend(end);
            // Enough for one sequence at least: a shorter rest would tell nothing.
            let held = (ids.len() / HELD_OUT_SHARE).max(seq_len + 1).min(ids.len() / 2);
            held_out.extend(ids.drain(ids.len() - held..));
            // What is trained on ends too: else no model would learn that texts do.
            train.extend(ids.into_iter().chain(end));
        }
        if train.len() <= seq_len || held_out.len() <= seq_len {
            let (found, need) = (train.len() + held_out.len(), 2 * (seq_len + 1));
            return Err(TrainError::TooLittleText { found, need, seq_len });
        }
        let fingerprint = fingerprint(train.iter().chain(&held_out));
        Ok(Self { train, held_out, fingerprint })
    }

    /// Checks that a model with this many tokens knows every token.
    ///
    /// # Errors
    ///
    /// A token that it does not know.
    pub fn check(&self, vocab_size: usize) -> Result<(), TrainError> {
        let unknown =
            self.train.iter().chain(&self.held_out).find(|id| **id as usize >= vocab_size);
        unknown.map_or(Ok(()), |id| {
            Err(TrainError::Tokenizer(format!(
                "it makes token {id} of the texts, and the model has {vocab_size}; take the model's own tokenizer.json"
            )))
        })
    }
}

/// FNV-1a over ids.
fn fingerprint<'a>(ids: impl Iterator<Item = &'a u32>) -> u64 {
    ids.fold(0xcbf2_9ce4_8422_2325, |hash, id| {
        (hash ^ u64::from(*id)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::tokenizer::train_tokenizer;

    #[test]
    fn the_end_of_each_text_is_held_out() {
        let texts = ["aa bb ".repeat(100), "cc dd ".repeat(100)];
        let tokenizer = train_tokenizer(&texts, 260).unwrap();
        let corpus = Corpus::new(&texts, &tokenizer, Some(0), 4).unwrap();
        let text = tokenizer.decode(&corpus.held_out, false).unwrap();
        assert!(text.contains("bb") && text.contains("dd"), "of both: {text}");
        let all =
            texts.iter().map(|text| encode(&tokenizer, text).unwrap().len() + 1).sum::<usize>();
        assert_eq!(
            corpus.train.len() + corpus.held_out.len(),
            all + 2,
            "every token once, and both parts end"
        );
        assert_eq!(
            corpus.train.iter().filter(|id| **id == 0).count(),
            2,
            "training sees texts end"
        );
        assert!(corpus.held_out.len() < all / 10, "most of it is trained on");
    }

    #[test]
    fn too_little_text_says_how_much_is_needed() {
        let texts = ["a short one".to_owned()];
        let tokenizer = train_tokenizer(&texts, 257).unwrap();
        let error = Corpus::new(&texts, &tokenizer, None, 64).unwrap_err().to_string();
        assert!(error.contains("need at least 130"), "{error}");
    }
}
