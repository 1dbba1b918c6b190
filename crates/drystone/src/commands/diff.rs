//! `drystone diff`: where two snapshots differ. Runs of blocks are printed as they are found: there may be very many.
//!
//! With `--format json` the answer is one object; with `qemu-map` it is an array as `qemu-img map --output=json` prints it, over
//! the whole volume, with data where the snapshots differ.

use super::answers::bytes_of;
use super::answers::volume_bytes;
use super::figures::{bytes, counted};
use super::progress::{Wording, with_progress};
use super::remote::{RemoteArgs, snapshot};
use clap::{Args, ValueEnum};
use client::SnapshotId;
use client::api::{Api, Which};
use client::diff::{Change, ChangedExtent, DiffTotals, diff};
use serde::Serialize;
use std::io::{BufWriter, Write, stdout};

/// Arguments of `drystone diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The first snapshot
    #[arg(value_parser = snapshot)]
    first: SnapshotId,

    /// The second snapshot
    #[arg(value_parser = snapshot)]
    second: SnapshotId,

    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Table, conflicts_with = "json")]
    format: Format,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The same as --json
    Json,
    /// What `qemu-img map --output=json` prints; data is what differs
    QemuMap,
}

/// Runs the command.
pub async fn run(args: DiffArgs) -> anyhow::Result<()> {
    let api = args.remote.connect()?;
    let format = match args.remote.output.json {
        true => Format::Json,
        false => args.format,
    };
    let mut listing = Listing::new(format, BufWriter::new(stdout()));
    let ((totals, volume), _) = with_progress(
        Wording::DIFF,
        api.meter(),
        &args.remote.output,
        "the answer is not complete",
        async |cancel| {
            let mut each = |extent| listing.extent(extent);
            let work = async {
                let totals = diff(&api, &args.first, &args.second, &mut each).await?;
                let volume = volume(&api, &args.second, &totals).await?;
                Ok((totals, volume))
            };
            tokio::select! {
                done = work => done,
                () = cancel => Err(client::Error::Interrupted),
            }
        },
    )
    .await?;
    listing.end(&args.first, &args.second, &totals, volume)?;
    Ok(())
}

/// The size of the second snapshot's volume; some servers leave it out of listings that are empty.
async fn volume(
    api: &Api,
    second: &SnapshotId,
    totals: &DiffTotals,
) -> Result<Option<u64>, client::Error> {
    let mut size = totals.volume_size;
    if size.is_none() {
        let which = Which::Ids(vec![second.clone()]);
        api.describe_snapshots(&which, &mut |told| size = told.volume_size)
            .await?;
    }
    Ok(size.map(volume_bytes))
}

/// An answer that is printed piece by piece.
struct Listing<W> {
    format: Format,
    out: W,
    count: u64,
    /// Where the last run ended, in bytes.
    end: u64,
}

#[derive(Serialize)]
struct Piece {
    offset: u64,
    length: u64,
    change: &'static str,
}

#[derive(Serialize)]
struct Totals<'a> {
    first_snapshot_id: &'a str,
    second_snapshot_id: &'a str,
    volume_size: Option<u64>,
    changed_bytes: u64,
    added_bytes: u64,
    removed_bytes: u64,
    extent_count: u64,
}

/// A member of a map; the names are those of QEMU.
#[derive(Serialize)]
struct Mapped {
    start: u64,
    length: u64,
    depth: u32,
    present: bool,
    zero: bool,
    data: bool,
    compressed: bool,
}

impl<W: Write> Listing<W> {
    fn new(format: Format, out: W) -> Listing<W> {
        Listing {
            format,
            out,
            count: 0,
            end: 0,
        }
    }

    fn extent(&mut self, extent: ChangedExtent) -> Result<(), client::Error> {
        self.write(extent)
            .map_err(client::Error::io("the answer cannot be printed"))
    }

