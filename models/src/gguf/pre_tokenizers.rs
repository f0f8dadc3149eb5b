//! How byte-level vocabularies cut a text into words, by the name that `tokenizer.ggml.pre` gives.
//!
//! A name stands for one or more expressions, each of which cuts what the ones before have left. They are those of the
//! tokenizers that the models were published with.

/// How a vocabulary is used.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    /// Expressions that cut a text, in turn.
    pub(super) expressions: &'static [&'static str],
    /// A word that is a token is that token, whatever the merges make of it.
    pub(super) ignore_merges: bool,
    /// Texts start with the bos token, unless the file says otherwise.
    pub(super) add_bos: bool,
}

/// Contractions, words, numbers, signs, each with the space before it.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The names that are known, by what they stand for.
const KNOWN: [(&[&str], PreTokenizer); 8] = [
    (
        &[
            "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "mellum", "gigachat",
            "default",
        ],
        PreTokenizer { expressions: &[GPT2], ignore_merges: false, add_bos: false },
    ),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"],
        PreTokenizer { expressions: &[LLAMA3], ignore_merges: true, add_bos: true },
    ),
    (
        &["dbrx", "smaug-bpe", "chatglm-bpe"],
        PreTokenizer { expressions: &[LLAMA3], ignore_merges: false, add_bos: false },
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "kormo"],
        PreTokenizer { expressions: &[QWEN2], ignore_merges: false, add_bos: false },
    ),
    (
        // Digits stand alone.
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        PreTokenizer { expressions: &[r"\p{N}", GPT2], ignore_merges: false, add_bos: false },
    ),
    (&["tekken"], PreTokenizer { expressions: &[TEKKEN], ignore_merges: true, add_bos: true }),
    (
        &["gpt-4o", "llama4", "kanana2"],
        PreTokenizer { expressions: &[GPT4O], ignore_merges: false, add_bos: false },
    ),
    (
        &["deepseek-coder"],
        PreTokenizer {
            expressions: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
            ignore_merges: false,
            add_bos: false,
        },
    ),
];

/// What a name stands for.
pub(super) fn find(name: &str) -> Option<&'static PreTokenizer> {
    KNOWN.iter().find(|(names, _)| names.contains(&name)).map(|(_, known)| known)
}
