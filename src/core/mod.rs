//! core.
pub mod lifecycle;
