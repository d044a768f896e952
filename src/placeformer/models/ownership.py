"""One network, one thread: a network cannot be changed while another thread uses it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn


@dataclass
class Use:
    """Threads that use a module now, and the uses among them that change it."""

    users: Counter[int] = field(default_factory=Counter)
    writers: Counter[int] = field(default_factory=Counter)


USES: WeakKeyDictionary[nn.Module, Use] = WeakKeyDictionary()
LOCK = threading.Lock()


@contextmanager
def in_use(network: nn.Module, *, changed: bool = True) -> Iterator[None]:
    """Use a network and all of its modules in this thread.

    A use that changes the network (hooks, modes, Mg²⁺) excludes all other threads, and uses that
    only read it exclude those that change it. Uses of one thread may be nested, and may be left in
    any order.

    Raises
    ------
    BlockingIOError
        Another thread uses the network, or a part of it. Waiting for it might never end, since a
        thread inside a ``with`` block may itself be waiting for this one.
    """
    me, modules = threading.get_ident(), list(network.modules())
    with LOCK:
        for module in modules:
            use = USES.setdefault(module, Use())
            others = (use.users if changed else use.writers).keys() - {me}
            if others:
                raise BlockingIOError(
                    f"network: {type(network).__name__} is in use in another thread, which records "
                    "it or changes it; wait for that thread, or use one network for each thread "
                    "(copy.deepcopy)"
                )
        for module in modules:
            USES[module].users[me] += 1
            USES[module].writers[me] += changed
    try:
        yield
    finally:
        with LOCK:
            for module in modules:
                use = USES[module]
                use.users -= Counter({me: 1})  # and drops what is no longer positive
                use.writers -= Counter({me: int(changed)})
