"""How much the report records, shuffles and lesions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How much is recorded, shuffled and lesioned.

    Attributes
    ----------
    seed
        Of walks, e₀ and shuffles.
    memory_walks, memory_steps
        Walks for the memory errors on each kind of map, and steps in each.
    walks, steps
        Walks recorded on each map, and steps recorded in each.
    shuffles
        Shuffles of each null.
    shown_steps
        Steps of the walk that is drawn.
    lesion_walks, lesion_steps
        Walks under every lesion and test-time α, on each kind of map, and steps in each.
    lesion_repeats
        Sets of random and of matched units beside those lesioned by score.
    """

    seed: int = 0
    memory_walks: int = 64
    memory_steps: int = 2048
    walks: int = 64
    steps: int = 1536
    shuffles: int = 39
    shown_steps: int = 96
    lesion_walks: int = 32
    lesion_steps: int = 2048
    lesion_repeats: int = 19
