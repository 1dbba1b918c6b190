//! How much of what can be enumerated a test goes through.

/// Whether a test shall leave nothing out: `DRYSTONE_SIM_THOROUGH` is set, as `cargo xtask sim --thorough` does.
#[allow(
    clippy::disallowed_methods,
    reason = "tests have no settings to read it from"
)]
pub fn is_thorough() -> bool {
    std::env::var_os("DRYSTONE_SIM_THOROUGH").is_some()
}
