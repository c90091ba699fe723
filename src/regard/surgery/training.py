"""Training a model with inserted attention: the attention first, then everything."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

from torch import nn

from .site import inserted_modules

M = TypeVar("M", bound=nn.Module)


def attention_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters that were added to a model.

    >>> from regard import insert
    >>> net = insert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "se", at="0", reduction=2)
    >>> sum(p.numel() for p in attention_parameters(net.requires_grad_(False)))
    65
    """
    for _, _, module in inserted_modules(model):
        yield from module.parameters()


def freeze(model: M) -> M:
    """Freeze all of a model but the inserted attention, in place.

    Parameters stop requiring gradients. Modules with buffers that training changes, such as batch
    norms, stay in evaluation mode, also after ``model.train()``; `remove` then returns the model
    that was there before, bit for bit.

    Args:
        model: A model with insertions.

    Returns:
        The model; `unfreeze` undoes it.

    Raises:
        ValueError: nothing was inserted, so that nothing would be left to train.

    >>> from regard import insert
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> new = freeze(insert(net, "se", at="1", reduction=2)).train()
    >>> [name for name, p in new.named_parameters() if p.requires_grad][0]
    '1.attention.gamma'
    >>> new[1].host.training
    False
    """
    added = {part for *_, inserted in inserted_modules(model) for part in inserted.modules()}
    if not added:
        raise ValueError(f"{type(model).__name__}: nothing was inserted")
    for module in model.modules():
        if module in added:
            continue
        asking = {
            name for name, p in module._parameters.items() if p is not None and p.requires_grad
        }
        for name in asking:
            module._parameters[name].requires_grad_(False)  # type: ignore[union-attr]
        stays = bool(module._buffers) and "train" not in module.__dict__
        if stays:
            module.training = False
            # A method of the instance, because train() of the whole model calls it.
            module.__dict__["train"] = partial(_stay, module)
        if asking or stays:
            module.__dict__["_frozen_by_regard"] = asking
    return model


def unfreeze(model: M) -> M:
    """Undo `freeze`, in place; what did not require gradients before does not either.

    Args:
        model: A model that may be frozen.

    Returns:
        The model.
    """
    for module in model.modules():
        asking = module.__dict__.pop("_frozen_by_regard", None)
        if asking is None:
            continue
        for name in asking:
            module._parameters[name].requires_grad_(True)  # type: ignore[union-attr]
        if module.__dict__.pop("train", None):
            module.train(model.training)
    return model


def parameter_groups(
    model: nn.Module, lr: float, *, attention_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    r"""Return groups of a model's parameters for an optimizer.

    Weights of layers decay. Those with a single axis do not (biases, norms, and the gates
    :math:`\gamma`, which decay would pull back to the model without attention).

    Args:
        model: A model with insertions; parameters that require no gradient are left out.
        lr: The learning rate of the model.
        attention_lr: The learning rate of the attention; by default the same.
        weight_decay: The decay of weights.

    Returns:
        Up to four groups, each with ``name``, ``params``, ``lr`` and ``weight_decay``.

    >>> from regard import insert
    >>> net = insert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "se", at="0", reduction=2)
    >>> for group in parameter_groups(net, 1e-3, attention_lr=1e-2, weight_decay=0.05):
    ...     print(group["name"], len(group["params"]), group["lr"], group["weight_decay"])
    model 1 0.001 0.05
    model, no decay 1 0.001 0.0
    attention 2 0.01 0.05
    attention, no decay 1 0.01 0.0
    """
    added = {id(parameter) for parameter in attention_parameters(model)}
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rates = {"model": lr, "attention": lr if attention_lr is None else attention_lr}
    groups: list[dict[str, Any]] = []
    for owner, rate in rates.items():
        for ending, decay in (("", weight_decay), (", no decay", 0.0)):
            params = [
                p
                for p in chosen
                if (id(p) in added) == (owner == "attention") and (p.dim() > 1) == (not ending)
            ]
            if params:
                name = owner + ending
                groups.append({"name": name, "params": params, "lr": rate, "weight_decay": decay})
    return groups


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for ``train()`` of a frozen module: its children follow, it does not."""
    for child in module.children():
        child.train(mode)
    return module
