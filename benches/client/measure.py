"""Runs a command and says what it took: time, processor time, memory; and what a folder holds afterwards.

Time counts until what was written is on the disk: the script syncs the folder behind every command, which costs nothing
where the command did so itself. Memory is the most that was resident at once.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Step:
    """One measured command. Seconds; MiB."""

    seconds: float
    # Without the sync behind it.
    command_seconds: float
    client_cpu: float
    server_cpu: float
    client_mib: float
    server_mib: float
    # One minute's load before it began: other work on the machine spoils figures.
    load: float
    output: str


class Failed(Exception):
    """A command that was to be measured failed."""


class Server:
    """A process beside the measured one whose memory and processor time count, too. Linux alone tells them."""

    def __init__(self, pid: int):
        self.folder = Path(f"/proc/{pid}")

    def forget_peak(self) -> None:
        (self.folder / "clear_refs").write_text("5")

    def peak_mib(self) -> float:
        for line in (self.folder / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise Failed("the system does not tell the server's memory")

    def cpu(self) -> float:
        fields = (self.folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def run(
    command: list[str], env: dict[str, str], cwd: Path, written: Path, server: Server | None = None
) -> Step:
    """Runs and measures `command`, whose result is in `written`."""
    load = os.getloadavg()[0]
    before = server.cpu() if server else 0.0
    if server:
        server.forget_peak()
    log = cwd / "command.log"
    with log.open("w+b") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None
        output = process.stdout.read().decode(errors="replace")
        # Not `wait`: this also tells what the process used.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended = time.monotonic()
        process.stdout.close()
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-2000:]
            raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    sync(written)
    synced = time.monotonic()
    return Step(
        seconds=synced - began,
        command_seconds=ended - began,
        client_cpu=usage.ru_utime + usage.ru_stime,
        server_cpu=server.cpu() - before if server else 0.0,
        client_mib=usage.ru_maxrss / 1024,
        server_mib=server.peak_mib() if server else 0.0,
        load=load,
        output=output,
    )


def files(path: Path) -> Iterator[Path]:
    """The file, or all files below the folder."""
    if path.is_file():
        yield path
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder) / name
            if file.is_file() and not file.is_symlink():
                yield file


def sync(path: Path) -> None:
    folders = [Path(folder) for folder, _, _ in os.walk(path)]
    for file in [*files(path), *folders]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def evict(path: Path) -> None:
    """Drops clean pages of these files from the page cache. What lies below, such as a host's cache, stays."""
    for file in files(path):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def warm(path: Path) -> None:
    """Reads these files into the page cache."""
    for file in files(path):
        with file.open("rb") as handle:
            while handle.read(4 * MIB):
                pass


def data_mib(path: Path) -> float:
    """What is written in these files; holes, and space that is only reserved, do not count."""
    total = 0
    for file in files(path):
        handle = os.open(file, os.O_RDONLY)
        try:
            size = os.fstat(handle).st_size
            at = 0
            while at < size:
                try:
                    start = os.lseek(handle, at, os.SEEK_DATA)
                except OSError:
                    break
                at = os.lseek(handle, start, os.SEEK_HOLE)
                total += at - start
        finally:
            os.close(handle)
    return total / MIB


def disk_mib(path: Path) -> float:
    """What these files take of the disk, reserved space among it."""
    return sum(file.stat().st_blocks * 512 for file in files(path)) / MIB


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def equal(restored: Path, image: Path) -> bool:
    """Whether these hold the same. A restored volume may go on with zeros: volumes are of whole GiB."""
    size = image.stat().st_size
    if restored.stat().st_size < size:
        return False
    with restored.open("rb") as found, image.open("rb") as expected:
        while piece := expected.read(4 * MIB):
            if found.read(len(piece)) != piece:
                return False
        while piece := found.read(4 * MIB):
            if any(piece):
                return False
    return True
