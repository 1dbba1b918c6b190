//! What can go wrong in the catalog, named by what happened.

/// An error of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is busy, unreachable or gave up after its retries; nothing was committed.
    #[error("the catalog is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The connection broke while committing: the transaction may or may not be there. The verb rechecks.
    #[error("the outcome of a commit is unknown: {reason}")]
    CommitUnknown {
        /// Why.
        reason: String,
    },
    /// The database reported an I/O error: the process must end and recover at its next start. Only then is it known whether the
    /// transaction under way is there.
    #[error("catalog I/O failed: {reason}")]
    Io {
        /// What the database said.
        reason: String,
    },
    /// There is no room to write.
    #[error("the catalog's disk is full")]
    NoSpace,
    /// A row does not have the form that it must have.
    #[error("a record of {table} is damaged: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A statement broke a constraint, or is wrong: a bug of ours.
    #[error("a statement failed: {reason}")]
    Statement {
        /// What the database said.
        reason: String,
    },
    /// The data was written by a newer version.
    #[error(
        "the catalog has format version {found}, this program knows versions up to {known}; run a newer drystone"
    )]
    NewerFormat {
        /// The version found.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
}

impl Error {
    /// The same error once more, for several callers that share a fate.
    pub(crate) fn same(&self) -> Error {
        match self {
            Error::Unavailable { reason } => Error::Unavailable {
                reason: reason.clone(),
            },
            Error::CommitUnknown { reason } => Error::CommitUnknown {
                reason: reason.clone(),
            },
            Error::Io { reason } => Error::Io {
                reason: reason.clone(),
            },
            Error::NoSpace => Error::NoSpace,
            Error::Corrupt { table, reason } => Error::Corrupt {
                table,
                reason: reason.clone(),
            },
            Error::Statement { reason } => Error::Statement {
                reason: reason.clone(),
            },
            Error::NewerFormat { found, known } => Error::NewerFormat {
                found: *found,
                known: *known,
            },
        }
    }
}
