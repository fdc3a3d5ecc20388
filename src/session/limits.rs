//! Limits of sessions and of the node: byte rates, new connections per second. Their quotas are in [`super::quota`].
//!
//! Nothing here knows a clock: rates take monotonic microseconds. A reading before the last one counts as the last one.
use crate::config::SessionLimits;
use crate::json::{Value, object};
use crate::mutant;
use std::collections::{HashMap, VecDeque};

/// Bytes of a `GB`.
pub const GB: f64 = 1e9;
/// Hosts that a [`HostRates`] tells apart at a time.
pub const MAX_HOSTS: usize = 1024;
/// Largest rate of new connections that is counted, per second.
pub const MAX_NEW_PER_SECOND: u32 = 10_000;
/// Depth of a rate's bucket where `burstKB` is not given: a quarter of a second, at least so many bytes.
pub const MIN_BURST: u64 = 64 * 1024;
/// Fewest bytes that are let pass at a time while a rate holds flows back: with 22 of a TLS record and 66 of a packet 2 % more on the line.
pub const PORTION: u64 = 4096;

const SECOND_US: u64 = 1_000_000;

/// A token bucket of bytes. It starts full; what is taken beyond its content is a debt, paid before anything else
/// passes.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: u64,
    burst: u64,
    level: i64,
    /// Byte-microseconds below one byte.
    rest: u64,
    last_us: Option<u64>,
}

impl Bucket {
    /// A full bucket. A burst of 0 is taken as one byte: nothing would ever pass.
    pub fn new(rate_bytes_per_s: u64, burst_bytes: u64) -> Bucket {
        let burst = clamp_burst(burst_bytes);
        Bucket { rate: rate_bytes_per_s, burst, level: to_level(burst), rest: 0, last_us: None }
    }

    /// Bytes per second.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Bytes that may pass now.
    pub fn available(&mut self, now_us: u64) -> u64 {
        self.refill(now_us);
        u64::try_from(self.level).unwrap_or(0)
    }

    /// Bytes that may pass now, or none where they are so few that they are better waited for: a flow that takes each byte as
    /// it comes makes a record and a packet of it.
    pub fn portion(&mut self, now_us: u64) -> u64 {
        let available = self.available(now_us);
        if available < PORTION.min(self.burst) { 0 } else { available }
    }

    /// Takes bytes that have passed, more than were available if need be.
    pub fn take(&mut self, bytes: u64) {
        self.level = self.level.saturating_sub_unsigned(bytes);
    }

    /// Microseconds until `want` bytes (at most the burst) may pass; `u64::MAX` if the rate is 0.
    pub fn until_available_us(&mut self, now_us: u64, want: u64) -> u64 {
        self.refill(now_us);
        let missing = u64::try_from(to_level(want.min(self.burst)).saturating_sub(self.level)).unwrap_or(0);
        match (missing, self.rate) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (missing, rate) => missing.saturating_mul(SECOND_US).saturating_sub(self.rest).div_ceil(rate),
        }
    }

    /// New limits from now on. A debt stays; what is above the new burst is lost.
    pub fn set_rate(&mut self, now_us: u64, rate_bytes_per_s: u64, burst_bytes: u64) {
        self.refill(now_us);
        self.rate = rate_bytes_per_s;
        self.burst = clamp_burst(burst_bytes);
        self.level = self.level.min(to_level(self.burst));
        self.rest = 0;
    }

    fn refill(&mut self, now_us: u64) {
        let last = self.last_us.unwrap_or(now_us);
        if self.last_us == Some(now_us) || now_us < last {
            return;
        }
        self.last_us = Some(now_us);
        let earned = (now_us - last).saturating_mul(self.rate).saturating_add(self.rest);
        self.level = self.level.saturating_add_unsigned(earned / SECOND_US);
        self.rest = earned % SECOND_US;
        if self.level >= to_level(self.burst) {
            self.level = to_level(self.burst);
            self.rest = 0;
        }
    }
}

/// Within what a level can hold.
fn clamp_burst(burst: u64) -> u64 {
    burst.clamp(1, i64::MAX as u64)
}

