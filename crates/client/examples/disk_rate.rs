//! Measures how fast the client reads and writes a file, against the plain ways of doing it.
//!
//! `cargo run --release -p client --example disk_rate -- DIR [GIB] [THREADS]`
//!
//! Each way is taken in turn, several times, and the median shown. Cold means that nothing of the file is in the page cache when
//! reading begins; writing ends when everything is durable. `RWF_DONTCACHE` is what a source uses for files where the kernel
//! has it, `O_DIRECT` what it uses for devices and large files elsewhere.

use buffers::BufferPool;
use client::source::{Source, SourceOptions, SourcePath};
use client::target::{Before, Target, TargetOptions, TargetPath};
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, Mode, OFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use types::{BLOCK_BYTES, BlockIndex, Clock, SystemClock, VolumeSize};

const ROUNDS: usize = 5;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One way of moving block `index` between a buffer and a file.
type Move<'a> = dyn Fn(BlockIndex, &mut [u8]) -> Outcome<()> + Sync + 'a;

struct Measured {
    path: PathBuf,
    gib: u64,
    threads: usize,
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("name a directory")?;
    let gib = arguments.next().map_or(Ok(1), |gib| gib.parse())?;
    let threads = arguments.next().map_or(Ok(2), |count| count.parse())?;
    let fresh = tempfile::tempdir_in(dir)?;
    let measured = Measured {
        path: fresh.path().join("disk"),
        gib,
        threads,
    };
    println!("{gib} GiB, {threads} threads, MB/s");
    measured.writes()?;
    measured.reads(Cache::Cold)?;
    measured.reads(Cache::Warm)?;
    measured.copies()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cache {
    Cold,
    Warm,
}

impl Measured {
    fn writes(&self) -> Outcome<()> {
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            rates[0].push(self.timed(|| self.write_target())?);
            rates[1].push(self.timed(|| self.write_plain(OFlags::empty()))?);
            rates[2].push(self.timed(|| self.write_plain(OFlags::DIRECT))?);
        }
        let [target, buffered, direct] = rates.map(median);
        println!(
            "write       target {target:6.0}   buffered {buffered:6.0}   O_DIRECT {direct:6.0}"
        );
        Ok(())
    }

    fn reads(&self, cache: Cache) -> Outcome<()> {
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            self.prepare(cache)?;
            rates[0].push(self.timed(|| self.read_source())?);
            self.prepare(cache)?;
            rates[1].push(self.timed(|| self.read_plain(OFlags::empty()))?);
            self.prepare(cache)?;
            rates[2].push(self.timed(|| self.read_plain(OFlags::DIRECT))?);
        }
        let [source, buffered, direct] = rates.map(median);
        println!(
            "read {cache:?}   source {source:6.0}   buffered {buffered:6.0}   O_DIRECT {direct:6.0}"
        );
        Ok(())
    }

    fn copies(&self) -> Outcome<()> {
        let mut rates = [Vec::new(), Vec::new()];
        let copy = self.path.with_file_name("copy");
        for _ in 0..ROUNDS {
            self.prepare(Cache::Cold)?;
            rates[0].push(self.timed(|| self.copy_base(&copy))?);
            self.prepare(Cache::Cold)?;
            rates[1].push(self.timed(|| self.copy_plain(&copy))?);
        }
        let [base, plain] = rates.map(median);
        println!("copy        base   {base:6.0}   copy_file_range {plain:6.0}");
        Ok(())
    }

    fn copy_base(&self, copy: &Path) -> Outcome<()> {
        let options = TargetOptions {
            volume_size: VolumeSize::from_gib(self.gib).ok_or("no such size")?,
            bytes: None,
            before: Before::Base(self.path.clone()),
        };
        Ok(Target::open(&TargetPath::Path(copy.to_path_buf()), &options)?.finish()?)
    }

    fn copy_plain(&self, copy: &Path) -> Outcome<()> {
        let from = open(&self.path, OFlags::empty())?;
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        let to = rustix::fs::open(copy, flags, Mode::RUSR | Mode::WUSR)?;
        while rustix::fs::copy_file_range(&from, None, &to, None, 1 << 30)? > 0 {}
        Ok(rustix::fs::fsync(&to)?)
    }

    fn write_target(&self) -> Outcome<()> {
        let options = TargetOptions {
            volume_size: VolumeSize::from_gib(self.gib).ok_or("no such size")?,
            bytes: None,
            before: Before::Nothing,
        };
        let target = Target::open(&TargetPath::Path(self.path.clone()), &options)?;
        self.each(&|index, buffer| Ok(target.write_block(index, buffer)?))?;
        Ok(target.finish()?)
    }

    fn write_plain(&self, more: OFlags) -> Outcome<()> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | more;
        let file = rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ftruncate(&file, self.gib << 30)?;
        self.each(&|index, buffer| whole(rustix::io::pwrite(&file, buffer, offset(index))?))?;
        Ok(rustix::fs::fsync(&file)?)
    }

    fn read_source(&self) -> Outcome<()> {
        let path = SourcePath::Path(self.path.clone());
        let source = Source::open(&path, &SourceOptions { map: None })?;
        self.each(&|index, buffer| Ok(source.read_block(index, buffer)?))
    }

    fn read_plain(&self, more: OFlags) -> Outcome<()> {
        let file = open(&self.path, more)?;
        self.each(&|index, buffer| whole(rustix::io::pread(&file, &mut *buffer, offset(index))?))
    }

    /// Empties the page cache of the file, or fills it.
    fn prepare(&self, cache: Cache) -> Outcome<()> {
        let file = open(&self.path, OFlags::empty())?;
        match cache {
            Cache::Cold => {
                rustix::fs::fsync(&file)?;
                Ok(rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?)
            }
            Cache::Warm => {
                Ok(std::io::copy(&mut File::from(file), &mut std::io::sink()).map(drop)?)
            }
        }
    }

    /// All blocks, by the threads in turn.
    fn each(&self, step: &Move<'_>) -> Outcome<()> {
        let blocks = u32::try_from(self.gib * 2048)?;
        let next = AtomicU32::new(0);
        let pool = BufferPool::new(self.threads, BLOCK_BYTES);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads)
                .map(|_| {
                    scope.spawn(|| -> Outcome<()> {
                        let mut buffer = pool.try_take().ok_or("one buffer a thread")?;
                        buffer.fill(0xA5);
                        loop {
                            let at = next.fetch_add(1, Ordering::Relaxed);
                            if at >= blocks {
                                return Ok(());
                            }
                            step(BlockIndex::new(at).ok_or("no such block")?, &mut buffer)?;
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().map_err(|_| "a thread ended early")??;
            }
            Ok(())
        })
    }

    /// Megabytes a second.
    fn timed(&self, run: impl Fn() -> Outcome<()>) -> Outcome<f64> {
        let clock = SystemClock::new();
        run()?;
        Ok((self.gib << 30) as f64 / 1e6 / clock.monotonic().as_secs_f64())
    }
}

fn open(path: &Path, more: OFlags) -> Outcome<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | more;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn offset(index: BlockIndex) -> u64 {
    u64::from(index.get()) * BLOCK_BYTES as u64
}

fn whole(moved: usize) -> Outcome<()> {
    match moved == BLOCK_BYTES {
        true => Ok(()),
        false => Err("a block was cut short".into()),
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
