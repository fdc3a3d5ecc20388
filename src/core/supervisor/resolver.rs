//! Who resolves names, as the configuration says.
use crate::config::{Config, SandboxMode, real_path};
use crate::core::node::Node;
use crate::dns::{Lookup, Names, OwnNames, ResolveError, Resolver};
use crate::egress::Egress;
use crate::http::client::{Client as Http, Fixed, Resolve};
use crate::http::url::Url;
use crate::time::Now;
use crate::tls::client::{CertificateTime, ClientTls, Roots};
use std::rc::Rc;
use std::sync::Arc;

/// DNS over HTTPS as configured; the system's resolver only where the owner has switched that off, and for the name of
/// the DNS server itself if it has no bootstrap addresses and the sandbox is not strict.
pub(super) fn resolver(
    config: &Config,
    node: &Node,
    time: &Arc<CertificateTime>,
    egress: &Rc<Egress>,
) -> Rc<dyn Resolver> {
    let security = &config.security;
    if !security.dns_over_https {
        return Rc::new(Names::system());
    }
    let url = security.doh_url.as_deref().map(Url::parse);
    let Some(Ok(url)) = url else {
        node.alert(
            "doh-unconfigured",
            "No name is resolved: set security.dohUrl, or switch dnsOverHttps off.",
        );
        return Rc::new(Nothing);
    };
    let strict = security.sandbox_mode == SandboxMode::Strict;
    if strict && security.doh_bootstrap.is_empty() && url.origin.literal().is_none() {
        node.alert(
            "doh-unconfigured",
            "No name is resolved: in strict mode the system's resolver is not asked for the DNS server either; set \
             security.dohBootstrap.",
        );
        return Rc::new(Nothing);
    }
    node.clear_alert("doh-unconfigured");
    let clock = node.ledger.clock.clone();
    let bootstrap: Rc<dyn Resolve> = if security.doh_bootstrap.is_empty() {
        Rc::new(OwnNames { resolver: Rc::new(Names::system()), clock: clock.clone() })
    } else {
        Rc::new(Fixed(security.doh_bootstrap.clone()))
    };
    let roots = Roots::from(security.doh_ca_file.as_deref().and_then(real_path));
    let tls = Rc::new(ClientTls::new(roots, time.clone()));
    Rc::new(Names::doh(url, Http::new(egress.clone(), bootstrap, tls, clock)))
}

/// Resolves nothing: without a configured resolver no other one is asked.
struct Nothing;

impl Resolver for Nothing {
    fn resolve<'a>(&'a self, _: &'a str, _: Now) -> Lookup<'a> {
        Box::pin(async { Err(ResolveError::Failed) })
    }
}
