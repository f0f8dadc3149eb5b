//! Conversations: the messages so far, as the text that a model was trained to continue.
//!
//! A bundle may hold a chat template, a Jinja program as `transformers` runs it: it sees `messages`,
//! `add_generation_prompt`, `bos_token`, `eos_token` and `raise_exception`, may break out of loops, and may call
//! Python's methods on strings and maps. Without one, roles are written as names in front of what they say.

use anyhow::{Context, Result, ensure};
use dynamax_bundle::{Bundle, SectionKind};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::{Deserialize, Serialize};

use crate::text::Text;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who sets the rules.
    #[serde(alias = "developer")]
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// How templates know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of the user's.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A turn of the model's.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }

    /// The rules.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }
}

/// Instructions that a template may run. Published ones take a few thousand for a message; a template is part of the
/// bundle, so that one without end must not hang the device.
const FUEL: u64 = 20_000_000;
/// Where the plain form of a conversation says that the user's turn starts.
const PLAIN_STOP: &str = "\nUser:";

/// How a bundle wants conversations to be written.
#[derive(Debug)]
pub struct Chat {
    /// Without one, the plain form.
    environment: Option<Environment<'static>>,
    bos_token: String,
    eos_token: String,
}

impl Chat {
    /// Reads the chat template of `bundle`, whose text is `text`.
    ///
    /// # Errors
    ///
    /// A template that is not UTF-8, or no Jinja.
    pub fn of(bundle: &Bundle<'_>, text: &Text) -> Result<Self> {
        let template = bundle.find(SectionKind::ChatTemplate).map(std::str::from_utf8).transpose();
        let template =
            template.context("the bundle's chat template is not UTF-8: build the bundle again")?;
        let eos = bundle.meta().eos.as_slice().first().copied();
        Self::new(template, text.bos_token(), eos.and_then(|id| text.token(id)))
    }

    /// A conversation written by `template`, or plainly.
    ///
    /// # Errors
    ///
    /// A template that is no Jinja.
    pub fn new(
        template: Option<&str>,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Result<Self> {
        let environment = template
            .map(environment)
            .transpose()
            .context("the bundle's chat template cannot be read: build the bundle again")?;
        let (bos_token, eos_token) = (bos_token.unwrap_or_default(), eos_token.unwrap_or_default());
        Ok(Self { environment, bos_token, eos_token })
    }

    /// True if the bundle brings a template.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.environment.is_some()
    }

    /// What ends an answer besides the tokens that end a text.
    #[must_use]
    pub fn stops(&self) -> &'static [&'static str] {
        if self.has_template() { &[] } else { &[PLAIN_STOP] }
    }

    /// Writes `messages`, up to where the answer starts.
    ///
    /// # Errors
    ///
    /// No messages, or what the template says against them.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        ensure!(!messages.is_empty(), "the conversation has no messages: give at least one");
        let Some(environment) = &self.environment else { return Ok(plain(messages)) };
        let template = environment.get_template(NAME).context("the chat template is gone")?;
        let message = |message: &Message| {
            context! { role => message.role.name(), content => message.content.as_str() }
        };
        let values = context! {
            messages => messages.iter().map(message).collect::<Vec<Value>>(),
            add_generation_prompt => true,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
        };
        template.render(values).context(
            "the bundle's chat template refuses these messages: change their roles or order",
        )
    }

    /// The ids of `messages`, up to where the answer starts.
    ///
    /// # Errors
    ///
    /// As [`Self::render`]; a bundle without a tokenizer.
    pub fn encode(&self, text: &Text, messages: &[Message]) -> Result<Vec<u32>> {
        let rendered = self.render(messages)?;
        // A template writes the bos token itself where it wants one.
        if self.has_template() { text.encode_as_written(&rendered) } else { text.encode(&rendered) }
    }
}

/// The name of the only template.
const NAME: &str = "chat";

/// Jinja as `transformers` sets it up.
fn environment(template: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_template_owned(NAME, template.to_owned())?;
    Ok(environment)
}

/// What a template calls to refuse a conversation.
fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Roles as names. The rules stand first, without one.
fn plain(messages: &[Message]) -> String {
    let mut text = String::new();
    for Message { role, content } in messages {
        let content = content.trim();
        match role {
            Role::System => text.push_str(&format!("{content}\n\n")),
            Role::User => text.push_str(&format!("User: {content}\n")),
            Role::Assistant => text.push_str(&format!("Assistant: {content}\n")),
        }
    }
    text + "Assistant:"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of the templates that models are published with: a check of the order, the rules folded into the first
    /// turn, Python's methods, and an early end of the loop.
    const TEMPLATE: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}
    {%- set rules = messages[0].content.strip() %}{% set rest = messages[1:] %}
{%- else %}
    {%- set rules = '' %}{% set rest = messages %}
{%- endif %}
{% for message in rest %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message.content.startswith('stop') %}{% break %}{% endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (rules + '\\n\\n' if loop.first and rules else '') + message.content + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message.content.upper() + eos_token }}
    {%- endif %}
{% endfor %}";

    fn chat(template: Option<&str>) -> Chat {
        Chat::new(template, Some("<s>".into()), Some("</s>".into())).unwrap()
    }

    #[test]
    fn a_template_writes_the_conversation() {
        let messages = [
            Message::system(" Be brief. "),
            Message::user("Hi"),
            Message::assistant("hello"),
            Message::user("Why?"),
        ];
        assert_eq!(
            chat(Some(TEMPLATE)).render(&messages).unwrap(),
            "<s>[INST] Be brief.\n\nHi [/INST] HELLO</s>[INST] Why? [/INST]",
            "rules in the first turn"
        );
    }

    #[test]
    fn a_loop_may_end_early() {
        let rendered = chat(Some(TEMPLATE)).render(&[Message::user("stop it")]).unwrap();
        assert_eq!(rendered, "<s>", "nothing behind the break");
    }

    #[test]
    fn a_template_may_refuse() {
        let error = chat(Some(TEMPLATE)).render(&[Message::assistant("Hi")]).unwrap_err();
        assert!(format!("{error:#}").contains("roles must alternate"), "{error:#}");
    }

    #[test]
    fn a_template_without_end_runs_out_of_fuel() {
        let nested = "{% for a in range(9999) %}".repeat(3) + "x" + &"{% endfor %}".repeat(3);
        let error = chat(Some(&nested)).render(&[Message::user("Hi")]).unwrap_err();
        assert!(format!("{error:#}").contains("fuel"), "{error:#}");
    }

    #[test]
    fn a_template_that_is_no_jinja_is_refused() {
        assert!(Chat::new(Some("{% if %}"), None, None).is_err(), "no condition");
    }

    #[test]
    fn without_a_template_roles_are_names() {
        let messages =
            [Message::system("Be brief."), Message::user("Hi"), Message::assistant(" Hello.\n")];
        assert_eq!(
            chat(None).render(&messages).unwrap(),
            "Be brief.\n\nUser: Hi\nAssistant: Hello.\nAssistant:",
            "names"
        );
        assert!(chat(None).render(&[]).is_err(), "nothing said");
    }
}
