//! How a command ends when it does not end well.

use std::fmt;
use std::process::ExitCode;

/// The answer to the question that a command asked is "no": exit status 1. Every other error is bad usage or bad
/// input: exit status 2.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Says on stderr what went wrong, and returns the exit status.
    pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
        if is_closed_pipe(error) {
            // The reader of our output has had enough, as `head` has.
            return ExitCode::SUCCESS;
        }
        eprintln!("dynamax: {error:#}");
        if error.is::<Self>() { ExitCode::from(1) } else { ExitCode::from(2) }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json =
            cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}
