//! Sessions: what the coordinator opened, their limits, and the connections they carry.
mod flow;
mod gate;
pub mod pacer;

pub use flow::*;
pub use gate::*;
