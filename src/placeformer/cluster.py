"""Where the tasks of a sweep run: a dask cluster at an address, or processes of this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

KEEP_MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
"""Without it dask makes its workers return memory at every turn, which more than doubles a step."""


@contextmanager
def connect(scheduler: str | None, workers: int | None, tasks: int) -> Iterator[Client]:
    """Reach the cluster at an address, or start one on this machine for so many tasks."""
    try:
        import dask
        from dask.system import CPU_COUNT
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError(
            'a sweep needs dask.distributed: pip install "placeformer[sweep]"'
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"scheduler must be the address of a dask scheduler, got {scheduler!r}: {error}"
            ) from error
        with client:
            yield client
        return
    with (
        dask.config.set(KEEP_MEMORY),
        LocalCluster(
            n_workers=min(workers or CPU_COUNT, tasks),
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
