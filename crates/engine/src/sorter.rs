//! Sorts more records than memory holds, and makes one of those with equal keys.
//!
//! Records have a fixed size and begin with their key. They are gathered in memory up to a bound, sorted and written to a file of the
//! scratch directory as a run; runs are merged when they are read. What fits into memory never touches a disk.
//!
//! Safety: a collection takes what is not in here for garbage. So a run knows how many records it has and what they hash to, and whoever reads
//! it to its end compares: bytes that the disk lost are an error, never a shorter list.
//!
//! A run's file loses its name as soon as it is open: whatever ends the process leaves nothing behind. Sorting and all reading and writing
//! of files is done on blocking threads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of records gathered before they are written to a run. A mark has three sorters at a time.
pub(crate) const MEMORY_BYTES: usize = 32 << 20;

/// Runs merged at a time: each has a buffer of [`BUFFER_BYTES`]. With more, they are merged into one first.
const RUNS_MAX: usize = 64;

const BUFFER_BYTES: usize = 128 << 10;

/// Makes one record of two with equal keys, in the first.
pub(crate) type Combine<const N: usize> = fn(&mut [u8; N], &[u8; N]);

/// Gathers records of `N` bytes, whose first `K` bytes are the key.
pub(crate) struct Sorter<const N: usize, const K: usize> {
    scratch: Arc<Path>,
    combine: Combine<N>,
    records_max: usize,
    records: Vec<[u8; N]>,
    runs: Vec<Run>,
}

/// A sorted file.
struct Run {
    file: File,
    sum: Sum,
}

/// How many records there are, and what they hash to.
#[derive(Clone, Default)]
struct Sum {
    records: u64,
    hasher: DefaultHasher,
}

impl Sum {
    fn add(&mut self, record: &[u8]) {
        self.records += 1;
        self.hasher.write(record);
    }

    fn matches(&self, other: &Sum) -> bool {
        (self.records, self.hasher.finish()) == (other.records, other.hasher.finish())
    }
}

/// A run that is being read.
struct Reading {
    file: BufReader<File>,
    written: Sum,
    read: Sum,
}