    fn write(&mut self, extent: ChangedExtent) -> std::io::Result<()> {
        let (offset, length) = (bytes_of(extent.start.into()), bytes_of(extent.count.into()));
        let change = match extent.change {
            Change::Changed => "changed",
            Change::Added => "added",
            Change::Removed => "removed",
        };
        match self.format {
            Format::Table => {
                if self.count == 0 {
                    writeln!(self.out, "{:>15}  {:>15}  CHANGE", "OFFSET", "LENGTH")?;
                }
                writeln!(self.out, "{offset:>15}  {length:>15}  {change}")?;
            }
            Format::Json => {
                self.out.write_all(match self.count {
                    0 => b"{\"extents\": [\n  ",
                    _ => b",\n  ",
                })?;
                serde_json::to_writer(
                    &mut self.out,
                    &Piece {
                        offset,
                        length,
                        change,
                    },
                )?;
            }
            Format::QemuMap => self.map(offset, length)?,
        }
        self.count += 1;
        self.end = offset + length;
        Ok(())
    }

    /// What differs is data, whatever stands there: also where the second snapshot has nothing any more.
    fn map(&mut self, offset: u64, length: u64) -> std::io::Result<()> {
        if offset > self.end {
            self.member(self.end, offset - self.end, false)?;
        }
        self.member(offset, length, true)
    }

    fn member(&mut self, start: u64, length: u64, data: bool) -> std::io::Result<()> {
        self.out
            .write_all(if start == 0 { b"[ " } else { b",\n" })?;
        let mapped = Mapped {
            start,
            length,
            depth: 0,
            present: data,
            zero: !data,
            data,
            compressed: false,
        };
        Ok(serde_json::to_writer(&mut self.out, &mapped)?)
    }

    fn end(
        &mut self,
        first: &SnapshotId,
        second: &SnapshotId,
        totals: &DiffTotals,
        volume: Option<u64>,
    ) -> Result<(), client::Error> {
        self.finish(first, second, totals, volume)
            .map_err(client::Error::io("the answer cannot be printed"))
    }

    fn finish(
        &mut self,
        first: &SnapshotId,
        second: &SnapshotId,
        totals: &DiffTotals,
        volume: Option<u64>,
    ) -> std::io::Result<()> {
        match self.format {
            Format::Table => {
                let blank = if self.count == 0 { "" } else { "\n" };
                write!(self.out, "{blank}{}", sum(first, second, totals))?;
            }
            Format::Json => {
                self.out.write_all(match self.count {
                    0 => b"{\"extents\": []",
                    _ => b"\n]",
                })?;
                let totals = serde_json::to_string(&Totals {
                    first_snapshot_id: first.as_str(),
                    second_snapshot_id: second.as_str(),
                    volume_size: volume,
                    changed_bytes: bytes_of(totals.changed),
                    added_bytes: bytes_of(totals.added),
                    removed_bytes: bytes_of(totals.removed),
                    extent_count: totals.extents,
                })?;
                // The members of the object that is open.
                writeln!(self.out, ",\n{}", totals.trim_start_matches('{'))?;
            }
            Format::QemuMap => {
                let volume = volume.unwrap_or(self.end);
                if volume > self.end {
                    self.member(self.end, volume - self.end, false)?;
                } else if self.end == 0 {
                    self.out.write_all(b"[ ")?;
                }
                self.out.write_all(b"]\n")?;
            }
        }
        self.out.flush()
    }
}

