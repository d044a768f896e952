"""The board of a sweep: a bar for all runs and one for each, or lines where no bar can be drawn."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Mapping
from types import TracebackType

from tqdm.auto import tqdm

EVERY = 30.0  # seconds between lines where there is no terminal
LINE = "{desc}: step {n_fmt} of {total_fmt}, {rate_fmt}, {elapsed}<{remaining}{postfix}"


class Board:
    """Shows how runs go: bars on a terminal; else, as in a log file, whole lines now and then.

    Parameters
    ----------
    steps
        Name → steps of the whole run.
    disable
        Show nothing.
    every
        Seconds between the lines of a log.
    """

    def __init__(
        self, steps: Mapping[str, int], *, disable: bool = False, every: float = EVERY
    ) -> None:
        self.steps, self.disable, self.every = steps, disable, every
        self.live = sys.stderr.isatty() and not disable
        self.bars: dict[str, tqdm] = {}
        self.at = dict.fromkeys(steps, 0)
        self.ended: dict[str, str] = {}
        self.total = self.bar("all runs", sum(steps.values()), 0)
        self.due = time.monotonic() + every

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for bar in (*self.bars.values(), self.total):
            bar.close()

    def bar(self, name: str, total: int, step: int) -> tqdm:
        """Make a bar, which is drawn on a terminal only."""
        options = {} if self.live else {"file": io.StringIO(), "mininterval": 1e9}
        bar = tqdm(total=total, initial=step, desc=name, unit="step", leave=False, **options)
        if not self.live:
            bar.bar_format = LINE
        return bar

    def tell(self, name: str, step: int, text: str, first: bool) -> None:
        """Take in that a run has come to a step, the first since it started or went on."""
        if name in self.ended:
            return
        if first:
            self.begin(name, step)
        bar = self.bars[name]
        bar.set_postfix_str(text, refresh=False)
        bar.update(step - bar.n)
        self.count(name, step)
        if time.monotonic() >= self.due:
            self.log()

    def begin(self, name: str, step: int) -> None:
        """Take in that a run has started, or gone on from a checkpoint."""
        how = "starts" if step <= 1 else f"goes on at step {step}"
        if name in self.bars:
            how += " (its worker was lost)"
        else:
            if not self.total.n:
                self.total.unpause()  # the workers' own start took the time until now
            self.bars[name] = self.bar(name, self.steps[name], step)
            self.total.initial += step - 1
        self.line(f"{name}: {how}")

    def end(self, name: str, how: str) -> None:
        """Take in how a run ended."""
        if name in self.bars:
            self.bars.pop(name).close()
        self.ended[name] = how
        self.count(name, self.steps[name])
        self.line(f"{name}: {how}")

    def count(self, name: str, step: int) -> None:
        """Bring the bar of all runs up to date."""
        self.at[name] = step
        waiting = len(self.steps) - len(self.ended) - len(self.bars)
        self.total.set_postfix_str(
            f"{len(self.ended)} ended, {len(self.bars)} running, {waiting} waiting", refresh=False
        )
        self.total.update(sum(self.at.values()) - self.total.n)

    def log(self) -> None:
        """Write a line for each run that is under way, where there are no bars."""
        self.due = time.monotonic() + self.every
        if not self.live:
            for bar in (*self.bars.values(), self.total):
                self.line(str(bar))

    def line(self, text: str) -> None:
        """Write a line that stays."""
        if not self.disable:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()
