//! signed.
