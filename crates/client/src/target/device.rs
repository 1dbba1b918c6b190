//! Opens block devices to write, if nobody else uses them.

use crate::Error;
use crate::source::disk::{Disk, DiskKind, length};
use rustix::fs::{Mode, OFlags, Stat, major, minor};
use rustix::io::Errno;
use std::path::Path;

/// Opens a device whose first `bytes` bytes are written; what lies behind them is not touched.
///
/// `O_EXCL` asks the kernel whether anyone has claimed it: a mount, a volume group, a RAID, another download.
pub(super) fn open(path: &Path, bytes: u64) -> Result<Disk, Error> {
    let name = path.display().to_string();
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open(path, flags | OFlags::EXCL, Mode::empty()).map_err(|error| {
        match error {
            Errno::BUSY => Error::Unfit(format!(
                "{name} is in use: it is mounted, part of another device, or being written by another program"
            )),
            error => Error::io(format!("{name} cannot be opened to write"))(error.into()),
        }
    })?;
    let stat = rustix::fs::fstat(&device)
        .map_err(|error| Error::io(format!("{name} cannot be examined"))(error.into()))?;
    if is_read_only(&stat) {
        return Err(Error::Unfit(format!("{name} is read-only")));
    }
    let size = length(&device, DiskKind::Device, &stat)
        .map_err(Error::io(format!("the size of {name} cannot be found")))?;
    if size < bytes {
        return Err(Error::Unfit(format!(
            "{name} is too small: it has {size} bytes and {bytes} are to be written"
        )));
    }
    Ok(Disk::new(
        device,
        DiskKind::Device,
        name,
        bytes,
        OFlags::RDWR,
    ))
}

/// What the kernel would only say at the first write.
fn is_read_only(stat: &Stat) -> bool {
    let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    std::fs::read(format!("/sys/dev/block/{major}:{minor}/ro"))
        .is_ok_and(|flag| flag.starts_with(b"1"))
}
