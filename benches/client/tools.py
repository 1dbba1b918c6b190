"""The programs that are compared, and how each does the same four things: make a repository, back up, back up again, restore.

Each is run with its own defaults of compression and encryption, and as bare as it allows, so that the same work is compared.
For disk images there is a third way where a program has blocks of fixed size. Restores leave holes where the program can.
"""

import os
import signal
import subprocess
import time
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path

from measure import Failed, Server

PASSWORD = "not a secret"
READY_SECONDS = 60


class Tool(ABC):
    """One program with one choice of settings."""

    # The program's name, and that of the settings.
    name = ""
    settings = ""

    def __init__(self, program: Path, settings: str, words: list[str]):
        self.program = str(program)
        self.settings = settings
        self.words = words
        self.root = Path()

    @property
    def store(self) -> Path:
        """Where everything that is stored is."""
        return self.root / "store"

    def env(self) -> dict[str, str]:
        """Nothing of the caller's, and caches of its own."""
        return {"PATH": os.defpath, "HOME": str(self.root), "LC_ALL": "C.UTF-8"}

    def version(self) -> str:
        said = subprocess.run(
            [self.program, self.version_word()], capture_output=True, text=True, check=True
        )
        return said.stdout.splitlines()[0]

    def version_word(self) -> str:
        return "--version"

    def command(self, *words: str) -> list[str]:
        return [self.program, *words]

    def call(self, *words: str) -> None:
        """Runs a command that is not measured."""
        done = subprocess.run(
            self.command(*words), env=self.env(), cwd=self.root, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise Failed(f"{self.name} {words[0]}: {done.stderr}")

    def server(self) -> Server | None:
        return None

    def stop(self) -> None:
        """Ends what `create` started."""

    def says(self, output: str) -> None:
        """Takes note of what a backup printed."""

    @abstractmethod
    def create(self) -> None: ...

    @abstractmethod
    def backup(self, number: int, image: str) -> list[str]:
        """Backs up the file `image` of the working folder, for the first or second time."""

    @abstractmethod
    def restore(self, image: str, target: Path) -> list[str]:
        """Restores the second backup; leaves `image` in the folder `target`, which is the working folder."""


class Borg(Tool):
    name = "borg"

    def env(self) -> dict[str, str]:
        return super().env() | {
            "BORG_BASE_DIR": str(self.root),
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def create(self) -> None:
        plain = self.settings != "default"
        self.call("init", "--encryption", "none" if plain else "repokey", str(self.store))

    def backup(self, number: int, image: str) -> list[str]:
        return self.command("create", *self.words, f"{self.store}::{number}", image)

    def restore(self, image: str, target: Path) -> list[str]:
        return self.command("extract", "--sparse", f"{self.store}::2", image)


class Restic(Tool):
    name = "restic"

    def version_word(self) -> str:
        return "version"

    def env(self) -> dict[str, str]:
        return super().env() | {"RESTIC_PASSWORD": PASSWORD}

    def command(self, *words: str) -> list[str]:
        cache = str(self.root / "cache")
        return super().command("--repo", str(self.store), "--cache-dir", cache, "--quiet", *words)

    def create(self) -> None:
        self.call("init")

    def backup(self, number: int, image: str) -> list[str]:
        return self.command(*self.words, "backup", image)

    def restore(self, image: str, target: Path) -> list[str]:
        return self.command("restore", "latest", "--target", ".")


class Rustic(Tool):
    name = "rustic"

    def env(self) -> dict[str, str]:
        return super().env() | {"RUSTIC_PASSWORD": PASSWORD}

    def command(self, *words: str) -> list[str]:
        cache = str(self.root / "cache")
        options = ["--repository", str(self.store), "--cache-dir", cache]
        return super().command(*options, "--no-progress", "--log-level", "warn", *words)

    def create(self) -> None:
        self.call("init", *self.words)

    def backup(self, number: int, image: str) -> list[str]:
        return self.command("backup", image)

    def restore(self, image: str, target: Path) -> list[str]:
        return self.command("restore", "--sparse", "by-content", f"latest:{image}", image)


class Drystone(Tool):
    """With its server beside it: everything goes through the network API."""

    name = "drystone"
    process: subprocess.Popen[bytes] | None = None
    endpoint = ""
    snapshot = ""

    def env(self) -> dict[str, str]:
        return super().env() | {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.store / "credentials"),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    def create(self) -> None:
        config = self.root / "drystone.toml"
        config.write_text("\n".join(self.words))
        log = self.root / "server.log"
        words = ["serve", "--config", str(config), "--data", str(self.store), "--listen", "127.0.0.1:0"]
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                self.command(*words), env=super().env(), cwd=self.root, stdout=said, stderr=said
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready(log):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the server does not serve:\n{log.read_text()}")
            time.sleep(0.05)

    def is_ready(self, log: Path) -> bool:
        marks = [line for line in log.read_text().splitlines() if "AWS_ENDPOINT_URL=" in line]
        if not marks:
            return False
        self.endpoint = marks[0].partition("AWS_ENDPOINT_URL=")[2].strip()
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def server(self) -> Server | None:
        return Server(self.process.pid) if self.process else None

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=READY_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def says(self, output: str) -> None:
        self.snapshot = output.split()[-1]

    def backup(self, number: int, image: str) -> list[str]:
        parent = ["--parent", self.snapshot] if number > 1 else []
        return self.command("upload", "--wait", image, *parent)

    def restore(self, image: str, target: Path) -> list[str]:
        return self.command("download", self.snapshot, image)


def all_tools(programs: dict[str, Path]) -> list[Tool]:
    """Every program that is given, with every choice of settings."""
    image_chunks = ["--chunker-params", "fixed,524288", "--sparse", "--compression", "none"]
    fixed = ["--set-chunker", "fixed_size", "--set-chunk-size", "512kiB"]
    choices = [
        (Drystone, "default", []),
        (Drystone, "zstd:1", ["[store]", 'compression = "zstd:1"']),
        (Borg, "default", []),
        (Borg, "bare", ["--compression", "none"]),
        (Borg, "bare, fixed blocks", image_chunks),
        (Restic, "default", []),
        (Restic, "bare", ["--compression", "off"]),
        (Rustic, "default", []),
        (Rustic, "bare", ["--set-compression", "0"]),
        (Rustic, "bare, fixed blocks", ["--set-compression", "0", *fixed]),
    ]
    return [
        kind(programs[kind.name], settings, words)
        for kind, settings, words in choices
        if kind.name in programs
    ]
