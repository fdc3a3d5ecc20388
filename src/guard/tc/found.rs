//! What the kernel says of a device's traffic control.
use super::super::netlink::{DUMP, Message, REQUEST, Writer, attribute, text, u32_at};
use super::{
    DELETE_FILTER, HANDLE, HTB_INIT, KIND, NEW_CLASS, NEW_FILTER, NEW_QDISC, OPTIONS, OTHERS, ROOT,
    U32_CLASS, U32_LINK, head,
};
use crate::sorted::SortedSet;

/// Objects of a kind that are read at most; more are not ours.
const MAX_READ: usize = 20_000;
/// A bit of the handles in the tables that the kernel itself makes, one for each priority.
const FIRST_TABLE: u32 = 0x8000_0000;
const GET_QDISC: u16 = 38;
const GET_CLASS: u16 = 42;
const GET_FILTER: u16 = 46;

/// What the kernel is asked about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Queueing disciplines (of all devices).
    Qdiscs,
    /// Classes.
    Classes,
    /// Filters of our queueing discipline.
    Filters,
}

/// The question.
pub fn ask(what: Ask, seq: u32, device: u32) -> Vec<u8> {
    let (kind, parent) = match what {
        Ask::Qdiscs => (GET_QDISC, 0),
        Ask::Classes => (GET_CLASS, 0),
        Ask::Filters => (GET_FILTER, HANDLE),
    };
    let mut w = Writer::default();
    w.message((kind, REQUEST | DUMP, seq), &head(device, 0, parent, 0), |_| {});
    w.finish()
}

/// A device's root queueing discipline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// The kernel's own: it has no number, as those that somebody configured have.
    #[default]
    Kernel,
    /// Ours.
    Ours,
    /// Somebody's, of this kind.
    Other(String),
}

/// What the kernel says is on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    device: u32,
    /// The root.
    pub root: Root,
    /// Our classes.
    pub classes: SortedSet<u16>,
    /// Handles of flows' filters, which lead to a class.
    pub filters: SortedSet<u32>,
    /// Handles of fragments' filters, which are in no table of ours.
    pub fragments: SortedSet<u32>,
    /// Handles of those that lead to a table.
    pub links: SortedSet<u32>,
}

impl Found {
    /// Nothing yet of a device.
    pub fn of(device: u32) -> Found {
        Found { device, ..Found::default() }
    }

    /// Takes a message in.
    pub fn take(&mut self, message: &Message<'_>) {
        _ = self.read(message);
    }

    fn read(&mut self, message: &Message<'_>) -> Option<()> {
        let [device, handle, parent] = [4, 8, 12].map(|at| u32_at(message.body, at));
        let (device, handle, parent) = (device?, handle?, parent?);
        let list = message.body.get(20..)?;
        if device != self.device {
            return None;
        }
        match message.kind {
            NEW_QDISC if parent == ROOT => self.root = root(handle, list),
            NEW_CLASS if handle & 0xffff_0000 == HANDLE && self.classes.len() < MAX_READ => {
                self.classes.insert((handle & 0xffff) as u16);
            }
            NEW_FILTER if parent == HANDLE && text(list, KIND) == Some("u32") => {
                let options = attribute(list, OPTIONS)?;
                let leads = |kind| attribute(options, kind).is_some();
                let place = match (leads(U32_CLASS), leads(U32_LINK)) {
                    (true, false) if handle & FIRST_TABLE != 0 => &mut self.fragments,
                    (true, false) => &mut self.filters,
                    (_, true) => &mut self.links,
                    _ => return None,
                };
                if place.len() < MAX_READ {
                    place.insert(handle);
                }
            }
            _ => {}
        }
        Some(())
    }
}

fn root(handle: u32, list: &[u8]) -> Root {
    let kind = text(list, KIND).unwrap_or_default();
    let default =
        attribute(list, OPTIONS).and_then(|o| attribute(o, HTB_INIT)).and_then(|init| u32_at(init, 8));
    match handle {
        0 => Root::Kernel,
        HANDLE if kind == "htb" && default == Some(OTHERS.into()) => Root::Ours,
        _ => Root::Other(kind.chars().take(32).collect()),
    }
}

/// The device, if a message is of a root queueing discipline of ours.
pub fn ours(message: &Message<'_>) -> Option<u32> {
    let [device, handle, parent] = [4, 8, 12].map(|at| u32_at(message.body, at));
    let is_ours = message.kind == NEW_QDISC
        && parent == Some(ROOT)
        && root(handle?, message.body.get(20..)?) == Root::Ours;
    device.filter(|_| is_ours)
}

/// Whether a report is of a device's traffic control, and of another program than the one whose socket has this number.
pub fn is_foreign(message: &Message<'_>, device: u32, own: u32) -> bool {
    (NEW_QDISC..=DELETE_FILTER).contains(&message.kind)
        && u32_at(message.body, 4) == Some(device)
        && message.port != own
}
