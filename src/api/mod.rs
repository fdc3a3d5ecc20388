//! The local control API: what the owner's tools see of the node and how they steer it.
//!
//! Every request passes [`access`], then [`routes`] finds the function that asks the [`Backend`] and words the answer.
//! Errors of all kinds become HTTP and ubus codes in [`problems`]; [`object`] answers the same on ubus.
pub mod access;
pub mod backend;
pub mod calls;
pub mod listen;
pub mod metrics;
pub mod notices;
pub mod object;
pub mod problems;
pub mod rates;
pub mod report;
mod routes;
pub mod run_dir;

pub use backend::{Action, Archive, Backend, Health, Later, Page, Tagged};
pub use problems::Problem;

use crate::clock::Clock;
use crate::http::request::{Fault, Head};
use crate::http::server::{Handler, Response};
use access::{Names, Token};
use rates::Rates;
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
    clock: Clock,
    rates: RefCell<Rates>,
}

impl Api {
    /// An API for a node. `names` are hosts, beside loopback's, that a request may be addressed to.
    pub fn new(backend: Rc<dyn Backend>, token: Token, names: Vec<String>) -> Api {
        let (backend, rates) = (RefCell::new(backend), RefCell::default());
        Api { backend, token, names: Names::new(names), clock: Clock::new(), rates }
    }

    /// Lets another backend answer from now on: the node itself, once its key is open.
    pub fn replace(&self, backend: Rc<dyn Backend>) {
        self.backend.replace(backend);
    }

    /// Whether the request is answered; and if so, whether it carries the token.
    fn check(&self, head: &Head) -> Result<bool, Problem> {
        self.names.check(head)?;
        let route = routes::find(head)?;
        if route.is_open() { Ok(false) } else { self.token.check(head).map(|()| true) }
    }

    fn count(&self, with_token: bool) -> Result<(), Problem> {
        self.rates.borrow_mut().count(self.clock.now().mono_us, with_token)
    }
}

impl Handler for Api {
    fn admit(&self, head: &Head) -> Result<(), Response> {
        let checked = self.check(head);
        let counted = self.count(matches!(checked, Ok(true)));
        counted.and(checked).map(drop).map_err(Problem::response)
    }

    fn answer(&self, head: &Head, body: Vec<u8>) -> Response {
        let backend = self.backend.borrow().clone();
        routes::answer(&*backend, head, &Zeroizing::new(body)).unwrap_or_else(Problem::response)
    }

    fn refuse(&self, fault: Fault) -> Response {
        self.count(false).err().unwrap_or_else(|| Problem::from(fault)).response()
    }
}

#[cfg(test)]
mod tests;
