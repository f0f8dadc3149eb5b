//! Why a step is not a Program.

use dynamax_bundle::ProgramError;

/// Why a step cannot be captured. Each sentence says what to change in the model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the sentences say what each field is")]
pub enum CaptureError {
    /// A Burn operation that no device has.
    #[error("the step uses Burn's `{operation}`, which no device runs: {instead}")]
    Unsupported { operation: String, instead: &'static str },
    /// An operand that is not what its place asks for.
    #[error("{operator}: `{operand}` must be {expected}")]
    Operand { operator: String, operand: &'static str, expected: &'static str },
    /// A parameter of another shape than it is used with.
    #[error(
        "parameter `{param}` is {found:?} but is used as {used:?}: store it in the shape of its operator"
    )]
    Reshaped { param: String, found: Vec<usize>, used: Vec<usize> },
    /// A parameter that would have to be stored in two ways.
    #[error("parameter `{param}` is used as {first:?} and as {second:?}: make it two parameters")]
    TwoStores { param: String, first: &'static str, second: &'static str },
    /// A value of an earlier segment other than its residual.
    #[error(
        "{operator} reads across the exit after layer {layer}: only the residual stream may cross an exit"
    )]
    CrossesExit { operator: String, layer: usize },
    /// The head does not select the last row.
    #[error("the head must select the last row, {last}, and selects {found}")]
    Row { found: u64, last: u64 },
    /// A state that comes back as something else.
    #[error(
        "state {index} was not returned in its place after one update: update states in the order of `states()`"
    )]
    State { index: usize },
    /// Residuals that are not activations, or too few.
    #[error("the residual after layer {layer} is not computed by the step")]
    Residual { layer: usize },
    /// Exits that are not layers in ascending order.
    #[error("an exit after layer {found} of {layers}: exits are ascending, after layers 1 to {last}", last = layers - 1)]
    Exit { found: usize, layers: usize },
    /// More tensors or operators than ids.
    #[error("the step has more than {most} tensors or operators")]
    TooLarge { most: usize },
    /// The captured Program is not sound.
    #[error("the captured Program is not sound: {0}")]
    Program(ProgramError),
    /// Burn could not record the step.
    #[error("Burn could not record the step: {0}")]
    Burn(String),
}
