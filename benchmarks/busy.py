"""Recordings and dose responses on a busy machine compared with an idle one, in one run.

Each is timed in a separate process with two threads and with one, alternately alone and while other
processes keep every core busy. The script prints the wall times and their ratio. The smallest
possible ratio depends on the machine, where cores may share execution units: a loop in Python,
which has one thread and no barriers, shows how much the other processes slow down any program.
``--unlimited`` lets PyTorch use all threads for every network, as it does by default.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager

WORK = {
    "loop in Python": "sum(i * i for i in range(10_000_000))",
    "record": "pf.record(model, n_walks=64, n_steps=512, progress=False)",
    "dose_response": "pf.dose_response(model, alphas=[1.0], n_walks=32, n_steps=512, "
    "progress=False)",
}
CHILD = """
import sys, time, torch
torch.set_num_threads({threads})
import placeformer as pf
model = pf.load("nmda-a10")
work = lambda: {work}
work()
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    work()
    print(time.perf_counter() - start, flush=True)
"""
SPIN = "while True: pass"


@contextmanager
def busy(n: int):
    """Keep `n` processes computing."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(n)]
    time.sleep(0.5)
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--unlimited", action="store_true", help="use PyTorch's default threads")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    for name, work in WORK.items():
        for threads in (1,) if name == "loop in Python" else (2, 1):
            environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
            if options.unlimited:
                environment["PLACEFORMER_NUM_THREADS"] = str(threads)
            code = CHILD.format(threads=threads, work=work)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as child:
                child.stdout.readline()

                def once(child=child) -> float:
                    child.stdin.write("go\n")
                    child.stdin.flush()
                    return float(child.stdout.readline())

                alone, shared = [], []
                for _ in range(options.repeats):
                    alone.append(once())
                    with busy(cores):
                        shared.append(once())
                child.stdin.close()
            ratio = sorted(shared)[len(shared) // 2] / min(alone)
            print(
                f"{name}, {threads} thread{'s' if threads > 1 else ''}: alone {min(alone):.2f} s, "
                f"busy {sorted(shared)[len(shared) // 2]:.2f} s, ratio {ratio:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
