//! What processes take: processor time and memory, as Linux tells it in `/proc`.

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use std::fs;

/// The unit of processor time in `/proc/PID/stat`: `USER_HZ`, 100 on every architecture that the program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Bytes resident now.
    pub resident: u64,
    /// The most that ever were.
    pub peak: u64,
}

/// Processor time of this process, all its threads together, in seconds.
pub fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time of a process, all its threads together, in seconds.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let text = read(pid, "stat")?;
    parse_cpu(&text).with_context(|| format!("/proc/{pid}/stat cannot be understood"))
}

/// Memory of a process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = read(pid, "status")?;
    parse_memory(&text).with_context(|| format!("/proc/{pid}/status cannot be understood"))
}

fn read(pid: u32, name: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path)
        .with_context(|| format!("{path} cannot be read; has the process ended?"))
}

/// User and system time: the 14th and 15th field. The second is the program's name, which may hold anything.
fn parse_cpu(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut times = behind_name.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn parse_memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib << 10)
    };
    Some(Memory {
        resident: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 125 0 0 20 0 4 0 12345 1 2";
        assert_eq!(parse_cpu(stat), Some(3.75));
        assert_eq!(parse_cpu("42 (a) S 1"), None);
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let memory = Memory {
            resident: 1 << 20,
            peak: 2 << 20,
        };
        assert_eq!(parse_memory(status), Some(memory));
        assert_eq!(parse_memory("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_can_be_asked() {
        let pid = std::process::id();
        assert!(memory(pid).expect("it runs").peak > 0);
        assert!(cpu_seconds(pid).expect("it runs") >= 0.0);
        assert!(own_cpu_seconds() > 0.0);
    }
}
