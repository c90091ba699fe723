"""Eight pictures with labels, made on the spot, and models that answer to them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import regard

SIZE = 64
LABELS = {  # of one object in the middle, as ultralytics reads them
    "detect": "0.5 0.5 0.4 0.6",
    "segment": "0.3 0.2 0.7 0.2 0.7 0.8 0.3 0.8",
    "obb": "0.3 0.2 0.7 0.2 0.7 0.8 0.3 0.8",
    "pose": "0.5 0.5 0.4 0.6 0.4 0.4 2 0.6 0.6 2",
}


def images(number: int = 2, side: int = SIZE, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.rand(number, channels, side, side, generator=generator)


def folder(root: Path, task: str = "detect") -> str:
    """Write a data set for ultralytics, and return what its trainer takes as ``data``."""
    from torchvision.utils import save_image

    pictures = images(8)
    for i, picture in enumerate(pictures):
        part, name = "train" if i < 4 else "val", i % 2
        if task == "classify":
            file = root / part / "ab"[name] / f"{i}.png"
        else:
            file = root / "images" / part / f"{i}.png"
            label = root / "labels" / part / f"{i}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{name} {LABELS[task]}\n")
        file.parent.mkdir(parents=True, exist_ok=True)
        save_image(picture, file)
    if task == "classify":
        return str(root)
    lines = [f"path: {root}", "train: images/train", "val: images/val", "names: {0: a, 1: b}"]
    lines += ["kpt_shape: [2, 3]"] if task == "pose" else []
    (root / "data.yaml").write_text("\n".join(lines))
    return str(root / "data.yaml")


def settled(model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Let the norms of a model know the data, so that its outputs depend on the inputs."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    modes = [(module, module.training) for module in model.modules()]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.training = True
        if norm.affine and not norm.weight.any():  # branches that start at zero
            nn.init.ones_(norm.weight)
    with torch.no_grad():
        model(*args, **kwargs)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    for module, mode in modes:
        module.training = mode
    return model


def awake(model: nn.Module) -> nn.Module:
    """Open the gates of attention that starts as the identity, in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] == "gamma":
                parameter.fill_(1.0)
    return model


def tensors(output: Any) -> list[Tensor]:
    """All floating-point tensors in what a model returns, one after the other."""
    if isinstance(output, Tensor):
        return [output.detach()] if output.is_floating_point() else []
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [x for item in output for x in tensors(item)]
    return []


def distance(a: Any, b: Any) -> float:
    """The largest difference of two outputs, relative to the largest element of each tensor."""
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    assert pairs and all(x.shape == y.shape for x, y in pairs)
    return max(float((x - y).abs().max() / y.abs().max().clamp_min(1e-12)) for x, y in pairs)


def entries(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict."""
    return {name: x.detach().clone() for name, x in model.state_dict().items()}


def same_old_entries(model: nn.Module, plain: nn.Module) -> bool:
    """Whether the entries that a plain model has are in another one, with the same values."""
    state = model.state_dict()
    return all(torch.equal(state[name], x) for name, x in plain.state_dict().items())


def gates(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in regard.attention_parameters(model)]


def twin(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)
