//! The machine and this process, as the kernel tells them.

/// Longest name that is told, characters.
const MAX_NAME: usize = 64;

/// The board's name as OpenWrt or the device tree has it; `unknown` elsewhere.
pub fn board() -> String {
    let places = ["/tmp/sysinfo/board_name", "/proc/device-tree/model"];
    let read = places.iter().find_map(|p| std::fs::read_to_string(p).ok());
    name(&read.unwrap_or_default())
}

/// The kernel's release.
pub fn kernel() -> String {
    name(&rustix::system::uname().release().to_string_lossy())
}

/// Resident memory of this process, 1000 bytes; 0 where `/proc` is not mounted.
pub fn rss_kb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64) / 1000
}

/// Processor time that this process has used, microseconds, in steps of the kernel's tick (10 ms); 0 where `/proc` is not mounted.
pub fn cpu_us() -> u64 {
    // Not clock_gettime: rustix and musl disagree about its struct on 32-bit MIPS.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; what follows it begins with the third field (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        fields.split_ascii_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1)
}

fn name(text: &str) -> String {
    let name: String =
        text.trim_end_matches('\0').trim().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_somewhere_and_uses_something() {
        assert!(!board().is_empty() && kernel().starts_with(|c: char| c.is_ascii_digit()));
        assert!(rss_kb() > 100);
        while cpu_us() == 0 {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_name_is_bounded_and_printable() {
        assert_eq!(name("ab\nc\0"), "abc");
        assert_eq!(name(&"x".repeat(99)).len(), MAX_NAME);
        assert_eq!(name("\0"), "unknown");
    }
}
