//! The chunk store's memory of its containers, kept in the catalog.

use catalog::containers::ContainerRecord;
use catalog::{Db, DbExt};
use chunkstore::{
    ContainerId, ContainerKind, ContainerRegistry, ContainerState, ContainerStatus, Error,
};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The registry of containers on a catalog.
#[derive(Clone)]
pub struct ContainerCatalog {
    db: Arc<dyn Db>,
}

impl ContainerCatalog {
    /// A registry in this catalog.
    pub fn new(db: Arc<dyn Db>) -> ContainerCatalog {
        ContainerCatalog { db }
    }
}

impl ContainerRegistry for ContainerCatalog {
    fn reserve(&self) -> BoxFuture<'_, Result<ContainerId, Error>> {
        Box::pin(async move {
            let id = self
                .db
                .transact(|txn| Box::pin(async move { catalog::containers::reserve(txn).await }))
                .await
                .map_err(registry_error)?;
            Ok(ContainerId(id))
        })
    }

    fn record(&self, status: ContainerStatus) -> BoxFuture<'_, Result<(), Error>> {
        let record = ContainerRecord {
            id: status.id.0,
            kind: status.kind as u8,
            state: status.state as u8,
            bytes: status.bytes,
        };
        Box::pin(async move {
            self.db
                .transact(move |txn| {
                    Box::pin(async move { catalog::containers::record(txn, record).await })
                })
                .await
                .map_err(registry_error)
        })
    }

    fn known(&self) -> BoxFuture<'_, Result<(ContainerId, Vec<ContainerStatus>), Error>> {
        Box::pin(async move {
            let (last, records) = self
                .db
                .view(|txn| {
                    Box::pin(async move {
                        let last = catalog::containers::last_reserved(txn).await?;
                        let removed = ContainerState::Removed as u8;
                        Ok((last, catalog::containers::all_except(txn, removed).await?))
                    })
                })
                .await
                .map_err(registry_error)?;
            let containers = records.into_iter().map(status).collect::<Result<_, _>>()?;
            Ok((ContainerId(last), containers))
        })
    }
}

fn status(record: ContainerRecord) -> Result<ContainerStatus, Error> {
    let unknown = |what: &str, number: u8| {
        let reason = format!("container {} has the unknown {what} {number}", record.id);
        registry_error(catalog::Error::Corrupt {
            table: "containers",
            reason,
        })
    };
    let kind = match record.kind {
        1 => ContainerKind::Blocks,
        2 => ContainerKind::Pages,
        other => return Err(unknown("kind", other)),
    };
    let state = match record.state {
        1 => ContainerState::Open,
        2 => ContainerState::Sealed,
        4 => ContainerState::Closed,
        5 => ContainerState::Settled,
        other => return Err(unknown("state", other)),
    };
    Ok(ContainerStatus {
        id: ContainerId(record.id),
        kind,
        state,
        bytes: record.bytes,
    })
}

fn registry_error(error: catalog::Error) -> Error {
    Error::Registry(Box::new(error))
}
