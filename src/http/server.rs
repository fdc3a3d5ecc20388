//! The HTTP server of the local control API.
