#!/usr/bin/env python3
"""Compares Drystone with borg, restic and rustic on one disk image, on one machine, in one run.

    cargo build --release
    benches/client/compare.py --work /somewhere/with/20/GiB > table.txt

Each round every program, with each choice of its settings, makes a new repository, backs up an image (full), backs it up again
after 100 of 2048 blocks have changed (incremental), and restores that to a new file, which is compared with the image. The order
turns from round to round; figures are medians of the rounds. Before each step the image and the repository are dropped from the
page cache (or read into it, with --warm), and each step counts until its result is synced. README.md says more.

How the others were installed (Debian 12; any other way does, too):
    apt-get install restic
    apt-get install libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev pkg-config
    python3 -m venv borg && borg/bin/pip install 'borgbackup==1.4.*'
    cargo install rustic-rs --locked --root rustic
A program that is neither given nor in PATH is left out, and the table says so.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import measure
from measure import Step
from tools import Tool, all_tools

HERE = Path(__file__).resolve().parent
NAMES = ["drystone", "borg", "restic", "rustic"]
STEPS = ["full", "incremental", "restore"]
IMAGE = "disk.img"


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--work", type=Path, help="the disk to measure [default: the working folder]")
    options.add_argument("--images", type=Path, help="keep and reuse the images in this folder")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--mib", type=int, default=1024, help="size of the image")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--warm", action="store_true", help="everything in the page cache before each step")
    options.add_argument("--only", default="", help="words that names of programs or settings must contain")
    options.add_argument("--json", type=Path, help="write everything measured to this file")
    for name in NAMES:
        options.add_argument(f"--{name}", type=Path, metavar="PROGRAM")
    return options.parse_args()


def programs(given: argparse.Namespace) -> dict[str, Path]:
    built = HERE.parents[1] / "target/release/drystone"
    found = {}
    for name in NAMES:
        path = getattr(given, name) or shutil.which(name)
        if not path and name == "drystone" and built.is_file():
            path = built
        if path:
            found[name] = Path(path).resolve()
    return found


def make_images(given: argparse.Namespace, folder: Path) -> None:
    if not all((folder / name).is_file() for name in ["base.img", "changed.img"]):
        words = ["--mib", str(given.mib), "--seed", str(given.seed)]
        subprocess.run([sys.executable, HERE / "image.py", folder, *words], check=True)


def round_of(tool: Tool, images: Path, folder: Path, prepare) -> dict[str, Step | float]:
    """One program, once. The image is renamed to the same name for both backups, as a disk that changes in its place is."""
    tool.root = folder
    figures: dict[str, Step | float] = {}
    source, target = folder / "source", folder / "target"
    for made in [source, target]:
        made.mkdir(parents=True)
    image = source / IMAGE
    try:
        tool.create()
        for number, (step, name) in enumerate([("full", "base.img"), ("incremental", "changed.img")], 1):
            os.rename(images / name, image)
            try:
                prepare(image)
                prepare(tool.store)
                command = tool.backup(number, IMAGE)
                figures[step] = measure.run(command, tool.env(), source, tool.store, tool.server())
            finally:
                os.rename(image, images / name)
            tool.says(figures[step].output)
            figures[f"stored_{step}"] = measure.data_mib(tool.store)
            figures[f"disk_{step}"] = measure.disk_mib(tool.store)
        prepare(tool.store)
        command = tool.restore(IMAGE, target)
        figures["restore"] = measure.run(command, tool.env(), target, target, tool.server())
        if not measure.equal(target / IMAGE, images / "changed.img"):
            raise measure.Failed(f"{tool.name} ({tool.settings}) restored something else")
        figures["restored"] = measure.disk_mib(target / IMAGE)
    finally:
        tool.stop()
    measure.remove(folder)
    return figures


def machine() -> dict[str, object]:
    processor = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return {"cores": os.cpu_count(), "processor": processor, "kernel": platform.release()}


def summary(rounds: list[dict[str, Step | float]]) -> dict[str, object]:
    """Medians of the rounds; peaks are those of the worst round."""
    figures: dict[str, object] = {}
    for step in STEPS:
        steps = [one[step] for one in rounds]
        figures[step] = {
            name: round(statistics.median(getattr(one, name) for one in steps), 3)
            for name in ["seconds", "command_seconds", "client_cpu", "server_cpu"]
        }
        for name in ["client_mib", "server_mib"]:
            figures[step][name] = round(max(getattr(one, name) for one in steps), 1)
        figures[step]["rounds"] = [round(one.seconds, 3) for one in steps]
        figures[step]["load"] = [round(one.load, 1) for one in steps]
    for name in ["stored_full", "stored_incremental", "disk_full", "disk_incremental", "restored"]:
        figures[name] = round(statistics.median(one[name] for one in rounds), 1)
    return figures


def table(results: list[dict[str, object]]) -> str:
    heads = ["", "", "full s", "incr s", "restore s", "full cpu", "incr cpu", "rest cpu"]
    heads += ["client MiB", "with server", "stored MiB", "delta MiB", "disk MiB"]
    rows = [heads]
    for one in results:
        figures = one["figures"]
        steps = [figures[step] for step in STEPS]
        cpu = [step["client_cpu"] + step["server_cpu"] for step in steps]
        client = max(step["client_mib"] for step in steps)
        both = max(step["client_mib"] + step["server_mib"] for step in steps)
        full, after = figures["stored_full"], figures["stored_incremental"]
        cells = [f"{step['seconds']:.2f}" for step in steps] + [f"{each:.2f}" for each in cpu]
        cells += [f"{value:.0f}" for value in [client, both]]
        cells += [f"{value:.1f}" for value in [after, after - full, figures["disk_incremental"]]]
        rows.append([one["program"], one["settings"], *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
        words += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
        lines.append("  ".join(words).rstrip())
    return "\n".join(lines)


def verdict(results: list[dict[str, object]]) -> str:
    """Drystone's default against the best of the others, whatever their settings."""
    own = [one for one in results if one["program"] == "drystone" and one["settings"] == "default"]
    others = [one for one in results if one["program"] != "drystone"]
    if not own or not others:
        return ""
    lines = []
    for step in STEPS:
        best = min(others, key=lambda one: one["figures"][step]["seconds"])
        ratio = best["figures"][step]["seconds"] / own[0]["figures"][step]["seconds"]
        word = "faster than" if ratio > 1 else "of the speed of"
        lines.append(f"{step}: {ratio:.2f} times {word} the best, {best['program']} ({best['settings']})")
    return "\n".join(lines)


