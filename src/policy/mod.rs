//! What may be carried: one policy for every data path.
pub mod decision;
pub mod refusal;
pub mod schedule;
