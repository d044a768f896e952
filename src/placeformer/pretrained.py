"""The ecosystem's names for loading, saving and pushing a network, as methods of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from placeformer.model import NavigationTransformer


class Pretrained:
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    They take the options of ``huggingface_hub.PyTorchModelHubMixin`` that make sense for a network
    that is loaded exactly as it was saved: nothing in its configuration can be overridden, and
    nothing of its weights can be missing. They call the public functions ``load``, ``save`` and
    ``push``, which know the class this one is a base of; hence the imports inside.
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        map_location: str = "cpu",
    ) -> Self:
        """Load a network of the zoo, of a folder or of the hub, in eval mode.

        See :func:`placeformer.load`; `map_location` is its `device`.
        """
        import placeformer as pf

        model = pf.load(
            pretrained_model_name_or_path,
            revision=revision,
            device=map_location,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        if not isinstance(model, cls):
            raise TypeError(f"{cls.__name__} cannot be loaded: a {type(model).__name__} was saved")
        return model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Save the network without rounding; a network that is in the folder is replaced.

        See :func:`placeformer.save`. With `push_to_hub` it is pushed as well, by default to a
        repository called like the folder, and the URL of the commit is returned.
        """
        import placeformer as pf

        if push_to_hub_kwargs and not push_to_hub:
            raise TypeError(f"push_to_hub must be True to use {', '.join(push_to_hub_kwargs)}")
        network = cast("NavigationTransformer", self)
        pf.save(network, save_directory, dtype="exact", overwrite=True)
        if not push_to_hub:
            return None
        name = Path(save_directory).resolve().name
        return self.push_to_hub(repo_id or name, **push_to_hub_kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool = False,
        token: str | bool | None = None,
        branch: str | None = None,
    ) -> str:
        """Push the network as one commit, and return its URL; see :func:`placeformer.push`."""
        import placeformer as pf

        return pf.push(
            cast("NavigationTransformer", self),
            repo_id,
            private=private,
            token=token,
            revision=branch,
            commit_message=commit_message,
        )
