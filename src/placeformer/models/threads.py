"""The number of threads that PyTorch uses for a network: no more than a network of its size needs.

While other programs keep all cores busy, threads wait for each other longer than they compute: for
the networks of the zoo, two threads take 10 to 50 times as long as one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

VARIABLE = "PLACEFORMER_NUM_THREADS"
WEIGHTS = 2**22
"""Number of weights per thread."""

INSIDE = threading.local()
LOCK = threading.Lock()
uses, before = 0, 0


def threads_for(network: nn.Module) -> int:
    """Return the number of threads to run a network with.

    It is the value of the environment variable ``PLACEFORMER_NUM_THREADS`` if that is set, else one
    for every 4,194,304 weights, at least one, and at most as many as PyTorch is set to use.

    Raises
    ------
    ValueError
        The variable is not a whole number of at least 1.
    """
    text = os.environ.get(VARIABLE, "")
    if text:
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise ValueError(f"{VARIABLE} must be a whole number of at least 1, got {text!r:.80}")
        return int(text)
    weights = sum(weight.numel() for weight in network.parameters())
    return max(1, min(torch.get_num_threads(), weights // WEIGHTS))


@contextmanager
def suitable_threads(network: nn.Module) -> Iterator[None]:
    """Run a network with :func:`threads_for` it; the user's number is restored on exit.

    PyTorch has one number for the process; it is restored to what it was before the first of the
    contexts that are open in several threads. Within a context, further ones change nothing.
    """
    global uses, before
    if getattr(INSIDE, "context", False):
        yield
        return
    with LOCK:
        before = before if uses else torch.get_num_threads()
        uses += 1
    INSIDE.context = True
    try:
        torch.set_num_threads(threads_for(network))
        yield
    finally:
        INSIDE.context = False
        with LOCK:
            uses -= 1
            torch.set_num_threads(before)
