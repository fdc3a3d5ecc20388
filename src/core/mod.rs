//! The node as a whole: its state, and the wiring of all parts.
pub mod alerts;
pub mod durable;
