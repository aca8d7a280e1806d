"""Benchmark start-up and memory, each in a separate process: cold start, warm start, peak memory of a push.

    python bench/start.py [--full] [--json FILE] [--write]

In a cold start nothing is compiled yet, as after an installation (empty CIRCUITSKETCH_CACHE). The first result is a
prediction from a sketch of a small microgpt run; seconds run from the start of the process. Memory is the largest
resident size of a process that propagates directions, compared with the coefficients that it stores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from report import Goal, Report, Row, add_options

FIRST_RESULT = """
import time
import circuitsketch as cs
from circuitsketch.zoo import microgpt
run = microgpt.training(microgpt.names()[:{steps}], seed=42, alphabet=microgpt.ALPHABET)
run.train()
query = cs.sketch(run, directions=8, order=3, seed=0).measure(microgpt.loss, "max")
query.without([1, 2]).value
print(time.time(), time.process_time())
"""

PUSH = """
import json, resource, sys
import circuitsketch as cs
from pathlib import Path
from circuitsketch.zoo import microgpt
def peak():
    # ru_maxrss of a child may include the parent's peak; on Linux, /proc has the process's own.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
run = microgpt.training(microgpt.names()[:{steps}], seed=42, alphabet=microgpt.ALPHABET)
run.train()
before = peak()
pushed = cs.sketch(run, directions={directions}, order=3, seed=0)
print(json.dumps(dict(before=before, peak=peak(), stored=pushed.nbytes)))
"""


def run_python(code: str, environment: dict[str, str] | None = None) -> tuple[float, str]:
    """Run code in a new process; return its start time and the last line of its output."""
    begin = time.time()
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise SystemExit(f"a measured process failed:\n{process.stderr}")
    return begin, process.stdout.strip().splitlines()[-1]


def measure_starts(steps: int, colds: int, warms: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds to the first result, cold and warm, in wall-clock and CPU time."""
    code = FIRST_RESULT.format(steps=steps)
    times_by_kind: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    for _ in range(colds):
        with tempfile.TemporaryDirectory() as folder:
            fresh = {"CIRCUITSKETCH_CACHE": str(Path(folder) / "kernels")}
            for kind in ["cold"] + ["warm"] * warms:
                begin, line = run_python(code, fresh)
                end, cpu = map(float, line.split())
                times_by_kind[kind].append((end - begin, cpu))
    return {kind: (median(w for w, _ in times), median(c for _, c in times)) for kind, times in times_by_kind.items()}


def measure_memory(directions: int, steps: int) -> tuple[int, int]:
    """Return the peak resident bytes of a process that propagates directions, and the bytes that it stores."""
    sizes = json.loads(run_python(PUSH.format(directions=directions, steps=steps))[1])
    return sizes["peak"], sizes["stored"]


def add_start_rows(report: Report, full: bool) -> None:
    """Measure and add the rows."""
    seconds = measure_starts(steps=20, colds=3 if full else 1, warms=3)
    for kind, what, bound in (("cold", "cold first use", 20.0), ("warm", "warm start", 2.0)):
        wall, cpu = seconds[kind]
        note = f"{cpu:.2f} of CPU time"
        report.add(Row(f"{what} to first result, s", f"{kind}_seconds", wall, "{:.2f}", Goal("<=", bound), note))
        report.numbers[f"{kind}_cpu_seconds"] = cpu
    peak, stored = measure_memory(*((512, 100) if full else (128, 20)))
    note = f"stored {stored / 1e6:.0f} MB"
    allowed = Goal("<=", (1.3 * stored + 300e6) / 1e6)
    row = Row("peak memory, MB; at most 1.3 times the stored coefficients + 300 MB", "peak_megabytes", peak / 1e6)
    report.add(Row(row.what, row.key, row.value, "{:.0f}", allowed, note))
    report.numbers["stored_megabytes"] = stored / 1e6


def main(arguments: list[str] | None = None) -> dict[str, object]:
    """Run the benchmark and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args(arguments)
    report = Report("start", options, {"full": options.full})
    add_start_rows(report, options.full)
    return report.finish()


if __name__ == "__main__":
    main()