fn to_level(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// At most so many in any span of one second, all of which may come at once.
#[derive(Clone, Debug)]
pub struct Rate {
    limit: usize,
    /// When each of the last second was admitted, oldest first.
    admitted: VecDeque<u64>,
}

impl Rate {
    /// A limit of 0 admits nothing; one above [`MAX_NEW_PER_SECOND`] is taken as that.
    pub fn new(per_second: u32) -> Rate {
        Rate { limit: clamp_rate(per_second), admitted: VecDeque::new() }
    }

    /// Whether one more would be admitted now.
    pub fn ready(&mut self, now_us: u64) -> bool {
        self.forget_old(now_us);
        self.admitted.len() < self.limit
    }

    /// Admits one more, or refuses it. The refused do not count.
    pub fn admit(&mut self, now_us: u64) -> bool {
        let ready = self.ready(now_us);
        if ready {
            self.admitted.push_back(self.admitted.back().map_or(now_us, |last| now_us.max(*last)));
        }
        ready
    }

    /// A new limit; what was admitted in the last second counts against it.
    pub fn set_limit(&mut self, per_second: u32) {
        self.limit = clamp_rate(per_second);
    }

    /// Whether none was admitted in the last second.
    pub fn is_idle(&mut self, now_us: u64) -> bool {
        self.forget_old(now_us);
        self.admitted.is_empty()
    }

    fn forget_old(&mut self, now_us: u64) {
        while self.admitted.front().is_some_and(|t| now_us.saturating_sub(*t) >= SECOND_US) {
            self.admitted.pop_front();
        }
    }
}

fn clamp_rate(per_second: u32) -> usize {
    per_second.min(MAX_NEW_PER_SECOND) as usize
}

/// A [`Rate`] for each host, in a table of at most [`MAX_HOSTS`]. Hosts without an admission in the last second make
/// room; if there is none, a new host is refused.
#[derive(Clone, Debug)]
pub struct HostRates {
    limit: u32,
    hosts: HashMap<String, Rate>,
}

impl HostRates {
    /// The limit of each host.
    pub fn new(per_second: u32) -> HostRates {
        HostRates { limit: per_second, hosts: HashMap::new() }
    }

    /// Whether one more connection to the host would be admitted now.
    pub fn ready(&mut self, host: &str, now_us: u64) -> bool {
        match self.hosts.get_mut(host) {
            Some(rate) => rate.ready(now_us),
            None => self.limit > 0 && self.has_room(now_us),
        }
    }

    /// Admits one more connection to the host, or refuses it.
    pub fn admit(&mut self, host: &str, now_us: u64) -> bool {
        self.ready(host, now_us)
            && self.hosts.entry(host.to_owned()).or_insert_with(|| Rate::new(self.limit)).admit(now_us)
    }

    /// A new limit for each host.
    pub fn set_limit(&mut self, per_second: u32) {
        self.limit = per_second;
        self.hosts.values_mut().for_each(|rate| rate.set_limit(per_second));
    }

    fn has_room(&mut self, now_us: u64) -> bool {
        if self.hosts.len() >= MAX_HOSTS {
            self.hosts.retain(|_, rate| {
                rate.forget_old(now_us);
                !rate.admitted.is_empty()
            });
        }
        self.hosts.len() < MAX_HOSTS
    }
}

/// What holds for a session: the lower of each pair. One that is missing on either side means the other's.
pub fn effective(owner: &SessionLimits, coordinator: &SessionLimits) -> SessionLimits {
    SessionLimits {
        max_mbps: lower(owner.max_mbps, coordinator.max_mbps),
        burst_kb: lower(owner.burst_kb, coordinator.burst_kb),
        max_gb: lower(owner.max_gb, coordinator.max_gb),
        max_gb_per_day: lower(owner.max_gb_per_day, coordinator.max_gb_per_day),
        max_connections: lower(owner.max_connections, coordinator.max_connections),
        max_new_per_second: lower(owner.max_new_per_second, coordinator.max_new_per_second),
        max_new_per_host_per_second: lower(
            owner.max_new_per_host_per_second,
            coordinator.max_new_per_host_per_second,
        ),
    }
}

fn lower<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a || mutant::out("limits-lower") { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The contract's `limits`, without the members that have no value.
pub fn limits_to_value(limits: &SessionLimits) -> Value {
    let members: [(&str, Option<Value>); 7] = [
        ("maxMbps", limits.max_mbps.map(Value::from)),
        ("burstKB", limits.burst_kb.map(Value::from)),
        ("maxGB", limits.max_gb.map(Value::from)),
        ("maxGBPerDay", limits.max_gb_per_day.map(Value::from)),
        ("maxConnections", limits.max_connections.map(Value::from)),
        ("maxNewPerSecond", limits.max_new_per_second.map(Value::from)),
        ("maxNewPerHostPerSecond", limits.max_new_per_host_per_second.map(Value::from)),
    ];
    object(members.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// Whole bytes of so many `GB`.
pub fn gigabytes(gb: f64) -> u64 {
    (gb * GB).round() as u64
}

/// Whole bytes per second of so many `Mbps`.
pub fn bytes_per_second(mbps: f64) -> u64 {
    (mbps * 1e6 / 8.0).round() as u64
}

/// The bucket of a session's rate; none if it has no rate of its own.
pub fn bucket(limits: &SessionLimits) -> Option<Bucket> {
    let rate = bytes_per_second(limits.max_mbps?);
    Some(Bucket::new(rate, burst_bytes(limits, rate)))
}

/// Depth of the bucket for `rate` bytes per second: `burstKB`, or else [`MIN_BURST`] and what a quarter of a second
/// carries.
pub fn burst_bytes(limits: &SessionLimits, rate: u64) -> u64 {
    limits.burst_kb.map_or_else(|| (rate / 4).max(MIN_BURST), |kb| kb.saturating_mul(1000))
}

#[cfg(test)]
mod tests;