fn sum(first: &SnapshotId, second: &SnapshotId, totals: &DiffTotals) -> String {
    if totals.extents == 0 {
        return format!("{first} and {second} are the same\n");
    }
    let parts: Vec<String> = [
        (totals.changed, "changed"),
        (totals.added, "added"),
        (totals.removed, "removed"),
    ]
    .iter()
    .filter(|(blocks, _)| *blocks > 0)
    .map(|(blocks, what)| {
        let size = bytes(bytes_of(*blocks));
        format!("{} ({size}) {what}", counted(*blocks, "block"))
    })
    .collect();
    format!(
        "{} in {}\n",
        parts.join(", "),
        counted(totals.extents, "extent")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::VolumeSize;

    fn written(format: Format, extents: &[(u32, u32, Change)]) -> String {
        let mut listing = Listing::new(format, Vec::new());
        let mut totals = DiffTotals {
            volume_size: VolumeSize::from_gib(1),
            ..DiffTotals::default()
        };
        for &(start, count, change) in extents {
            let extent = ChangedExtent {
                start,
                count,
                change,
            };
            listing.extent(extent).expect("memory takes it");
            totals.extents += 1;
            *match change {
                Change::Changed => &mut totals.changed,
                Change::Added => &mut totals.added,
                Change::Removed => &mut totals.removed,
            } += u64::from(count);
        }
        let id = |text: &str| text.parse::<SnapshotId>().expect("an id");
        let volume = totals.volume_size.map(volume_bytes);
        listing
            .end(&id("snap-1"), &id("snap-2"), &totals, volume)
            .expect("memory takes it");
        String::from_utf8(listing.out).expect("text")
    }

    #[test]
    fn the_table_lines_up_and_sums_up() {
        assert_eq!(
            written(
                Format::Table,
                &[(0, 1, Change::Changed), (5, 2, Change::Added)]
            ),
            "         OFFSET           LENGTH  CHANGE\n\
             \x20             0           524288  changed\n\
             \x20       2621440          1048576  added\n\
             \n1 block (512.0 KiB) changed, 2 blocks (1.0 MiB) added in 2 extents\n"
        );
        assert_eq!(
            written(Format::Table, &[]),
            "snap-1 and snap-2 are the same\n"
        );
    }

    #[test]
    fn json_has_this_shape() {
        for extents in [
            &[][..],
            &[(1, 1, Change::Removed)],
            &[(0, 1, Change::Changed), (5, 2, Change::Added)],
        ] {
            let found: serde_json::Value =
                serde_json::from_str(&written(Format::Json, extents)).expect("JSON");
            let pieces: Vec<serde_json::Value> = extents
                .iter()
                .map(|(start, count, change)| {
                    serde_json::json!({
                        "offset": start * 524_288,
                        "length": count * 524_288,
                        "change": format!("{change:?}").to_lowercase(),
                    })
                })
                .collect();
            let total = |wanted: Change| {
                extents
                    .iter()
                    .filter(|(.., change)| *change == wanted)
                    .map(|(_, count, _)| count * 524_288)
                    .sum::<u32>()
            };
            let shape = serde_json::json!({
                "first_snapshot_id": "snap-1",
                "second_snapshot_id": "snap-2",
                "volume_size": 1 << 30,
                "extents": pieces,
                "changed_bytes": total(Change::Changed),
                "added_bytes": total(Change::Added),
                "removed_bytes": total(Change::Removed),
                "extent_count": extents.len(),
            });
            assert_eq!(found, shape);
        }
    }

    #[test]
    fn a_map_covers_the_volume() {
        let last = (2047, 1, Change::Changed);
        for extents in [
            &[][..],
            &[last],
            &[(0, 2048, Change::Changed)],
            &[
                (0, 1, Change::Changed),
                (1, 1, Change::Added),
                (7, 3, Change::Removed),
            ],
        ] {
            let found: Vec<serde_json::Value> =
                serde_json::from_str(&written(Format::QemuMap, extents)).expect("JSON");
            let mut end = 0;
            let mut data = Vec::new();
            for member in &found {
                assert_eq!(member["start"], end, "no gaps");
                assert_ne!(member["data"], member["zero"]);
                let length = member["length"].as_u64().expect("a number");
                if member["data"] == true {
                    data.push((end / 524_288, length / 524_288));
                }
                end += length;
            }
            assert_eq!(end, 1 << 30);
            let expected: Vec<(u64, u64)> = extents
                .iter()
                .map(|(start, count, _)| (u64::from(*start), u64::from(*count)))
                .collect();
            assert_eq!(data, expected);
        }
    }
}
