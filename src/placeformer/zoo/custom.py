"""Weights of networks of registered classes: what is stored, and how it is read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from placeformer.zoo.classes import (
    CLASSES,
    build,
    check_rebuilt,
    config_of,
    explain_missing,
    sharing,
    skeleton,
)
from placeformer.zoo.config import (
    CUSTOM_DTYPES,
    WEIGHTS,
    CustomDescription,
    FolderError,
    refuse,
)
from placeformer.zoo.weights import check_dtype, check_facts, compare_shapes, is_about

FLOATS = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
CODES = {
    torch.float16: "F16", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""Dtypes that can be stored, and their names in safetensors."""


class CustomLayout:
    """Tensors of a network of a registered class.

    Parameters
    ----------
    said
        What ``config.json`` says.

    Raises
    ------
    FolderError
        The class is not registered, or cannot be built from the config.
    """

    def __init__(self, said: CustomDescription) -> None:
        if said.name not in CLASSES:
            raise FolderError(explain_missing(said.name, said.module, said.qualname))
        self.said, self.cls = said, CLASSES[said.name]
        network = skeleton(self.cls, said.config)
        self.parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
        self.shared = sharing(network)
        tensors = tensors_of(network, [])
        self.shapes = shapes_of(tensors)
        self.dtypes = {name: stored_dtype(w, said.dtype) for name, w in tensors.items()}

    def check_size(self, size: int, problems: list[str]) -> bool:
        """Compare the size of the file with that of the tensors; True if it fits."""
        least = sum(
            math.prod(shape) * self.dtypes[name].itemsize for name, shape in self.shapes.items()
        )
        return is_about(size, least, problems)

    def check_header(self, stream: Any, problems: list[str]) -> None:
        """Check names, shapes and dtypes of the tensors, and the settings stored with them."""
        slices = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118
        found = {name: tuple(part.get_shape()) for name, part in slices.items()}
        compare_shapes(found, self.shapes, problems)
        for name in self.shapes.keys() & slices.keys():
            code = CODES.get(self.dtypes[name], str(self.dtypes[name]))
            check_dtype(name, code, slices[name].get_dtype(), problems)
        check_facts(stream.metadata() or {}, self.said, problems)

    def check_values(self, tensors: Mapping[str, Tensor], problems: list[str]) -> None:
        """Check that weights are finite, and that shared ones agree."""
        check_finite(tensors, self.parameters, f"{WEIGHTS}: ", problems)
        for names in self.shared:
            first, *others = sorted(names & tensors.keys())
            problems += [
                f"{WEIGHTS}: {name}: expected the values of {first}, with which it shares them, "
                "got others"
                for name in others
                if not torch.equal(tensors[name], tensors[first])
            ]

    def network(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Build the network with these weights, in eval mode."""
        network = build(self.cls, self.said.config)
        try:
            with torch.no_grad():
                network.load_state_dict(dict(tensors), strict=True)
        except RuntimeError as error:
            raise FolderError(f"{WEIGHTS}: {error}") from error
        return network.eval()


def tensors_of(network: nn.Module, problems: list[str]) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; anything else in the state is a problem."""
    found = {}
    for name, value in network.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            problems.append(
                f"{name}: expected a tensor, got {type(value).__name__}; only parameters and "
                "buffers are stored, and get_extra_state is not"
            )
        elif is_lazy(value):
            problems.append(f"{name}: expected a shape, got none yet; run the network once")
        elif value.layout != torch.strided or value.is_quantized:
            problems.append(f"{name}: expected a dense tensor, got {value.layout}")
        elif value.is_floating_point() and value.itemsize < 2:
            problems.append(f"{name}: expected floats of 16 bits or more, got {value.dtype}")
        else:
            found[name] = value.detach()
    return found


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def stored_dtype(tensor: Tensor, dtype: str) -> torch.dtype:
    """Return the dtype in the file: `dtype` for floats, and that of the tensor for integers."""
    return FLOATS[dtype] if tensor.is_floating_point() else tensor.dtype


def check_finite(
    tensors: Mapping[str, Tensor], parameters: set[str], where: str, problems: list[str]
) -> None:
    """Check that parameters are finite, and that buffers (masks may be infinite) are not NaN."""
    for name, value in tensors.items():
        if name in parameters and not value.isfinite().all():
            problems.append(f"{where}{name}: expected finite weights, got NaN or infinity")
        elif value.isnan().any():
            problems.append(f"{where}{name}: expected numbers, got NaN")


def contents(
    model: nn.Module, name: str, dtype: str | None
) -> tuple[dict[str, Any], str, dict[str, Tensor]]:
    """Return what is stored of a network.

    Parameters
    ----------
    model
        A network whose class is registered as `name`.
    dtype
        One of `CUSTOM_DTYPES`; None for the smallest that rounds no value.

    Returns
    -------
    config, dtype, tensors
        The config in types that JSON has, the dtype of the floats, and all tensors by name, on the
        CPU.

    Raises
    ------
    FolderError
        The class does not build the same network from `config`, or a value cannot be stored.
    """
    what, problems = f"the network ({name}) cannot be saved", list[str]()
    config = config_of(model, problems)
    ours = tensors_of(model, problems)
    refuse(what, problems)
    try:
        rebuilt = build(type(model), config)
    except FolderError as error:
        raise FolderError(f"{what}: {error}") from error
    theirs = tensors_of(rebuilt, problems)
    compare_shapes(shapes_of(ours), shapes_of(theirs), problems)
    refuse(what, problems)
    check_rebuilt(model, rebuilt, problems)
    check_kinds(ours, theirs, problems)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    ours = {name: value.cpu() for name, value in ours.items()}
    check_finite(ours, parameters, "", problems)
    refuse(what, problems)

    floats = {name: value for name, value in ours.items() if value.is_floating_point()}
    chosen = smallest(floats.values()) if dtype is None else dtype
    tensors = {}
    for name, value in ours.items():
        stored = value.to(stored_dtype(value, chosen))
        tensors[name] = stored.contiguous().clone()  # shared weights are stored under each name
        if name in floats:
            check_rounding(name, value, stored, theirs[name].dtype, problems)
    refuse(what, problems)
    return config, chosen, tensors


def smallest(floats: Any) -> str:
    """Return the smallest dtype that stores every float without rounding."""
    values = list(floats)
    for dtype in CUSTOM_DTYPES:
        if all(torch.equal(w, w.to(FLOATS[dtype]).to(w.dtype)) for w in values):
            return dtype
    raise AssertionError("every float of PyTorch fits into float64")


def check_kinds(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], problems: list[str]
) -> None:
    """Check that integers have the dtype that the class builds, and floats are floats."""
    for name, tensor in ours.items():
        built = theirs[name]
        floats = tensor.is_floating_point(), built.is_floating_point()
        if floats != (True, True) and tensor.dtype != built.dtype:
            problems.append(
                f"{name}: expected {built.dtype}, as its class builds it, got {tensor.dtype}"
            )
        elif not tensor.is_floating_point() and tensor.dtype not in CODES:
            problems.append(
                f"{name}: expected floats, integers or bool, got {tensor.dtype}; store complex "
                "numbers as two parts"
            )


def check_rounding(
    name: str, value: Tensor, stored: Tensor, built: torch.dtype, problems: list[str]
) -> None:
    """Check that nothing becomes infinite, and that the network built holds what is stored."""
    if not torch.equal(value.isfinite(), stored.isfinite()):
        problems.append(
            f"{name}: expected at most {torch.finfo(stored.dtype).max:g} ({stored.dtype}), got "
            f'{value[value.isfinite()].abs().max():g}; save it with dtype="exact"'
        )
    elif not torch.equal(stored.to(built).to(stored.dtype), stored):
        problems.append(
            f"{name}: expected values that {built} holds, as its class builds it, got "
            f"{value.dtype} that it would round; build it in {value.dtype}, or convert the network"
        )
