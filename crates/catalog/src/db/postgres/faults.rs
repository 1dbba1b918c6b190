//! What an error of PostgreSQL means: run the body again, or tell the caller.

use super::super::Access;
use crate::Error;
use tokio_postgres::error::SqlState;

/// How a statement or an attempt failed.
pub(super) enum Fault {
    /// Nothing is committed and another attempt may succeed; why this one did not.
    Again(String),
    /// Nothing is committed, or [`Error::CommitUnknown`]; no further attempt.
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Final(error)
    }
}

impl Fault {
    /// What the body is told; it may have to undo nothing, since nothing stays.
    pub(super) fn to_error(&self) -> Error {
        match self {
            Fault::Again(reason) => Error::Unavailable {
                reason: reason.clone(),
            },
            Fault::Final(error) => error.same(),
        }
    }
}

/// The meaning of an error before COMMIT, when nothing can have been committed.
pub(super) fn of_statement(error: &tokio_postgres::Error) -> Fault {
    let reason = describe(error);
    // Parameters and columns are checked before they get here: an error without a code is one of the connection.
    let Some(state) = error.code() else {
        return Fault::Again(reason);
    };
    if *state == SqlState::DISK_FULL {
        return Fault::Final(Error::NoSpace);
    }
    if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(state) {
        return Fault::Final(Error::Corrupt {
            table: "the database server",
            reason,
        });
    }
    if *state == SqlState::QUERY_CANCELED {
        return Fault::Final(Error::Unavailable { reason });
    }
    match state.code().get(..2) {
        // Transaction rollback (conflict, deadlock), connection exception, operator intervention (shutdown).
        Some("40" | "08" | "57") => Fault::Again(reason),
        // Insufficient resources, object in use, system error.
        Some("53" | "55" | "58") => Fault::Final(Error::Unavailable { reason }),
        _ => Fault::Final(Error::Statement { reason }),
    }
}

/// The meaning of an error of COMMIT.
pub(super) fn of_commit(error: &tokio_postgres::Error, access: Access) -> Fault {
    if access == Access::Read {
        return of_statement(error);
    }
    let unknown = match error.code() {
        None => true,
        Some(state) if *state == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN => true,
        Some(state) => matches!(state.code().get(..2), Some("08" | "57" | "58" | "XX")),
    };
    match unknown {
        true => Fault::Final(Error::CommitUnknown {
            reason: describe(error),
        }),
        false => of_statement(error),
    }
}

/// The server's own words with the code; without a server, what the connection met.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
