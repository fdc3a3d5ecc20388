//! Configuration: one schema, read from YAML or JSON.
mod model;

pub use model::*;
