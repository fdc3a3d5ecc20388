//! Whether the coordinator answers at all: a request whose answer tells nothing but that.
use super::super::{Exit, Failure};
use crate::clock::Clock;
use crate::config::{self, Platform, real_path};
use crate::dns::{Names, OwnNames};
use crate::egress::Egress;
use crate::http::client::{Client, Request};
use crate::http::url::Url;
use crate::json::Value;
use crate::sys::linux::Linux;
use crate::tls::client::{CertificateTime, ClientTls, Roots};
use std::rc::Rc;

/// Asks the coordinator of a document. Any HTTP answer over TLS from a server with a valid certificate will do: which key
/// signs its orders shows with the first of them alone.
pub fn coordinator(document: &Value, platform: Platform) -> Result<String, Failure> {
    let failed = |text: String| Failure::new(Exit::Failed, text);
    let config =
        config::from_value(document, platform).map_err(|e| Failure::new(Exit::Config, e.to_string()))?;
    let text = config.coordinator.url.ok_or_else(|| failed("there is no coordinator to ask".to_owned()))?;
    let url = Url::parse(&text).map_err(|e| failed(e.to_string()))?;
    let clock = Rc::new(Clock::new());
    let names = OwnNames { resolver: Rc::new(Names::system()), clock: clock.clone() };
    let roots = Roots::from(config.coordinator.ca_file.as_deref().and_then(real_path));
    let tls = ClientTls::new(roots, CertificateTime::new(0));
    let egress = Egress::by_now(Rc::new(Linux), clock.clone(), &config.network.wan_device);
    let client = Client::new(egress, Rc::new(names), Rc::new(tls), clock);
    match async_io::block_on(client.send(&Request::new("GET", &url))) {
        Ok(answer) => Ok(format!("{text} answers (HTTP status {}).\n", answer.status)),
        Err(e) => Err(failed(format!("{text} does not answer: {e}"))),
    }
}
