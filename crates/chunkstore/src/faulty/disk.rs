//! A disk in memory that knows what is durable and what a power cut may take away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The unit that a power cut keeps or loses as a whole.
pub(super) const SECTOR: usize = 4096;

type Sector = Arc<[u8]>;

/// File contents and names, as the running system sees them and as the medium holds them.
#[derive(Clone, Default)]
pub(super) struct Disk {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    created: u64,
}

#[derive(Clone, Default)]
pub(super) struct File {
    seen: Content,
    durable: Content,
    /// Sectors that the next sync writes.
    dirty: BTreeSet<u64>,
    /// Syncs that failed; each open handle is told of each once.
    errors: u64,
}

/// Sectors that are missing read as zeros.
#[derive(Clone, Default)]
struct Content {
    bytes: u64,
    sectors: BTreeMap<u64, Sector>,
    /// Sectors whose space was given back.
    holes: BTreeSet<u64>,
}

impl Disk {
    pub(super) fn create(&mut self, name: &str, bytes: u64) -> Option<u64> {
        if self.names.contains_key(name) {
            return None;
        }
        self.created += 1;
        let mut file = File::default();
        file.seen.bytes = bytes;
        self.files.insert(self.created, file);
        self.names.insert(name.to_owned(), self.created);
        Some(self.created)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub(super) fn file(&mut self, number: u64) -> &mut File {
        self.files.entry(number).or_default()
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.names.remove(name).is_some()
    }

    pub(super) fn sync_names(&mut self) {
        self.durable_names = self.names.clone();
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// Bytes that named files take.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .filter_map(|number| self.files.get(number))
            .map(File::used_bytes)
            .sum()
    }

    /// The disk after the power was cut: of everything not synced, `keeps` decides what made it.
    pub(super) fn after_power_cut(&self, mut keeps: impl FnMut() -> bool) -> Disk {
        let mut disk = Disk {
            created: self.created,
            ..Disk::default()
        };
        let named: BTreeSet<&String> = self.names.keys().chain(self.durable_names.keys()).collect();
        for name in named {
            let (seen, durable) = (self.names.get(name), self.durable_names.get(name));
            let kept = if seen == durable || keeps() {
                seen
            } else {
                durable
            };
            let Some(number) = kept else { continue };
            let file = self.files.get(number).cloned().unwrap_or_default();
            disk.files.insert(*number, file.after_power_cut(&mut keeps));
            disk.names.insert(name.clone(), *number);
        }
        disk.durable_names = disk.names.clone();
        disk
    }
}

impl File {
    pub(super) fn bytes(&self) -> u64 {
        self.seen.bytes
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, part) in (offset / SECTOR as u64..).zip(bytes.chunks(SECTOR)) {
            let sector = match part.len() {
                SECTOR => Sector::from(part),
                length => {
                    let mut sector = vec![0; SECTOR];
                    if let Some(old) = self.seen.sectors.get(&number) {
                        sector.copy_from_slice(old);
                    }
                    sector[..length].copy_from_slice(part);
                    sector.into()
                }
            };
            self.seen.sectors.insert(number, sector);
            self.seen.holes.remove(&number);
            self.dirty.insert(number);
        }
        self.seen.bytes = self.seen.bytes.max(offset + bytes.len() as u64);
    }

    pub(super) fn read(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) {
        let end = offset.saturating_add(bytes as u64).min(self.seen.bytes);
        let mut at = offset;
        while at < end {
            let (number, start) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let length = (SECTOR - start).min((end - at) as usize);
            match self.seen.sectors.get(&number) {
                Some(sector) => into.extend_from_slice(&sector[start..start + length]),
                None => into.resize(into.len() + length, 0),
            }
            at += length as u64;
        }
    }

    pub(super) fn punch(&mut self, offset: u64, bytes: u64) {
        // Behind the end there is nothing to give back.
        let end = (offset + bytes).min(self.seen.bytes) / SECTOR as u64;
        for number in offset / SECTOR as u64..end {
            self.seen.sectors.remove(&number);
            self.seen.holes.insert(number);
            self.dirty.insert(number);
        }
    }

    pub(super) fn truncate(&mut self, bytes: u64) {
        self.seen.bytes = bytes;
        let first = bytes.div_ceil(SECTOR as u64);
        self.dirty
            .extend(self.seen.sectors.split_off(&first).into_keys());
        self.dirty.extend(self.seen.holes.split_off(&first));
    }

    pub(super) fn sync(&mut self) {
        self.durable.bytes = self.seen.bytes;
        for number in std::mem::take(&mut self.dirty) {
            copy_sector(&self.seen, &mut self.durable, number);
        }
    }

    /// A sync that failed: the system forgets that these sectors still have to be written.
    pub(super) fn fail_sync(&mut self) {
        self.dirty.clear();
        self.errors += 1;
    }

    /// Number of syncs that failed.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    pub(super) fn data_from(&self, offset: u64) -> Option<u64> {
        let (number, _) = self.seen.sectors.range(offset / SECTOR as u64..).next()?;
        Some(offset.max(number * SECTOR as u64)).filter(|data| *data < self.seen.bytes)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.seen.bytes - self.seen.holes.len() as u64 * SECTOR as u64
    }

    fn after_power_cut(mut self, keeps: &mut impl FnMut() -> bool) -> File {
        if self.seen.bytes != self.durable.bytes && keeps() {
            self.durable.bytes = self.seen.bytes;
        }
        for number in self.dirty {
            if keeps() {
                copy_sector(&self.seen, &mut self.durable, number);
            }
        }
        let first_behind = self.durable.bytes.div_ceil(SECTOR as u64);
        self.durable.sectors.split_off(&first_behind);
        self.durable.holes.split_off(&first_behind);
        File {
            seen: self.durable.clone(),
            durable: self.durable,
            ..File::default()
        }
    }
}

fn copy_sector(from: &Content, to: &mut Content, number: u64) {
    match from.sectors.get(&number) {
        Some(sector) => to.sectors.insert(number, Arc::clone(sector)),
        None => to.sectors.remove(&number),
    };
    if from.holes.contains(&number) {
        to.holes.insert(number);
    } else {
        to.holes.remove(&number);
    }
}
