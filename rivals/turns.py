"""Engines in turns: what they took, for people and as records.

Each round runs every engine once, in a process of its own, so that whatever else the machine is busy with meets all
of them, and memory is each one's own. An engine's process prints a line of JSON for every case: `what`, `batch`,
`seconds` of each pass after a first one that is not counted, and `peak_bytes`: part of a record, whose schema
record/README.md has. Ours prints whole ones.
"""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from statistics import geometric_mean, median

HERE = Path(__file__).parent
ROOT = HERE.parent
ENGINES = HERE / "engines"
PROGRAMS = ROOT / "target/rivals/release"
OURS = ROOT / "target/release/noisefork"


@dataclass(frozen=True)
class Engine:
    """A program, and what its records say of it. `cases`: it is told which cases ours had."""

    name: str
    form: str
    version: str
    dtype: str
    command: tuple
    cases: bool = False

    def __str__(self):
        return ", ".join(filter(None, [f"{self.name} {self.version}", self.form, self.dtype]))


def in_python(name, form, package, dtype, program, *arguments, cases=False):
    return Engine(name, form, metadata.version(package), dtype, python(program, *arguments), cases)


def python(program, *arguments):
    return (sys.executable, ENGINES / program, *map(str, arguments))


def in_rust(name, form, package, dtype, program, *arguments, cases=False):
    locked = tomllib.loads((HERE / "rust/Cargo.lock").read_text())["package"]
    version = next(entry["version"] for entry in locked if entry["name"] == package)
    build(HERE / "rust")
    return Engine(name, form, version, dtype, (PROGRAMS / program, *map(str, arguments)), cases)


def in_gpu(library, package, dtype, *arguments):
    """A library of NVIDIA's, the very one that torch brings."""
    brought = next((found for found in metadata.distributions() if found.name.startswith(package)), None)
    if brought is None:
        sys.exit(f"{package} is missing: install a torch for CUDA")
    folders = [*Path(brought.locate_file("nvidia")).glob("*/lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    path = ":".join(filter(None, map(str, folders)))
    build(HERE / "gpu")
    command = ("env", f"LD_LIBRARY_PATH={path}", PROGRAMS / "gpu_ops", library, dtype)
    return Engine(library, "", brought.version, dtype, (*command, *map(str, arguments)), cases=True)


def ours(dtype, *command):
    command = (OURS, "bench", *map(str, command), "--dtype", dtype, "--format", "jsonl")
    return Engine("noisefork", "", own_version(), dtype, command)


def own_version():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


@cache
def build(folder=ROOT, *options):
    """Builds the programs of a folder, once: ours, or those of rivals that take part."""
    command = ["cargo", "build", "--release", "--locked", "--quiet", *options]
    subprocess.run(command, cwd=folder, check=True)


def parser(description):
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=2, help="how often each engine has its turn")
    options.add_argument("--passes", type=int, default=3, help="how often each is timed in a turn")
    options.add_argument("--engines", nargs="*", default=[""], help="only rivals with one of these words")
    options.add_argument("--record", type=Path, help="a file that the records are added to")
    options.set_defaults(device="cpu")
    return options


def of_sd15(description, benchmark, rivals):
    """A benchmark of noisefork at the sizes of SD 1.5, beside the engines that `rivals` makes of the options."""
    options = parser(description)
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--dtype", default="f32", choices=["f32", "bf16", "f16"], help="f16 on a GPU alone")
    options.add_argument("--device", default="cpu", help="cuda:0, for rivals in torch and NVIDIA's libraries")
    options = options.parse_args()
    build(ROOT, *(["--features", "cuda"] if options.device != "cpu" else []))
    command = (benchmark, "--preset", "sd15", "--batch", options.batch, "--iterations", options.passes)
    take(ours(options.dtype, *command, "--device", options.device), rivals(options), options)


def take(own, rivals, options):
    """Runs the engines in turns, ours first, writes down what they took, and prints it."""
    engines = [own, *(rival for rival in rivals if any(word in str(rival) for word in options.engines))]
    turns = []
    for _ in range(options.rounds):
        for engine in engines:
            cases = [line["what"] for line in turns[0][1]] if engine.cases else []
            lines = run(engine, cases, options)
            turns.append((engine, lines))
            if options.record:
                record(engine, lines, options)
    table(engines, turns)


def run(engine, cases, options):
    """The lines of an engine's turn; none, and a word about it, if it fails."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(options.threads))
    environment = os.environ | threads | {"DEVICE": options.device}
    turn = subprocess.run([*engine.command, *cases], capture_output=True, text=True, env=environment)
    if turn.returncode != 0:
        print(f"{engine} failed: {turn.stderr.strip()[-500:]}", file=sys.stderr)
        return []
    return [json.loads(line) for line in turn.stdout.splitlines() if line.startswith("{")]


def record(engine, lines, options):
    """Adds the lines of a turn to the file, each with what is known of the engine and of the machine."""
    about = {"engine": engine.name, "form": engine.form, "version": engine.version, "dtype": engine.dtype}
    here = json.loads(subprocess.run([OURS, "bench", "machine"], capture_output=True, check=True).stdout)
    here |= {"device": options.device, "threads": options.threads}
    with options.record.open("a") as file:
        file.writelines(json.dumps(about | here | line) + "\n" for line in lines)


def table(engines, turns):
    """For every case of ours the engines' best and median passes, and how many times ours that is."""
    passes, peaks = defaultdict(list), defaultdict(int)
    for engine, lines in turns:
        for line in lines:
            # Ours has a second way on a GPU, which is recorded and not compared.
            if line.get("form", engine.form) != engine.form:
                continue
            case = engine, line["what"], line["batch"]
            passes[case] += line["seconds"]
            peaks[case] = max(peaks[case], line["peak_bytes"] or 0)
    width = max(len(str(engine)) for engine in engines)
    own, ratios = engines[0], defaultdict(list)
    for what, batch in dict.fromkeys((line["what"], line["batch"]) for line in turns[0][1]):
        print(f"{what}, batch {batch}")
        mine = passes[own, what, batch]
        for engine in engines:
            case = engine, what, batch
            if case not in passes:
                continue
            best, middle = min(passes[case]), median(passes[case])
            ratio = best / min(mine), middle / median(mine)
            ratios[engine].append(ratio)
            times = f"{best * 1e3:11.3f} ms, median {middle * 1e3:11.3f} ms"
            print(f"  {engine!s:{width}} {times}: {times_ours(*ratio)}{peak(peaks[case])}")
    print("geometric means")
    for engine in engines[1:]:
        if ratios[engine]:
            means = [geometric_mean(side) for side in zip(*ratios[engine], strict=True)]
            print(f"  {engine!s:{width}} {times_ours(*means)}, {len(ratios[engine])} cases")


def peak(bytes):
    return f", peak {bytes / 1e9:4.1f} GB" if bytes else ""


def times_ours(best, middle):
    return f"{best:6.2f} times ours, medians {middle:6.2f}"
