//! A registry in memory, for tests.

use crate::{ContainerId, ContainerRegistry, ContainerState, ContainerStatus, Error};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Remembers containers for as long as it lives: like a catalog whose every commit survives.
#[derive(Debug, Default)]
pub struct MemoryRegistry(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    highest: u64,
    containers: BTreeMap<ContainerId, ContainerStatus>,
    /// Calls that still succeed; `None` for all.
    calls_left: Option<u64>,
}

impl MemoryRegistry {
    /// Knows no container.
    pub fn new() -> MemoryRegistry {
        MemoryRegistry::default()
    }

    /// A second registry with the same memory, which then goes its own way: a restored catalog.
    pub fn restored_copy(&self) -> MemoryRegistry {
        MemoryRegistry(Mutex::new(self.state().clone()))
    }

    /// Lets this many calls succeed and all later ones fail, without effect.
    pub fn fail_after(&self, calls: u64) {
        self.state().calls_left = Some(calls);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        let mut state = self.state();
        if let Some(left) = &mut state.calls_left {
            if *left == 0 {
                return Err(Error::Registry("the registry was told to fail".into()));
            }
            *left -= 1;
        }
        Ok(act(&mut state))
    }
}

impl ContainerRegistry for MemoryRegistry {
    fn reserve(&self) -> BoxFuture<'_, Result<ContainerId, Error>> {
        Box::pin(async move {
            self.call(|state| {
                state.highest += 1;
                ContainerId(state.highest)
            })
        })
    }

    fn record(&self, status: ContainerStatus) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.call(|state| {
                state.containers.insert(status.id, status);
            })
        })
    }

    fn known(&self) -> BoxFuture<'_, Result<(ContainerId, Vec<ContainerStatus>), Error>> {
        Box::pin(async move {
            self.call(|state| {
                let known = state.containers.values().copied();
                let known = known.filter(|status| status.state != ContainerState::Removed);
                (ContainerId(state.highest), known.collect())
            })
        })
    }
}
