//! Metering: 1-second buckets, 5-minute windows, signed and chained bundles, the access log and its digest.
//!
//! [`SessionMeter`] counts for one session and seals [`Sealed`] bundles; [`Qos`] sums up the node; [`AccessLine`] is
//! what a flow leaves behind; [`verify`] checks what was exported. All of that is pure. [`LogStore`] and [`Journal`]
//! are the files.
mod access_log;
mod log_store;
mod qos;
mod quantiles;
mod retention;
mod session;
mod spool;
mod verify;
mod window;

pub use access_log::*;
pub use log_store::*;
pub use qos::*;
pub use quantiles::*;
pub use retention::*;
pub use session::*;
pub use spool::*;
pub use verify::*;
pub use window::{SecondBucket, WINDOW_S};
