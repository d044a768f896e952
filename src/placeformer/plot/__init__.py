"""Figures: every function draws a Dataset into an ``ax`` and returns the ``ax``."""

from placeformer.plot.consolidation import amnesia_curve as amnesia_curve
from placeformer.plot.consolidation import consolidation as consolidation
from placeformer.plot.grids import autocorrelogram as autocorrelogram
from placeformer.plot.lesions import ablation as ablation
from placeformer.plot.lesions import dose_response as dose_response
from placeformer.plot.lesions import lesion_points as lesion_points
from placeformer.plot.lesions import specificity as specificity
from placeformer.plot.maps import distribution as distribution
from placeformer.plot.maps import memory as memory
from placeformer.plot.maps import place_fields as place_fields
from placeformer.plot.maps import rate_maps as rate_maps
from placeformer.plot.maps import walk as walk
from placeformer.plot.networks import activations as activations
from placeformer.plot.networks import comparison as comparison
from placeformer.plot.networks import training as training
from placeformer.plot.populations import gallery as gallery
from placeformer.plot.populations import population as population
from placeformer.plot.score_cards import score_card as score_card
