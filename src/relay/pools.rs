//! Pipes that are lent to directions with payload in flight: an idle tunnel has none.
use crate::sys::linux::pipe::Pipe;
use std::cell::{Cell, RefCell};

/// Pipes at a time. Tunnels beyond that copy.
const MAX_PIPES: usize = 64;
/// Of these, empty ones kept for the next borrower.
const MAX_KEPT: usize = 16;
/// Bytes of a pipe. All of them full are 8 MiB of the kernel's memory; half the size costs a tenth more CPU.
pub(super) const PIPE: usize = 128 * 1024;

/// The relay's pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    kept: RefCell<Vec<Pipe>>,
    made: Cell<usize>,
}

impl Pipes {
    /// An empty pipe; `None` if too many are out or the kernel has no more.
    pub fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.kept.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.made.get() >= MAX_PIPES {
            return None;
        }
        let pipe = Pipe::new(PIPE).ok()?;
        self.made.set(self.made.get() + 1);
        Some(pipe)
    }

    /// Pipes that there are, lent or kept.
    #[cfg(test)]
    pub fn made(&self) -> usize {
        self.made.get()
    }

    /// Takes a pipe back. One that is not empty, of a tunnel that was cut, is closed.
    pub fn give(&self, pipe: Pipe) {
        let mut kept = self.kept.borrow_mut();
        if pipe.held() == 0 && kept.len() < MAX_KEPT {
            kept.push(pipe);
        } else {
            self.made.set(self.made.get().saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_bounded_and_come_back() {
        let pipes = Pipes::default();
        let out: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(out.len(), MAX_PIPES);
        out.into_iter().for_each(|p| pipes.give(p));
        assert_eq!((pipes.kept.borrow().len(), pipes.made.get()), (MAX_KEPT, MAX_KEPT));
        assert!(pipes.take().is_some());
    }
}
