//! Sessions: what the coordinator opened, their limits, and the connections they carry.
pub mod allowance;
pub mod breakers;
pub mod credit;
pub mod descriptors;
mod flow;
mod gate;
pub mod limits;
pub mod pacer;
pub mod quota;
pub mod targets;
mod tenant;

pub use flow::*;
pub use gate::*;
pub use tenant::*;