impl<const N: usize, const K: usize> Sorter<N, K> {
    /// An empty sorter that writes to `scratch` what `memory_bytes` do not hold.
    pub(crate) fn new(scratch: Arc<Path>, memory_bytes: usize, combine: Combine<N>) -> Self {
        Sorter {
            scratch,
            combine,
            records_max: (memory_bytes / N).max(2),
            records: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Takes a record.
    pub(crate) async fn push(&mut self, record: [u8; N]) -> io::Result<()> {
        self.records.push(record);
        if self.records.len() >= self.records_max {
            self.make_room().await?;
        }
        Ok(())
    }

    /// Everything that was pushed, in the order of keys, no key twice.
    pub(crate) async fn sorted(mut self) -> io::Result<Sorted<N, K>> {
        let mut records = std::mem::take(&mut self.records);
        let combine = self.combine;
        if self.runs.is_empty() && records.len() < INLINE_RECORDS_MAX {
            sort::<N, K>(&mut records, combine);
        } else {
            records = blocking(move || {
                sort::<N, K>(&mut records, combine);
                Ok(records)
            })
            .await?;
        }
        if self.runs.is_empty() {
            let records = records.into_iter();
            return Ok(Sorted(Source::Memory(records)));
        }
        let mut runs = std::mem::take(&mut self.runs);
        let scratch = Arc::clone(&self.scratch);
        let merge = blocking(move || {
            runs.push(write_run(&scratch, records.into_iter().map(Ok))?);
            Merge::new(runs, combine)
        });
        Ok(Sorted(Source::Runs(Some(Box::new(merge.await?)))))
    }

    /// Makes the records in memory distinct, and writes them to a run if that was no use.
    async fn make_room(&mut self) -> io::Result<()> {
        let mut records = std::mem::take(&mut self.records);
        let mut runs = std::mem::take(&mut self.runs);
        let (scratch, combine) = (Arc::clone(&self.scratch), self.combine);
        let half = self.records_max / 2;
        (self.records, self.runs) = blocking(move || {
            sort::<N, K>(&mut records, combine);
            if records.len() > half {
                runs.push(write_run(&scratch, records.drain(..).map(Ok))?);
            }
            if runs.len() > RUNS_MAX {
                let merged = Merge::<N, K>::new(runs, combine)?;
                runs = vec![write_run(&scratch, merged)?];
            }
            Ok((records, runs))
        })
        .await?;
        Ok(())
    }
}

/// Records sorted where they are asked for: it takes some milliseconds.
const INLINE_RECORDS_MAX: usize = 10_000;

/// Records in order.
pub(crate) struct Sorted<const N: usize, const K: usize>(Source<N, K>);

enum Source<const N: usize, const K: usize> {
    Memory(std::vec::IntoIter<[u8; N]>),
    /// `None` after an error.
    Runs(Option<Box<Merge<N, K>>>),
}

impl<const N: usize, const K: usize> Sorted<N, K> {
    /// The next records, at most `count`; none at the end.
    pub(crate) async fn next(&mut self, count: usize) -> io::Result<Vec<[u8; N]>> {
        match &mut self.0 {
            Source::Memory(records) => Ok(records.take(count).collect()),
            Source::Runs(merge) => {
                let Some(mut under_way) = merge.take() else {
                    return Err(io::Error::other("a sorted run could not be read before"));
                };
                let (back, records) = blocking(move || {
                    let records = under_way.by_ref().take(count);
                    let records = records.collect::<io::Result<Vec<_>>>()?;
                    Ok((under_way, records))
                })
                .await?;
                *merge = Some(back);
                Ok(records)
            }
        }
    }
}

fn sort<const N: usize, const K: usize>(records: &mut Vec<[u8; N]>, combine: Combine<N>) {
    records.sort_unstable_by(|a, b| a[..K].cmp(&b[..K]));
    records.dedup_by(|next, kept| {
        let equal = next[..K] == kept[..K];
        if equal {
            combine(kept, next);
        }
        equal
    });
}

/// Reads several runs as one.
struct Merge<const N: usize, const K: usize> {
    runs: Vec<Reading>,
    /// The next record of each run that is not at its end.
    heads: BinaryHeap<Reverse<(KeyFirst<N, K>, usize)>>,
    combine: Combine<N>,
}

/// Ordered by the key alone, so that a combined value does not change the order.
struct KeyFirst<const N: usize, const K: usize>([u8; N]);

impl<const N: usize, const K: usize> PartialEq for KeyFirst<N, K> {
    fn eq(&self, other: &Self) -> bool {
        self.0[..K] == other.0[..K]
    }
}

impl<const N: usize, const K: usize> Eq for KeyFirst<N, K> {}

impl<const N: usize, const K: usize> PartialOrd for KeyFirst<N, K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize, const K: usize> Ord for KeyFirst<N, K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0[..K].cmp(&other.0[..K])
    }
}

impl<const N: usize, const K: usize> Merge<N, K> {
    fn new(runs: Vec<Run>, combine: Combine<N>) -> io::Result<Self> {
        let mut merge = Merge {
            runs: Vec::with_capacity(runs.len()),
            heads: BinaryHeap::with_capacity(runs.len()),
            combine,
        };
        for mut run in runs {
            run.file.rewind()?;
            merge.runs.push(Reading {
                file: BufReader::with_capacity(BUFFER_BYTES, run.file),
                written: run.sum,
                read: Sum::default(),
            });
            merge.advance(merge.runs.len() - 1)?;
        }
        Ok(merge)
    }

    /// Puts the next record of this run among the heads.
    fn advance(&mut self, number: usize) -> io::Result<()> {
        let run = &mut self.runs[number];
        if run.read.records == run.written.records {
            return match run.read.matches(&run.written) {
                true => Ok(()),
                false => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a sorted run does not hold what was written to it",
                )),
            };
        }
        let mut record = [0; N];
        run.file.read_exact(&mut record)?;
        run.read.add(&record);
        self.heads.push(Reverse((KeyFirst(record), number)));
        Ok(())
    }

    fn pop(&mut self) -> io::Result<Option<[u8; N]>> {
        let Some(Reverse((KeyFirst(record), run))) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(run)?;
        Ok(Some(record))
    }
}

