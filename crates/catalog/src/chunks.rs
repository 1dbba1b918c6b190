//! Chunk records: which content is stored, and where.
//!
//! Invariants
//! - A record is only written after its frame is durable (DESIGN 2.3, 1).
//! - Whoever makes a reference to a chunk does so in the transaction that looked at its record, under
//!   [`Txn::hold_epoch_shared`], and stamps it with that epoch: a collection that began earlier cannot take it.
//! - Only a live chunk may be referred to anew: a condemned one is revived by the stamp, a damaged one needs new bytes.

use crate::{Batch, Error, Row, Txn, Value};
use std::collections::HashMap;
use types::{ChunkName, Domain};

const TABLE: &str = "chunks";

/// Where a frame is: a container, and a range of it in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The container's id.
    pub container: u64,
    /// Where the frame begins.
    pub offset: u64,
    /// Length of the frame.
    pub length: u32,
}

/// Whether a chunk may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkState {
    /// Stored and good.
    Live,
    /// Without references when a collection looked; waiting to be deleted or revived.
    Condemned,
    /// Its bytes failed a check; the next put of the content replaces it.
    Damaged,
}

impl ChunkState {
    fn number(self) -> i64 {
        match self {
            ChunkState::Live => 1,
            ChunkState::Condemned => 2,
            ChunkState::Damaged => 3,
        }
    }

    fn from_number(number: i64) -> Result<ChunkState, Error> {
        match number {
            1 => Ok(ChunkState::Live),
            2 => Ok(ChunkState::Condemned),
            3 => Ok(ChunkState::Damaged),
            _ => Err(Error::Corrupt {
                table: TABLE,
                reason: format!("{number} is no state"),
            }),
        }
    }
}

/// The key of a chunk.
pub type ChunkKey = (Domain, ChunkName);

/// One stored chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRecord {
    /// The scope of deduplication.
    pub domain: Domain,
    /// The name within it.
    pub name: ChunkName,
    /// What it holds, as the chunk store numbers it.
    pub kind: u8,
    /// Whether it may be used.
    pub state: ChunkState,
    /// Where its frame is.
    pub location: Location,
    /// Bytes after encoding.
    pub stored_bytes: u32,
    /// How it is encoded, as the chunk store numbers it.
    pub codec: u8,
    /// The data key that it is encrypted under; 0 for none.
    pub data_key: u32,
    /// The collection cycle in which it was last referred to anew.
    pub epoch: i64,
}

impl ChunkRecord {
    /// The key.
    pub fn key(&self) -> ChunkKey {
        (self.domain, self.name)
    }
}

static FIND: Batch = Batch::any_of(
    "SELECT domain, name, kind, state, container, frame_offset, frame_length, stored_bytes, codec, \
     data_key, epoch FROM chunks WHERE ",
    0,
    "(domain = ? AND name = ?)",
    "",
);

static PUT: Batch = Batch::new(
    "INSERT INTO chunks (domain, name, kind, state, container, frame_offset, frame_length, \
     stored_bytes, codec, data_key, epoch) VALUES ",
    0,
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (domain, name) DO UPDATE SET kind = excluded.kind, state = excluded.state, \
     container = excluded.container, frame_offset = excluded.frame_offset, \
     frame_length = excluded.frame_length, stored_bytes = excluded.stored_bytes, \
     codec = excluded.codec, data_key = excluded.data_key, epoch = excluded.epoch",
);

static STAMP: Batch = Batch::any_of(
    "UPDATE chunks SET epoch = $1, state = 1 WHERE ",
    1,
    "(domain = ? AND name = ?)",
    "",
);

/// The records of these chunks, as far as they exist. Keys may repeat.
pub async fn find(
    txn: &mut dyn Txn,
    keys: &[ChunkKey],
) -> Result<HashMap<ChunkKey, ChunkRecord>, Error> {
    let found = FIND.query(txn, &[], key_rows(keys)?).await?;
    found
        .iter()
        .map(|row| read(row).map(|record| (record.key(), record)))
        .collect()
}

/// Writes records, new or in place of what was there; no key twice.
pub async fn put(txn: &mut dyn Txn, records: &[ChunkRecord]) -> Result<(), Error> {
    let rows = records
        .iter()
        .map(|record| {
            Ok([
                record.domain.number().try_into()?,
                record.name.as_bytes().into(),
                record.kind.into(),
                record.state.number().into(),
                record.location.container.try_into()?,
                record.location.offset.try_into()?,
                record.location.length.into(),
                record.stored_bytes.into(),
                record.codec.into(),
                record.data_key.into(),
                record.epoch.into(),
            ])
        })
        .collect::<Result<Vec<_>, Error>>()?;
    PUT.execute(txn, &[], rows).await?;
    Ok(())
}

/// Stamps chunks that are live or condemned with `epoch`; the condemned ones are live again.
pub async fn stamp(txn: &mut dyn Txn, keys: &[ChunkKey], epoch: i64) -> Result<(), Error> {
    STAMP.execute(txn, &[epoch.into()], key_rows(keys)?).await?;
    Ok(())
}

