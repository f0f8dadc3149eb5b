//! What a generator promises, with the demos that the command line carries.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ops::ControlFlow;
use std::path::Path;

use dynamax_engine::{Sampling, StepError};
use dynamax_session::generator::{Ask, End, Eos, Listener, Token};
use dynamax_session::{Chat, Generator, Message, Options, Session, Source, Text};

fn demo(name: &str) -> Source {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/cli/demo");
    Source::open(&folder.join(name)).unwrap()
}

fn session(source: &Source) -> Session<'_> {
    let options = Options { context: Some(200), rows: Some(8), ..Options::default() };
    Session::open(source, &options).unwrap()
}

const ASK: Ask =
    Ask { sampling: GREEDY, most_tokens: 12, eos: Eos::Ignored, alternatives: Some(1) };
const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repetition_penalty: 1.0,
    seed: 0,
};

/// The ids of an answer, and how many tokens of the prompt were not fed again.
fn answer(generator: &mut Generator<'_>, prompt: &[u32]) -> (Vec<u32>, usize) {
    let mut ids = Vec::new();
    let mut listener = |token: &Token| {
        assert_eq!(token.alternatives[0].0, token.id, "greedy takes the most probable");
        assert_eq!(token.alternatives[0].1.to_bits(), token.logprob.unwrap().to_bits(), "once");
        ids.push(token.id);
        ControlFlow::Continue(())
    };
    let outcome = generator.answer(prompt, &ASK, &mut listener).unwrap();
    assert_eq!(outcome.end, End::Length, "end of text is ignored");
    (ids, outcome.reused)
}

#[test]
fn a_prompt_that_goes_on_is_fed_from_there_with_the_same_answer() {
    for name in ["mamba2.dmx", "transformer.dmx"] {
        let source = demo(name);
        let session = session(&source);
        let text = Text::of(&session.bundle).unwrap();
        let (mut memory, mut other) = (session.memory(), session.memory());
        let mut generator = Generator::new(&session, &mut memory);
        let mut prompt = text.encode("It was a dark and stormy night").unwrap();
        let first_len = prompt.len();
        let (first, reused) = answer(&mut generator, &prompt);
        assert_eq!(reused, 0, "{name}: nothing was fed");
        prompt.extend(&first);
        prompt.extend(text.encode_as_written(" and the").unwrap());
        let (second, reused) = answer(&mut generator, &prompt);
        assert_eq!(reused, first_len + first.len() - 1, "{name}: all but the last, never fed");
        let fresh = answer(&mut Generator::new(&session, &mut other), &prompt);
        assert_eq!((second, 0), fresh, "{name}");
    }
}

#[test]
fn a_prompt_that_does_not_go_on_starts_anew() {
    let source = demo("mamba2.dmx");
    let session = session(&source);
    let text = Text::of(&session.bundle).unwrap();
    let mut memory = session.memory();
    let mut generator = Generator::new(&session, &mut memory);
    let prompt = text.encode("The captain said").unwrap();
    let first = answer(&mut generator, &prompt);
    answer(&mut generator, &text.encode("Something else").unwrap());
    assert_eq!(answer(&mut generator, &prompt), first, "as the first time");
    assert_eq!(answer(&mut generator, &prompt), first, "the same prompt has nothing left to feed");
}

#[test]
fn a_listener_that_leaves_ends_the_answer() {
    struct Gone;
    impl Listener for Gone {
        fn is_there(&mut self) -> bool {
            false
        }

        fn token(&mut self, token: &Token) -> ControlFlow<()> {
            panic!("nobody is there to hear {token:?}")
        }
    }
    let source = demo("mamba2.dmx");
    let session = session(&source);
    let mut memory = session.memory();
    let mut generator = Generator::new(&session, &mut memory);
    let outcome = generator.answer(&[1, 2, 3], &ASK, &mut Gone).unwrap();
    assert_eq!(outcome.end, End::Listener, "before the prompt is fed");
    let mut heard = 0;
    let mut leaves = |_: &Token| {
        heard += 1;
        if heard == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outcome = generator.answer(&[1, 2, 3], &ASK, &mut leaves).unwrap();
    assert_eq!((outcome.end, heard), (End::Listener, 3), "after three tokens");
}

#[test]
fn the_planned_context_bounds_prompt_and_answer() {
    let source = demo("transformer.dmx");
    let session = session(&source);
    let mut memory = session.memory();
    let mut generator = Generator::new(&session, &mut memory);
    let (ids, _) = answer(&mut generator, &[7; 195]);
    assert_eq!(ids.len(), 6, "five are fed, the sixth is told");
    let mut silent = |_: &Token| ControlFlow::Continue(());
    let refused = generator.answer(&[7; 201], &ASK, &mut silent);
    assert_eq!(refused, Err(StepError::ContextFull { need: 201, context: 200 }), "one too many");
    assert_eq!(generator.answer(&[], &ASK, &mut silent), Err(StepError::Empty), "no prompt");
}

#[test]
fn a_conversation_without_a_template_is_encoded_plainly() {
    let source = demo("mamba2.dmx");
    let session = session(&source);
    let text = Text::of(&session.bundle).unwrap();
    let chat = Chat::of(&session.bundle, &text).unwrap();
    let ids = chat.encode(&text, &[Message::user("Hello")]).unwrap();
    assert_eq!(ids, text.encode("User: Hello\nAssistant:").unwrap(), "with what starts a text");
}

#[test]
fn a_tokenizer_that_remembers_nothing_cuts_words_the_same_way() {
    let source = demo("mamba2.dmx");
    let session = session(&source);
    let words = "And what did the captain say, the captain of the unsinkable ship? 12345 días";
    let text = Text::of(&session.bundle).unwrap();
    let ids = text.encode(words).unwrap();
    let text = text.without_memory();
    for _ in 0..2 {
        assert_eq!(text.encode(words).unwrap(), ids, "once, and again");
    }
}
