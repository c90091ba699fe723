"""Reading and writing state dicts."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training loops save it


def load(model: nn.Module, path: Path, optional: Sequence[str] = ()) -> list[str]:
    """Load a file into a model, and return the ``optional`` entries that the file lacks.

    Raises:
        ValueError: the file is of another kind, or does not fit the model.
    """
    state = read(path)
    own = model.state_dict()
    missing = own.keys() - state.keys()
    wrong = [f"{name} is missing" for name in missing - set(optional)]
    wrong += [f"{name} is unexpected" for name in state.keys() - own.keys()]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, wanted {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    if wrong:
        shown = "; ".join(sorted(wrong)[:3]) + ("; …" if len(wrong) > 3 else "")
        raise ValueError(f"{path} does not fit the model ({len(wrong)} entries): {shown}")
    model.load_state_dict(state, strict=False)
    return sorted(missing)


def read(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a ``.safetensors`` file or one that torch saved.

    Raises:
        ValueError: the file contains something else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} contains objects other than weights, which are not read: save the state dict "
            "alone"
        ) from None
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} contains no weights that can be read: {error}") from None
    if isinstance(saved, dict):
        saved = next((saved[key] for key in WRAPPERS if isinstance(saved.get(key), dict)), saved)
    if not isinstance(saved, dict) or not all(isinstance(t, torch.Tensor) for t in saved.values()):
        raise ValueError(f"{path} contains no state dict")
    return saved


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict to a ``.safetensors`` file; tensors that share memory are copied."""
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ImportError('safetensors is needed: pip install "regard[vision]"') from None
    save_file({name: t.detach().clone().contiguous() for name, t in state.items()}, path)
