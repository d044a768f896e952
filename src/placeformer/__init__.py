"""Place cells and memory consolidation in Transformers.

Everything public is one attribute away (``import placeformer as pf``; ``pf.load``,
``pf.rate_maps``, ...) and is imported on first use, so that importing the package itself loads
neither torch nor matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from placeformer import plots as plot
    from placeformer.abilities import novel_working_memory as novel_working_memory
    from placeformer.abilities import recorded_score as recorded_score
    from placeformer.ablation import ablate as ablate
    from placeformer.activation import NMDA as NMDA
    from placeformer.activation import alpha_to_mg as alpha_to_mg
    from placeformer.activation import mg_to_alpha as mg_to_alpha
    from placeformer.arrays import from_arrays as from_arrays
    from placeformer.borders import border_score as border_score
    from placeformer.census import place_cells as place_cells
    from placeformer.claims import claim_verdicts as claim_verdicts
    from placeformer.claims import paper_claims as paper_claims
    from placeformer.comparison import memory_comparison as memory_comparison
    from placeformer.decoding import decode_map as decode_map
    from placeformer.decoding import decode_position as decode_position
    from placeformer.dimensions import dimensionality as dimensionality
    from placeformer.equivalence import equivalent_alpha as equivalent_alpha
    from placeformer.equivalents import equivalent_curve as equivalent_curve
    from placeformer.fields import field_table as field_table
    from placeformer.fields import place_fields as place_fields
    from placeformer.gridness import grid_score as grid_score
    from placeformer.halves import half_maps as half_maps
    from placeformer.halves import stability as stability
    from placeformer.hill import fit_hill as fit_hill
    from placeformer.hub import save as save
    from placeformer.information import mutual_information as mutual_information
    from placeformer.lesioncurve import ablation_curve as ablation_curve
    from placeformer.measures import coherence as coherence
    from placeformer.measures import selectivity as selectivity
    from placeformer.measures import sparsity as sparsity
    from placeformer.measures import spatial_information as spatial_information
    from placeformer.memory import memory_errors as memory_errors
    from placeformer.mg import dose_response as dose_response
    from placeformer.mg import magnesium as magnesium
    from placeformer.model import ModelConfig as ModelConfig
    from placeformer.model import NavigationTransformer as NavigationTransformer
    from placeformer.nwb_io import from_nwb as from_nwb
    from placeformer.nwb_io import to_nwb as to_nwb
    from placeformer.placecells import place_cell_score as place_cell_score
    from placeformer.profiles import profile_networks as profile_networks
    from placeformer.pynapple_io import from_pynapple as from_pynapple
    from placeformer.pynapple_io import to_pynapple as to_pynapple
    from placeformer.ratemaps import rate_maps as rate_maps
    from placeformer.ratinabox_io import from_ratinabox as from_ratinabox
    from placeformer.recording import record as record
    from placeformer.remap import population_vector_correlation as population_vector_correlation
    from placeformer.remap import remapping as remapping
    from placeformer.remote import push as push
    from placeformer.resemblance import similarity as similarity
    from placeformer.shuffles import shuffle_test as shuffle_test
    from placeformer.training import train as train
    from placeformer.variance import position_variance_explained as position_variance_explained
    from placeformer.versions import show_versions as show_versions
    from placeformer.world import GridWorld as GridWorld
    from placeformer.zoo import list_models as list_models
    from placeformer.zoo import load as load
    from placeformer.zoo import zoo_table as zoo_table

    __version__: str

# Public name -> the module that defines it.
_EXPORTS = {
    "GridWorld": "world",
    "ModelConfig": "model",
    "NMDA": "activation",
    "NavigationTransformer": "model",
    "ablate": "ablation",
    "ablation_curve": "lesioncurve",
    "alpha_to_mg": "activation",
    "border_score": "borders",
    "claim_verdicts": "claims",
    "coherence": "measures",
    "decode_map": "decoding",
    "decode_position": "decoding",
    "dimensionality": "dimensions",
    "from_arrays": "arrays",
    "grid_score": "gridness",
    "half_maps": "halves",
    "dose_response": "mg",
    "equivalent_alpha": "equivalence",
    "equivalent_curve": "equivalents",
    "fit_hill": "hill",
    "field_table": "fields",
    "from_nwb": "nwb_io",
    "from_pynapple": "pynapple_io",
    "from_ratinabox": "ratinabox_io",
    "list_models": "zoo",
    "load": "zoo",
    "magnesium": "mg",
    "memory_comparison": "comparison",
    "memory_errors": "memory",
    "mg_to_alpha": "activation",
    "mutual_information": "information",
    "novel_working_memory": "abilities",
    "paper_claims": "claims",
    "place_cell_score": "placecells",
    "place_cells": "census",
    "place_fields": "fields",
    "population_vector_correlation": "remap",
    "position_variance_explained": "variance",
    "profile_networks": "profiles",
    "push": "remote",
    "rate_maps": "ratemaps",
    "record": "recording",
    "remapping": "remap",
    "recorded_score": "abilities",
    "save": "hub",
    "selectivity": "measures",
    "show_versions": "versions",
    "shuffle_test": "shuffles",
    "similarity": "resemblance",
    "sparsity": "measures",
    "spatial_information": "measures",
    "stability": "halves",
    "to_nwb": "nwb_io",
    "to_pynapple": "pynapple_io",
    "train": "training",
    "zoo_table": "zoo",
}

__all__ = ["__version__", "plot", *_EXPORTS]


def __getattr__(name: str) -> Any:
    """Import the module behind a public name the first time it is asked for."""
    value: Any
    if name in _EXPORTS:
        value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
        import_module(f"{__name__}.accessor")  # every Dataset has .pf from now on
    elif name == "plot":
        value = import_module(f"{__name__}.plots")
    elif name == "__version__":
        from importlib.metadata import version

        value = version(__name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported already or not."""
    return sorted(__all__)
