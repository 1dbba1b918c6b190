//! The time of timeouts and rates: tokio's, which tests pause.

use tokio::time::Instant;

/// Now.
#[allow(
    clippy::disallowed_methods,
    reason = "follows tokio's clock, which tests pause, as its timers do"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