impl<const N: usize, const K: usize> Iterator for Merge<N, K> {
    type Item = io::Result<[u8; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = match self.pop().transpose()? {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        while self
            .heads
            .peek()
            .is_some_and(|Reverse((next, _))| next.0[..K] == record[..K])
        {
            match self.pop() {
                Ok(Some(equal)) => (self.combine)(&mut record, &equal),
                Ok(None) => break,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(record))
    }
}

fn write_run<const N: usize>(
    scratch: &Path,
    records: impl Iterator<Item = io::Result<[u8; N]>>,
) -> io::Result<Run> {
    let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, nameless_file(scratch)?);
    let mut sum = Sum::default();
    for record in records {
        let record = record?;
        out.write_all(&record)?;
        sum.add(&record);
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Run { file, sum })
}

/// A new file without a name.
fn nameless_file(scratch: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(scratch)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf = scratch.join(format!("run-{}-{number}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| io::Error::other(format!("a blocking thread ended early: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn add(sum: &mut [u8; 3], other: &[u8; 3]) {
        sum[2] = sum[2].wrapping_add(other[2]);
    }

    /// Pushes the records with this much memory; compares with a map.
    fn check(records: &[[u8; 3]], memory_bytes: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let mut expected = BTreeMap::<[u8; 2], u8>::new();
        for [a, b, value] in records {
            let sum = expected.entry([*a, *b]).or_default();
            *sum = sum.wrapping_add(*value);
        }
        let found = runtime.block_on(async {
            let mut sorter = Sorter::<3, 2>::new(scratch.path().into(), memory_bytes, add);
            for record in records {
                sorter.push(*record).await.unwrap();
            }
            let mut sorted = sorter.sorted().await.unwrap();
            let mut found = Vec::new();
            loop {
                let next = sorted.next(7).await.unwrap();
                if next.is_empty() {
                    return found;
                }
                found.extend(next);
            }
        });
        let expected: Vec<_> = expected.iter().map(|([a, b], v)| [*a, *b, *v]).collect();
        assert_eq!(found, expected);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn records_come_sorted_and_combined_whatever_the_memory(
            records in prop::collection::vec(any::<[u8; 3]>(), 0..2_000),
            memory_bytes in 1_usize..4_000,
        ) {
            check(&records, memory_bytes);
        }
    }

    #[test]
    fn more_runs_than_are_merged_at_once() {
        let records: Vec<_> = (0..40_000_u32)
            .map(|n| {
                let [a, b, c, _] = n.wrapping_mul(2_654_435_761).to_le_bytes();
                [a, b, c]
            })
            .collect();
        check(&records, 600);
    }

    #[test]
    fn a_run_that_lost_bytes_is_an_error_and_not_a_shorter_list() {
        let scratch = tempfile::tempdir().unwrap();
        let records = || (0..100_u8).map(|n| Ok([n, 0, 1]));
        for damage in [None, Some(true), Some(false)] {
            let mut run = write_run(scratch.path(), records()).unwrap();
            match damage {
                None => {}
                Some(true) => run.file.set_len(150).unwrap(),
                Some(false) => {
                    run.file.seek(io::SeekFrom::Start(99)).unwrap();
                    run.file.write_all(&[0; 3]).unwrap();
                }
            }
            let merge = Merge::<3, 2>::new(vec![run], add).unwrap();
            let read = merge.collect::<io::Result<Vec<_>>>();
            assert_eq!(read.is_ok(), damage.is_none(), "{damage:?}: {read:?}");
        }
    }

    #[test]
    fn many_equal_records_need_no_disk() {
        let records = vec![[1, 2, 1]; 100_000];
        check(&records, 64);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let nowhere = Path::new("/nonexistent/scratch");
            let mut sorter = Sorter::<3, 2>::new(nowhere.into(), 64, add);
            for record in records {
                sorter.push(record).await.unwrap();
            }
            assert_eq!(
                sorter.sorted().await.unwrap().next(9).await.unwrap().len(),
                1
            );
        });
    }
}
