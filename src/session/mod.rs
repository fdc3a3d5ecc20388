//! Sessions: what the coordinator opened, their limits, and the connections they carry.
mod flow;
mod gate;
pub mod limits;

pub use flow::*;
pub use gate::*;
