//! A tokenizer made from the texts themselves: byte pairs over bytes, so that any text has tokens and comes back whole.

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::TrainError;

/// The token that ends a text, and separates texts in training. Its id is 0.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// One token for each byte, and the end of a text.
pub const VOCAB_MIN: usize = 257;

/// Trains a byte-level BPE tokenizer of at most `vocab_size` tokens.
///
/// # Errors
///
/// A vocabulary without room for all bytes, or a failure of the library.
pub fn train_tokenizer(texts: &[String], vocab_size: usize) -> Result<Tokenizer, TrainError> {
    if vocab_size < VOCAB_MIN {
        return Err(TrainError::Vocabulary { found: vocab_size, least: VOCAB_MIN });
    }
    let failed = |error: tokenizers::Error| TrainError::Tokenizer(error.to_string());
    let mut tokenizer = Tokenizer::new(BPE::default());
    // No prefix space: a text comes back as it was, its first word included.
    let bytes = ByteLevel::new(false, false, true);
    tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build();
    let mut trainer = TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).map_err(failed)?;
    Ok(tokenizer)
}

/// The ids of a text, as plain text: nothing in it is special.
///
/// # Errors
///
/// A failure of the library.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TrainError> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| TrainError::Tokenizer(error.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

/// `tokenizer_config.json`, as transformers reads it.
#[must_use]
pub fn tokenizer_config(context: usize) -> serde_json::Value {
    serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "unk_token": null,
        "bos_token": null,
        "add_bos_token": false,
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "model_max_length": context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        let text = "the cat sat on the mat, and the rat sat on the cat. ".repeat(20);
        train_tokenizer(&[text], 300).unwrap()
    });

    proptest! {
        #[test]
        fn any_text_comes_back_whole(text in any::<String>()) {
            let ids = encode(&TOKENIZER, &text).unwrap();
            prop_assert_eq!(TOKENIZER.decode(&ids, false).unwrap(), text);
        }
    }

    #[test]
    fn frequent_words_are_one_token() {
        assert_eq!(encode(&TOKENIZER, " the").unwrap().len(), 1, "it is in every clause");
    }

    #[test]
    fn the_end_of_a_text_is_token_zero_and_ids_stay_below_the_size() {
        assert_eq!(TOKENIZER.token_to_id(END_OF_TEXT), Some(0), "a fixed id");
        assert!(TOKENIZER.get_vocab_size(true) <= 300, "as asked for");
    }

    #[test]
    fn a_vocabulary_without_room_for_bytes_is_refused() {
        let error = train_tokenizer(&["text".into()], 256).unwrap_err();
        assert!(matches!(error, TrainError::Vocabulary { found: 256, least: 257 }), "{error}");
    }
}
