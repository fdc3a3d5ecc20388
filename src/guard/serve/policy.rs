//! The guard's policy: read from its file or from UCI, again when it is asked to, and UCI's for `run`.
use super::Guard;
use crate::guard::lease_serve::Desk;
use crate::guard::protocol::{Refusal, Report, Request};
use crate::guard::scope::Scope;
use crate::guard::uci::{Todo, UciError, config, written};
use crate::guard::work::{For, Job, Kept, scope};

impl Guard {
    /// Reads the configuration again: all of it for root, ports alone for `run`.
    pub(super) fn reload(&mut self, by_root: bool) {
        match &self.source {
            Kept::File(store) => self.reloaded(by_root, scope(store)),
            Kept::Uci(uci) => {
                if !self.work.add(uci, Job::Reload(by_root)) {
                    crate::error!("the guard's policy stays as it was: too much is asked of UCI at once");
                }
            }
        }
    }

    /// A request of the configuration's.
    pub(super) fn configure(&mut self, client: u64, request: Request) {
        let Kept::Uci(uci) = &self.source else {
            let why = "the guard was started without --uci and keeps no configuration".to_owned();
            return self.clients.answer(client, &Report::Refused(Refusal::Failed, why));
        };
        let Some(found) = self.clients.find(client) else { return };
        let job = match found.exchange.hear(request) {
            Todo::Answer(report) => return self.clients.answer(client, &report),
            Todo::Show => Job::Show(client),
            Todo::Replace(read, text) => Job::Replace(client, read, text),
        };
        if !self.work.add(uci, job) {
            let why = "too much is asked of UCI at once".to_owned();
            self.clients.answer(client, &Report::Refused(Refusal::Failed, why));
        }
    }

    /// UCI was read or written.
    pub(super) fn worked(&mut self, whom: For, result: Result<String, UciError>) {
        match whom {
            For::Guard(by_root) => {
                let found = result.and_then(|text| config(&text)).map(|c| Scope::of(&c));
                self.reloaded(by_root, found.map_err(|e| e.to_string()));
            }
            For::Reader(client) => {
                if let Some(found) = self.clients.find(client) {
                    let report = found.exchange.shown(result);
                    self.clients.answer(client, &report);
                }
            }
            For::Writer(client) => {
                match &result {
                    Ok(_) => crate::info!("the configuration in UCI was written"),
                    Err(e) => crate::warn!("the configuration in UCI was not written: {e}"),
                }
                self.clients.answer(client, &written(&result));
            }
        }
    }

    /// The policy was read again.
    pub(super) fn reloaded(&mut self, by_root: bool, found: Result<Scope, String>) {
        let found = match found {
            Ok(found) => found,
            Err(e) => return crate::error!("the guard's policy stays as it was: {e}"),
        };
        let (ports_only, differs) = self.scope.with_ports_of(&found);
        self.literals_differ = differs && !by_root;
        if by_root && std::mem::take(&mut self.is_made_up) {
            // Nothing has lived by its marks.
            self.scope = found;
            self.with_leases(Desk::begin_anew);
        } else {
            self.scope = if by_root { self.scope.changed_to(found) } else { ports_only };
        }
        self.look_around();
        self.render_again();
        self.report();
    }
}
