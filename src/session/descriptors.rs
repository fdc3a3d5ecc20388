//! What the descriptors that the process may have are for. Pure.

/// Files, the coordinator's and the resolver's connections, the API's, the executor's and netlink's own.
const OWN: usize = 128;
/// Pipes for payload in flight; tunnels without one copy.
const PIPES: usize = 128;
/// A tunnel's two sockets.
const TUNNEL: usize = 2;

/// How the descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections that nobody has authenticated yet.
    pub pending: usize,
    /// Tunnels at a time.
    pub tunnels: usize,
}

/// Shares `limit` descriptors out: a quarter at most for strangers, what the node itself needs, and the rest for tunnels.
pub fn share(limit: usize, wanted_pending: usize) -> Share {
    let pending = wanted_pending.min(limit / 4).max(1);
    // With few descriptors tunnels do without pipes.
    let pipes = PIPES.min(limit / 8);
    let left = limit.saturating_sub(pending.saturating_add(OWN).saturating_add(pipes));
    Share { pending, tunnels: (left / TUNNEL).max(1) }
}

/// Descriptors with which `tunnels` of them fit beside so many strangers.
pub fn wanted(tunnels: usize, pending: usize) -> usize {
    let own = OWN.saturating_add(PIPES).saturating_add(pending);
    tunnels.saturating_mul(TUNNEL).saturating_add(own).max(pending.saturating_mul(4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_limits() {
        assert_eq!(share(1024, 512), Share { pending: 256, tunnels: 256 });
        assert_eq!(share(4096, 512), Share { pending: 512, tunnels: 1664 });
        assert_eq!(share(256, 512), Share { pending: 64, tunnels: 16 });
        assert_eq!(share(usize::MAX, 512).pending, 512);
        assert_eq!(share(0, 512), Share { pending: 1, tunnels: 1 }, "the kernel says no then");
    }

    proptest! {
        #[test]
        fn what_is_shared_out_fits(limit in 400usize..100_000, pending in 1usize..5000) {
            let share = share(limit, pending);
            prop_assert!(share.pending + OWN + TUNNEL * share.tunnels <= limit);
        }

        #[test]
        fn what_is_wanted_is_enough(tunnels in 1usize..10_000, pending in 1usize..5000) {
            let share = share(wanted(tunnels, pending), pending);
            prop_assert_eq!(share.pending, pending);
            prop_assert!(share.tunnels >= tunnels);
        }
    }
}
