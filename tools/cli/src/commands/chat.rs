//! `dynamax chat`: a conversation on the terminal.

use std::io::{BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use dynamax_session::generator::{Ask, Eos, Token};
use dynamax_session::{Chat, Generator, Message, Stops, Text, TextStream};

use crate::session::{DecodeArguments, SamplingArguments};
use crate::source::{self, Demo};

/// Talk with a model.
#[derive(Args, Debug)]
#[command(after_help = "\
Each line is a turn; an empty conversation starts with /new, and the end of input (Ctrl-D) ends it.

Examples:
  dynamax chat m.dmx                                   with the bundle's chat template
  dynamax chat m.dmx --system \"Answer in one sentence.\"
  echo \"Who are you?\" | dynamax chat m.dmx -n 64      one turn, in a pipe")]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// Tokens of an answer at most.
    #[arg(short = 'n', long = "tokens", default_value_t = 512)]
    n: usize,
    /// Rules that stand in front of the conversation.
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    decode: DecodeArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let text = Text::of(&session.bundle)?;
    let chat = Chat::of(&session.bundle, &text)?;
    let mut memory = session.memory();
    let ask = Ask {
        sampling: arguments.sampling.resolve()?,
        most_tokens: arguments.n,
        eos: Eos::Ends,
        alternatives: None,
    };
    let rules: Vec<Message> = arguments.system.iter().map(Message::system).collect();
    let mut generator = Generator::new(&session, &mut memory);
    generator.set_depth(arguments.decode.depth(&session)?)?;
    generator.set_metering(arguments.decode.metering(&session)?);
    let mut talk = Talk { text: &text, chat: &chat, generator, ask, messages: rules.clone() };
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal && !chat.has_template() {
        eprintln!("(this bundle has no chat template: roles are written as names)");
    }
    loop {
        if is_terminal {
            eprint!("\x1b[1m›\x1b[0m ");
        }
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).context("stdin cannot be read")? == 0 {
            return Ok(());
        }
        match line.trim() {
            "" => {}
            "/new" => talk.messages.clone_from(&rules),
            said => talk.turn(said)?,
        }
    }
}

/// A conversation in progress.
struct Talk<'t, 's> {
    text: &'t Text,
    chat: &'t Chat,
    generator: Generator<'s>,
    ask: Ask,
    messages: Vec<Message>,
}

impl Talk<'_, '_> {
    /// Takes a turn of the user's, and streams the model's.
    fn turn(&mut self, said: &str) -> Result<()> {
        self.messages.push(Message::user(said));
        let prompt = self.prompt_that_fits()?;
        let mut stream = TextStream::new(self.text, &prompt);
        let mut stops = Stops::new(self.chat.stops().iter().copied());
        let (mut answer, mut closed) = (String::new(), None);
        let mut listener = |token: &Token| {
            let (certain, stopped) = stops.push(&stream.push(token.id));
            answer += &certain;
            closed = show(&certain).err();
            if stopped || closed.is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        self.generator.answer(&prompt, &self.ask, &mut listener)?;
        if let Some(error) = closed {
            return Err(error.into());
        }
        let rest = stops.end();
        show(&format!("{rest}\n"))?;
        self.messages.push(Message::assistant(answer + &rest));
        Ok(())
    }

    /// The conversation in tokens, without its oldest turns if it has become too long to leave room for an answer.
    fn prompt_that_fits(&mut self) -> Result<Vec<u32>> {
        loop {
            let prompt = self.chat.encode(self.text, &self.messages)?;
            let wanted = self.ask.most_tokens.min(self.generator.context() / 4).max(1);
            if self.generator.room(prompt.len()) >= wanted {
                return Ok(prompt);
            }
            let rules = self.messages.iter().take_while(|message| message.role.name() == "system");
            let oldest = rules.count();
            if self.messages.len() - oldest < 3 {
                let (found, context) = (prompt.len(), self.generator.context());
                bail!(
                    "the turn has {found} tokens, which leave no room in the planned context of {context}: plan more \
                     with --context, or say less"
                );
            }
            eprintln!("(the conversation fills the context: its oldest turns are left out)");
            self.messages.drain(oldest..oldest + 2);
        }
    }
}

fn show(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
