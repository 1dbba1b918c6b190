//! Every limit that holds in more than one crate, each with its reason.
//!
//! A limit of one crate alone is a constant beside its user.

use std::time::Duration;

/// Tags of one snapshot (SPEC 2.0).
pub const TAGS_MAX: usize = 50;

/// Default inactivity of a pending snapshot before it fails (SPEC 3.6).
pub const TIMEOUT_MINUTES_DEFAULT: u32 = 60;

/// How long a block token can be used (SPEC 8.32).
pub const BLOCK_TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long a page token can be used (SPEC 3.10).
pub const PAGE_TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);

/// Items in one page of a listing (SPEC 2.0).
pub const LIST_RESULTS_MAX: usize = 10_000;

/// How long a client token is remembered at least (SPEC 8.1).
pub const CLIENT_TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
