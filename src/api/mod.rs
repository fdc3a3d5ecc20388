//! The local control API: what the owner's tools see of the node and how they steer it.
//!
//! Every request passes [`access`], then [`routes`] finds the function that asks the [`Backend`] and words the answer.
//! Errors of all kinds become HTTP in [`problems`].
pub mod access;
pub mod backend;
pub mod listen;
pub mod metrics;
pub mod problems;
pub mod report;
mod routes;
pub mod run_dir;

pub use backend::{Action, Archive, Backend, Health, Later};
pub use problems::Problem;

use crate::http::request::{Fault, Head};
use crate::http::server::{Handler, Response};
use access::{Names, Token};
use std::cell::RefCell;
use std::rc::Rc;
use zeroize::Zeroizing;

/// The API's OpenAPI document, as `GET /openapi.json` gives it.
pub const OPENAPI: &str = include_str!("../../schemas/openapi.json");

/// The API as the HTTP server sees it.
pub struct Api {
    backend: RefCell<Rc<dyn Backend>>,
    token: Token,
    names: Names,
}

impl Api {
    /// An API for a node. `names` are hosts, beside loopback's, that a request may be addressed to.
    pub fn new(backend: Rc<dyn Backend>, token: Token, names: Vec<String>) -> Api {
        Api { backend: RefCell::new(backend), token, names: Names::new(names) }
    }

    /// Lets another backend answer from now on: the node itself, once its key is open.
    pub fn replace(&self, backend: Rc<dyn Backend>) {
        self.backend.replace(backend);
    }

    fn check(&self, head: &Head) -> Result<(), Problem> {
        self.names.check(head)?;
        let route = routes::find(head)?;
        if route.is_open() { Ok(()) } else { self.token.check(head) }
    }
}

impl Handler for Api {
    fn admit(&self, head: &Head) -> Result<(), Response> {
        self.check(head).map_err(Problem::response)
    }

    fn answer(&self, head: &Head, body: Vec<u8>) -> Response {
        let backend = self.backend.borrow().clone();
        routes::answer(&*backend, head, &Zeroizing::new(body)).unwrap_or_else(Problem::response)
    }

    fn refuse(&self, fault: Fault) -> Response {
        Problem::from(fault).response()
    }
}

#[cfg(test)]
mod tests;