def main() -> None:
    given = arguments()
    found = programs(given)
    tools = [
        tool for tool in all_tools(found) if given.only in f"{tool.name} {tool.settings}"
    ]
    prepare = measure.warm if given.warm else measure.evict
    with tempfile.TemporaryDirectory(prefix="compare-", dir=given.work or Path.cwd()) as work:
        folder = Path(work)
        images = given.images or folder / "images"
        make_images(given, images)
        rounds: dict[Tool, list[dict[str, Step | float]]] = {tool: [] for tool in tools}
        for number in range(given.rounds):
            turned = tools[number % len(tools) :] + tools[: number % len(tools)]
            for tool in turned:
                print(f"round {number + 1}: {tool.name} ({tool.settings})", file=sys.stderr, flush=True)
                rounds[tool].append(round_of(tool, images, folder / "round", prepare))
        image = {"mib": given.mib, "seed": given.seed, "data_mib": round(measure.data_mib(images / "base.img"), 1)}
    results = [
        {
            "program": tool.name,
            "settings": tool.settings,
            "version": tool.version(),
            "figures": summary(rounds[tool]),
            "rounds": [
                {name: asdict(value) if isinstance(value, Step) else value for name, value in one.items()}
                for one in rounds[tool]
            ],
        }
        for tool in tools
    ]
    document = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "cache": "warm" if given.warm else "cold",
        "rounds": given.rounds,
        "image": image,
        "results": results,
    }
    print(f"{document['time']}, {json.dumps(document['machine'])}")
    print(f"{document['cache']} cache, medians of {given.rounds} rounds, image {json.dumps(image)}\n")
    print(table(results))
    print("\n" + verdict(results))
    versions = {one["program"]: one["version"] for one in results}
    for name in NAMES:
        print(f"{name}: {versions.get(name, 'not found, left out')}")
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
