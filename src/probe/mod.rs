//! Probes: the coordinator's challenges, answered by fetching content from an approved endpoint.
pub mod fetch;
pub mod plan;
