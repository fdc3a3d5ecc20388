//! Who has shaken hands lately, in bounded memory.
use super::Source;
use crate::sorted::SortedMap;

/// Sources, or groups of sources, that are remembered. More are granted a handshake in no second that counts.
const MAX_RECENT: usize = 1024;

/// Handshakes by source, in thousandths, leaking away at so many thousandths per second.
#[derive(Debug, Default)]
pub(super) struct Recent(SortedMap<Source, (u32, u64)>);

impl Recent {
    /// What is left of a source's handshakes now.
    pub fn level(&self, source: Source, leak: u32, now_ms: u64) -> u32 {
        self.0.get(&source).map_or(0, |(level, at)| leaked(*level, now_ms.saturating_sub(*at), leak))
    }

    /// One more.
    pub fn add(&mut self, source: Source, leak: u32, now_ms: u64) {
        let level = self.level(source, leak, now_ms);
        if self.0.len() >= MAX_RECENT && !self.0.contains_key(&source) {
            self.0.retain(|_, (level, at)| leaked(*level, now_ms.saturating_sub(*at), leak) > 0);
        }
        if self.0.len() >= MAX_RECENT
            && !self.0.contains_key(&source)
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(s, _)| *s)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(source, (level.saturating_add(1000), now_ms));
    }
}

fn leaked(level: u32, passed_ms: u64, leak: u32) -> u32 {
    let gone = passed_ms.saturating_mul(leak.into()) / 1000;
    level.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_handshakes_are_remembered_up_to_a_bound() {
        let mut recent = Recent::default();
        for n in 0..MAX_RECENT as u32 + 10 {
            recent.add(Source::V4(n), 1000, 0);
        }
        assert_eq!(recent.0.len(), MAX_RECENT);
        recent.add(Source::Local, 1000, 1000);
        assert_eq!(recent.0.len(), 1, "what has leaked away is forgotten first");
    }
}
