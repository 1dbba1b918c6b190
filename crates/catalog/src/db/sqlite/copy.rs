//! A copy of a database, also of one that another process serves meanwhile.
//!
//! The copy holds what was committed when it began, in one file without a WAL, and says of itself when it was made
//! ([`crate::meta::COPIED_AT`]). The original is only read; its WAL is kept from beginning anew while that lasts.

use super::txn::classify;
use super::{READ_WRITE, at, check_header, open_session};
use crate::{Error, meta};
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;
use types::UnixMillis;

/// Memory for pages of the original: each is read once.
const CACHE_BYTES: u64 = 8 << 20;

/// Writes a copy of `from` to `to`, which must not exist. Not durable yet when it answers. Blocks.
pub(super) fn copy(from: &Path, to: &Path, copied_at: UnixMillis) -> Result<(), Error> {
    let into = to.to_str().ok_or_else(|| Error::Unavailable {
        reason: format!("{} is no name for a database", to.display()),
    })?;
    let original = open_session(from, CACHE_BYTES, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| at(from, error))?;
    check_header(&original.connection).map_err(|error| at(from, error))?;
    original
        .connection
        .execute("VACUUM INTO ?1", params![into])
        .map_err(classify)
        .map_err(|error| at(to, error))?;
    mark(to, copied_at).map_err(|error| at(to, error))
}

fn mark(copy: &Path, copied_at: UnixMillis) -> Result<(), Error> {
    let flags = READ_WRITE.difference(OpenFlags::SQLITE_OPEN_CREATE);
    let connection = Connection::open_with_flags(copy, flags).map_err(classify)?;
    connection
        .pragma_update(None, "journal_mode", "memory")
        .map_err(classify)?;
    connection
        .execute(
            &meta::UPSERT_NUMBER.replace('$', "?"),
            params![meta::COPIED_AT, copied_at],
        )
        .map(drop)
        .map_err(classify)
}
