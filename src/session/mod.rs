//! Sessions: what the coordinator opened, their limits, and the connections they carry.
pub mod allowance;
mod flow;
mod gate;
pub mod limits;
pub mod pacer;

pub use flow::*;
pub use gate::*;
