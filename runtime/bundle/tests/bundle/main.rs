//! What the container and the program checker promise, from outside.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod document;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sample;

#[path = "../../../../tests/fuzz/src/exercise.rs"]
mod exercise;
