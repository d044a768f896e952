"""The progress of a sweep, as a log file and as a terminal show it."""

import io
import sys

import pytest

from placeformer.training.sweep import SweepProgress

STEPS = {"a": 10, "b": 20}


def play(display):
    """Run a goes to its end; b starts, loses its worker, resumes, and fails."""
    display.update("a", 1, "loss 2.0", True)
    display.update("b", 6, "loss 1.5", True)
    display.update("a", 9, "loss 1.0", False)
    display.update("b", 4, "loss 1.6", True)
    display.finish("a", "trained")
    display.update("a", 9, "late", False)
    display.finish("b", "failed: ValueError: no")


def test_a_log_file_gets_whole_lines(capsys):
    with SweepProgress(STEPS, every=0) as display:
        play(display)
        assert display.total.initial == 5  # what was there already tells nothing of the speed
    lines = capsys.readouterr().err.splitlines()
    events = [line for line in lines if " of " not in line]
    assert events == [
        "a: starts",
        "b: resumes at step 6",
        "b: resumes at step 4 (its worker was lost)",
        "a: trained",
        "b: failed: ValueError: no",
    ]
    ninth = next(line for line in lines if line.startswith("a: step 9 of 10"))
    assert "step/s" in ninth and ninth.endswith("loss 1.0")
    totals = [line for line in lines if line.startswith("all runs: ")]
    assert totals[0].startswith("all runs: step 1 of 30")
    assert totals[0].endswith("0 ended, 1 running, 1 waiting")
    assert totals[-1].startswith("all runs: step 13 of 30")
    assert not any("\r" in line or "late" in line for line in lines)


def test_a_log_is_not_written_at_every_step(capsys):
    with SweepProgress(STEPS) as display:
        play(display)
    assert not any(" of " in line for line in capsys.readouterr().err.splitlines())


def test_a_terminal_gets_bars_and_the_lines_that_stay(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with SweepProgress(STEPS) as display:
        play(display)
        shown = sys.stderr.getvalue()
    assert "all runs:" in shown and "\ra:" in shown and "a: trained\n" in shown


@pytest.mark.parametrize("every", [0, 30])
def test_nothing_is_shown_if_nothing_shall_be(capsys, every):
    with SweepProgress(STEPS, disable=True, every=every) as display:
        play(display)
    assert capsys.readouterr().err == ""
