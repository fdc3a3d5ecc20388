//! Rules that a mutation run takes out, one at a time, to see that a test fails without each. Only builds with feature
//! `mutants`, which are never packaged, can take one out; in every other build [`out`] is `false` when it is compiled.

/// Whether the rule of this name is taken out (`ECHOMESH_TAKE_OUT`).
#[cfg(feature = "mutants")]
pub fn out(rule: &str) -> bool {
    static TAKEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    TAKEN.get_or_init(|| std::env::var("ECHOMESH_TAKE_OUT").ok()).as_deref() == Some(rule)
}

/// Whether the rule of this name is taken out: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn out(_: &str) -> bool {
    false
}

#[cfg(all(test, not(feature = "mutants")))]
mod tests {
    #[test]
    fn no_rule_is_out_in_an_ordinary_build() {
        const OUT: bool = super::out("any");
        const { assert!(!OUT) };
    }
}
