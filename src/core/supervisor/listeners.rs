//! Where buyers come in.
use super::Supervisor;
use crate::config::Config;
use crate::relay::{serve_plain, serve_tls};
use crate::sys::linux::net;
use async_executor::Task;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// The tasks that accept buyers; dropping one closes its listener.
#[derive(Default)]
pub(super) struct Listeners {
    tls: Option<Task<()>>,
    plain: Option<Task<()>>,
}

impl Supervisor {
    /// Binds all listeners of the configuration.
    pub fn listen(&self) -> Result<(), String> {
        self.listen_tls()?;
        self.listen_plain()
    }

    /// Binds the TLS listener; the old one goes on if that fails.
    fn listen_tls(&self) -> Result<(), String> {
        let address = self.node.config().relay.listen;
        let socket = TcpListener::bind(address).map_err(|e| format!("relay.listen {address}: {e}"))?;
        let (acceptor, relay) = (self.acceptor.clone(), self.relay.clone());
        let task = self.executor.spawn(async move { ended(serve_tls(socket, acceptor, relay).await) });
        self.listeners.borrow_mut().tls = Some(task);
        Ok(())
    }

    /// Binds the listener without TLS, if there is to be one; the old one goes on if that fails.
    fn listen_plain(&self) -> Result<(), String> {
        let config = self.node.config();
        let socket = config.relay.listen_plain.as_deref().map(bind_plain).transpose()?;
        let relay = self.relay.clone();
        let serve = |s| self.executor.spawn(async move { ended(serve_plain(s, relay).await) });
        self.listeners.borrow_mut().plain = socket.map(serve);
        Ok(())
    }

    /// Closes the listeners. Live tunnels go on.
    pub fn stop_listening(&self) {
        *self.listeners.borrow_mut() = Listeners::default();
    }

    /// After a change of the configuration.
    pub(super) fn listen_again(&self, old: &Config, new: &Config) {
        let mut done = Ok(());
        if old.relay.listen != new.relay.listen {
            done = self.listen_tls();
        }
        if old.relay.listen_plain != new.relay.listen_plain {
            done = done.and(self.listen_plain());
        }
        match done {
            Ok(()) => self.node.clear_alert("listen-failed"),
            Err(e) => self.node.alert("listen-failed", &e),
        }
    }
}

fn bind_plain(text: &str) -> Result<OwnedFd, String> {
    let named = |e: io::Error| format!("relay.listenPlain {text}: {e}");
    if let Ok(address) = text.parse::<SocketAddr>() {
        return TcpListener::bind(address).map(OwnedFd::from).map_err(named);
    }
    net::listen_unix(text.as_ref()).map_err(named)
}

fn ended(result: io::Result<()>) {
    if let Err(e) = result {
        crate::error!("a listener has ended: {e}");
    }
}
