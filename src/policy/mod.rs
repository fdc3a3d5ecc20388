//! What may be carried: one policy for every data path.
pub mod addresses;
pub mod categories;
pub mod decision;
pub mod geo;
pub mod hosts;
pub mod lists;
pub mod refusal;
pub mod routes;
pub mod schedule;
pub mod suffixes;
pub mod wan;
