//! Who decides: majorities, joint configurations and what they have agreed on. Pure arithmetic (dissertation §4.3).

mod configuration;
mod majority;

pub use configuration::{Configuration, ConfigurationError};
pub use majority::{Tally, Voters};
