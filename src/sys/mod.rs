//! The platform.
#[cfg(target_os = "linux")]
pub mod linux;