/// Marks a chunk as damaged, unless it has moved away from `location` since its bytes were read. Answers whether it was not marked before.
pub async fn mark_damaged(
    txn: &mut dyn Txn,
    (domain, name): ChunkKey,
    location: Location,
) -> Result<bool, Error> {
    let changed = txn
        .execute(
            "UPDATE chunks SET state = 3 WHERE domain = $1 AND name = $2 AND container = $3 \
             AND frame_offset = $4 AND state <> 3",
            vec![
                domain.number().try_into()?,
                name.as_bytes().into(),
                location.container.try_into()?,
                location.offset.try_into()?,
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Makes a damaged chunk live again whose bytes at `location` were found good after all, unless it has moved away since. Answers whether
/// it was damaged.
pub async fn mark_sound(
    txn: &mut dyn Txn,
    (domain, name): ChunkKey,
    location: Location,
) -> Result<bool, Error> {
    let changed = txn
        .execute(
            "UPDATE chunks SET state = 1 WHERE domain = $1 AND name = $2 AND container = $3 \
             AND frame_offset = $4 AND state = 3",
            vec![
                domain.number().try_into()?,
                name.as_bytes().into(),
                location.container.try_into()?,
                location.offset.try_into()?,
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// At most `limit` keys after `after`, in order.
pub async fn keys_after(
    txn: &mut dyn Txn,
    after: Option<ChunkKey>,
    limit: u32,
) -> Result<Vec<ChunkKey>, Error> {
    let (domain, name) = after_values(after)?;
    let rows = txn
        .query(
            "SELECT domain, name FROM chunks WHERE (domain, name) > ($1, $2) \
             ORDER BY domain, name LIMIT $3",
            vec![domain, name, limit.into()],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((Domain::from_number(row.uint(0, TABLE)?), read_name(row, 1)?)))
        .collect()
}

/// At most `limit` records with keys after `after`, in order.
pub async fn records_after(
    txn: &mut dyn Txn,
    after: Option<ChunkKey>,
    limit: u32,
) -> Result<Vec<ChunkRecord>, Error> {
    let (domain, name) = after_values(after)?;
    let rows = txn
        .query(
            "SELECT domain, name, kind, state, container, frame_offset, frame_length, stored_bytes, codec, \
             data_key, epoch FROM chunks WHERE (domain, name) > ($1, $2) ORDER BY domain, name LIMIT $3",
            vec![domain, name, limit.into()],
        )
        .await?;
    rows.iter().map(read).collect()
}

static CONDEMN: Batch = Batch::any_of(
    "UPDATE chunks SET state = 2 WHERE state = 1 AND epoch < $1 AND (",
    1,
    "(domain = ? AND name = ?)",
    ")",
);

static REVIVE: Batch = Batch::any_of(
    "UPDATE chunks SET state = 1 WHERE state = 2 AND (",
    0,
    "(domain = ? AND name = ?)",
    ")",
);

static DELETE: Batch = Batch::any_of(
    "DELETE FROM chunks WHERE ",
    0,
    "(domain = ? AND name = ?)",
    "",
);

/// Condemns those of the chunks that are live and were last referred to before `epoch`.
pub async fn condemn(txn: &mut dyn Txn, keys: &[ChunkKey], epoch: i64) -> Result<(), Error> {
    CONDEMN
        .execute(txn, &[epoch.into()], key_rows(keys)?)
        .await?;
    Ok(())
}

/// Makes those of the chunks that are condemned live again, without a stamp.
pub async fn revive(txn: &mut dyn Txn, keys: &[ChunkKey]) -> Result<(), Error> {
    REVIVE.execute(txn, &[], key_rows(keys)?).await?;
    Ok(())
}

/// Deletes records. The caller has read them in this transaction, and frees what they named.
pub async fn delete(txn: &mut dyn Txn, keys: &[ChunkKey]) -> Result<(), Error> {
    DELETE.execute(txn, &[], key_rows(keys)?).await?;
    Ok(())
}

fn key_rows(keys: &[ChunkKey]) -> Result<Vec<[Value; 2]>, Error> {
    keys.iter()
        .map(|(domain, name)| Ok([domain.number().try_into()?, name.as_bytes().into()]))
        .collect()
}

fn after_values(after: Option<ChunkKey>) -> Result<(Value, Value), Error> {
    Ok(match after {
        Some((domain, name)) => (domain.number().try_into()?, name.as_bytes().into()),
        None => (Value::Int(-1), Value::Bytes(Vec::new())),
    })
}

/// Where the frames of recorded chunks lie in a container. Reads the whole table: for recovery and audit alone.
pub async fn locations_in(txn: &mut dyn Txn, container: u64) -> Result<Vec<Location>, Error> {
    let rows = txn
        .query(
            "SELECT container, frame_offset, frame_length FROM chunks WHERE container = $1",
            vec![container.try_into()?],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Location {
                container: row.uint(0, TABLE)?,
                offset: row.uint(1, TABLE)?,
                length: row.uint32(2, TABLE)?,
            })
        })
        .collect()
}

fn read(row: &Row) -> Result<ChunkRecord, Error> {
    Ok(ChunkRecord {
        domain: Domain::from_number(row.uint(0, TABLE)?),
        name: read_name(row, 1)?,
        kind: read_u8(row, 2)?,
        state: ChunkState::from_number(row.int(3, TABLE)?)?,
        location: Location {
            container: row.uint(4, TABLE)?,
            offset: row.uint(5, TABLE)?,
            length: row.uint32(6, TABLE)?,
        },
        stored_bytes: row.uint32(7, TABLE)?,
        codec: read_u8(row, 8)?,
        data_key: row.uint32(9, TABLE)?,
        epoch: row.int(10, TABLE)?,
    })
}

fn read_name(row: &Row, column: usize) -> Result<ChunkName, Error> {
    let bytes: [u8; 32] = row.array(column, TABLE)?;
    ChunkName::from_slice(&bytes).ok_or(Error::Corrupt {
        table: TABLE,
        reason: "a name has another length".to_owned(),
    })
}

fn read_u8(row: &Row, column: usize) -> Result<u8, Error> {
    let number = row.int(column, TABLE)?;
    u8::try_from(number).map_err(|_| Error::Corrupt {
        table: TABLE,
        reason: format!("{number} is out of range"),
    })
}
