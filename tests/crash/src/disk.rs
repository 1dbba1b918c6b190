//! A block device that logs its writes and flushes: one file of a FUSE file system, served by this process, for a loop
//! device to stand on.
//!
//! The file is opened with direct I/O, so nothing waits in a page cache above it. Requests are read by one thread and carried
//! out by another, so a flush may arrive while writes are under way, and then does not cover them.

use crate::log::{Change, Events, Log};
use anyhow::Context;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

/// The only file.
const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
const SECTOR_BYTES: u32 = 4096;
/// Attributes never change.
const TTL: Duration = Duration::from_secs(3600);
/// `FALLOC_FL_PUNCH_HOLE` and `FALLOC_FL_ZERO_RANGE`: a loop device asks for either to discard.
const PUNCH_HOLE: i32 = 0x02;
const ZERO_RANGE: i32 = 0x10;

/// The device, for as long as the value lives.
pub struct Disk {
    session: Option<BackgroundSession>,
    path: PathBuf,
    log: Arc<Log>,
}

impl Disk {
    /// Mounts a device of `bytes` zeros below `at`.
    ///
    /// # Errors
    /// FUSE is not there, or not allowed.
    pub fn mount(at: &Path, bytes: usize, events: Events) -> anyhow::Result<Disk> {
        std::fs::create_dir_all(at)?;
        let log = Arc::new(Log::new(events));
        let image = Arc::new(Mutex::new(vec![0; bytes]));
        let (todo, requests) = channel();
        let served = File {
            bytes,
            image: Arc::clone(&image),
            log: Arc::clone(&log),
            todo,
        };
        let worker = Arc::clone(&log);
        // Ends with the session, which holds the other end of the channel.
        thread::spawn(move || {
            for Todo {
                change,
                arrived,
                reply,
            } in requests
            {
                change.apply(&mut locked(&image));
                worker.ended(change, arrived);
                reply.answer();
            }
        });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("crashdisk".to_owned())];
        let session =
            fuser::spawn_mount(served, at, &config).context("FUSE cannot be mounted here")?;
        Ok(Disk {
            session: Some(session),
            path: at.join(NAME),
            log,
        })
    }

    /// The file to put a loop device on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has been asked of it so far.
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("the device is still mounted: {error}");
        }
    }
}

struct Todo {
    change: Change,
    arrived: u64,
    reply: Reply,
}

enum Reply {
    Written(ReplyWrite, u32),
    Done(ReplyEmpty),
}

impl Reply {
    fn answer(self) {
        match self {
            Reply::Written(reply, bytes) => reply.written(bytes),
            Reply::Done(reply) => reply.ok(),
        }
    }
}

struct File {
    bytes: usize,
    image: Arc<Mutex<Vec<u8>>>,
    log: Arc<Log>,
    todo: Sender<Todo>,
}

fn locked(image: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    image.lock().unwrap_or_else(PoisonError::into_inner)
}

impl File {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE;
        let size = if is_file { self.bytes as u64 } else { 0 };
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: match is_file {
                true => FileType::RegularFile,
                false => FileType::Directory,
            },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: SECTOR_BYTES,
            flags: 0,
        }
    }

    /// The range as positions in the image, if it lies in it.
    fn range(&self, offset: u64, length: u64) -> Option<(usize, usize)> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= self.bytes).then_some((start, end))
    }

    fn enqueue(&self, change: Change, reply: Reply) {
        let arrived = self.log.arrived();
        // The worker lives as long as this sender.
        let _ = self.todo.send(Todo {
            change,
            arrived,
            reply,
        });
    }
}

impl Filesystem for File {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match parent == INodeNo::ROOT && name == NAME {
            true => reply.entry(&TTL, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let offset = offset.min(self.bytes as u64);
        let length = u64::from(size).min(self.bytes as u64 - offset);
        match self.range(offset, length) {
            Some((start, end)) => reply.data(&locked(&self.image)[start..end]),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = u32::try_from(data.len());
        match (self.range(offset, data.len() as u64), length) {
            (Some((start, _)), Ok(length)) => {
                let bytes = data.to_vec();
                self.enqueue(
                    Change::Write { start, bytes },
                    Reply::Written(reply, length),
                );
            }
            _ => reply.error(Errno::ENOSPC),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.enqueue(Change::Flush, Reply::Done(reply));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // The end of a file handle, not a flush of the device.
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let zeroes = mode & (PUNCH_HOLE | ZERO_RANGE) != 0;
        match self.range(offset, length) {
            Some((start, end)) if zeroes => {
                self.enqueue(Change::Discard { start, end }, Reply::Done(reply));
            }
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }
}
