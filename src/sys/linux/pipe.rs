//! Kernel pipes that carry payload between two sockets without copying it.
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A pipe and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty pipe of about `size` bytes; smaller if the user's share of pipe memory is used up.
    ///
    /// # Errors
    /// The kernel's, if there is no descriptor left.
    pub fn new(size: usize) -> io::Result<Pipe> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Larger is only faster.
        let _ = fcntl_setpipe_size(&write, size);
        Ok(Pipe { read, write, held: 0 })
    }

    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` bytes from a socket into the pipe; 0 at the end of the stream.
    ///
    /// # Errors
    /// The socket's; would-block also when the pipe is full.
    pub fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = splice(from, None, &self.write, None, most, flags)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds to a socket, or as much of it as the socket takes.
    ///
    /// # Errors
    /// The socket's.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = splice(&self.read, None, to, None, self.held, flags)?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}
