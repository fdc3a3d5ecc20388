//! The node on ubus: the same backend as the HTTP API's, and the node's notices as events.
use crate::api::notices::Notices;
use crate::api::{Backend, object};
use crate::cli::run::Bus as Choice;
use crate::json::Value;
use crate::sys::openwrt::ubus::{Answering, Service, attend, find};
use crate::ubus::Status;
use crate::ubus::client::{Invocation, Signature};
use async_executor::{LocalExecutor, Task};
use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

/// The object, while it is offered.
pub struct Bus {
    offered: Rc<Offered>,
    _task: Task<()>,
}

struct Offered {
    path: PathBuf,
    backend: RefCell<Rc<dyn Backend>>,
    notices: Rc<Notices>,
}

impl Bus {
    /// Offers the object, if there is a bus or the owner says where one will be.
    pub fn start(
        executor: &Rc<LocalExecutor<'static>>,
        choice: &Choice,
        backend: Rc<dyn Backend>,
    ) -> Option<Bus> {
        let path = match choice {
            Choice::Off => return None,
            Choice::At(path) => path.clone(),
            Choice::Found => find()?,
        };
        let (backend, notices) = (RefCell::new(backend), Rc::default());
        let offered = Rc::new(Offered { path, backend, notices });
        let service = offered.clone();
        let task = executor.spawn(async move { attend(&service.path, &*service).await });
        Some(Bus { offered, _task: task })
    }

    /// Lets another backend answer from now on.
    pub fn replace(&self, backend: Rc<dyn Backend>) {
        self.offered.backend.replace(backend);
    }

    /// Where what is put is sent from.
    pub fn notices(&self) -> Rc<Notices> {
        self.offered.notices.clone()
    }
}

impl Service for Offered {
    fn path(&self) -> &'static str {
        object::PATH
    }
    fn methods(&self) -> Vec<Signature> {
        object::signatures()
    }
    fn call(&self, invocation: Invocation) -> Answering {
        let backend = self.backend.borrow().clone();
        object::answer(&*backend, &invocation.method, invocation.arguments)
    }
    fn too_large(&self) -> (Status, Option<Value>) {
        object::too_large()
    }
    fn too_many(&self) -> (Status, Option<Value>) {
        object::too_many()
    }
    fn event(&self) -> Pin<Box<dyn Future<Output = Value> + '_>> {
        Box::pin(self.notices.next())
    }
}
