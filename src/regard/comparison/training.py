"""One run: the same recipe, the same batches, another attention."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import Data


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on besides its attention and its seed.

    Attributes:
        backbone: Name of the backbone.
        at: Where attention goes.
        start: What a new attention computes.
        data: Name of the data set.
        checksum: That of the data set.
        size: Height and width of the images.
        channels: Their channels.
        classes: Number of classes.
        train: Number of training images.
        validation: Number of validation images.
        epochs: How often each training image is seen.
        batch_size: Images for one step.
        optimizer: Name of it in timm.
        lr: Its highest learning rate.
        weight_decay: Its weight decay.
        warmup: Share of the steps in which the rate rises; then it falls to zero as a cosine.
        smoothing: Label smoothing.
        shift: Each image is moved by up to this share of its side, another way in each epoch.
        flip: Half of the images are mirrored.
        precision: ``no``, ``bf16`` or ``fp16``.
        device: Kind of device.
        threads: CPU threads of a run. Sums depend on it in their last digits, so it is fixed.
    """

    backbone: str
    at: str
    start: Literal["identity", "paper"]
    data: str
    checksum: str
    size: int
    channels: int
    classes: int
    train: int
    validation: int
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float
    warmup: float
    smoothing: float
    shift: float
    flip: bool
    precision: str
    device: str
    threads: int


@dataclass(frozen=True)
class Draw:
    """What chance decides in one epoch: the order of the images and how each is moved."""

    order: Tensor
    shifts: Tensor
    flips: Tensor

    @classmethod
    def of(cls, recipe: Recipe, seed: int, epoch: int) -> Draw:
        """Draw for this seed and epoch, whatever was drawn before.

        An image that would be alone in the last batch is left out: there is no batch norm of one
        vector.
        """
        source = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        order = torch.randperm(recipe.train, generator=source)
        reach = round(recipe.shift * recipe.size)
        shifts = torch.randint(2 * reach + 1, (recipe.train, 2), generator=source)
        flips = torch.rand(recipe.train, generator=source) < 0.5
        whole = recipe.train - (recipe.train % recipe.batch_size == 1)
        return cls(order[:whole], shifts, flips if recipe.flip else torch.zeros_like(flips))

    def checksum(self, before: int = 0) -> int:
        """A number that another draw would not have."""
        for x in (self.order, self.shifts, self.flips):
            before = zlib.crc32(x.numpy().tobytes(), before)
        return before


def batches(data: Data, recipe: Recipe, draw: Draw) -> Any:
    """Yield the training batches of an epoch, augmented and normalized."""
    start = 0
    for x, y in data.batches(data.train, draw.order.tolist(), recipe.batch_size):
        chosen = draw.order[start : start + len(x)]
        start += len(x)
        x = moved(x, draw.shifts[chosen], round(recipe.shift * recipe.size))
        x = torch.where(draw.flips[chosen].view(-1, 1, 1, 1), x.flip(-1), x)
        yield data.normalize(x), y


def moved(x: Tensor, shifts: Tensor, reach: int) -> Tensor:
    """Move each image by its own shift, which is counted from ``-reach``; edges are repeated.

    >>> moved(torch.tensor([[[[1.0, 2, 3]]]]), torch.tensor([[1, 0]]), 1)
    tensor([[[[1., 1., 2.]]]])
    """
    if reach == 0:
        return x
    height, width = x.shape[-2:]
    wide = F.pad(x, (reach,) * 4, mode="replicate")
    cut = [
        w[:, i : i + height, j : j + width] for w, (i, j) in zip(wide, shifts.tolist(), strict=True)
    ]
    return torch.stack(cut)


def check_optimizer(name: str) -> None:
    """Refuse an optimizer that timm does not have.

    >>> check_optimizer("adamv")
    Traceback (most recent call last):
    ValueError: no optimizer "adamv" in timm; close are adam, ...
    """
    from timm.optim import list_optimizers

    if name not in (known := list_optimizers()):
        close = get_close_matches(name, map(str, known), n=3) or ["sgd", "adamw"]
        raise ValueError(f'no optimizer "{name}" in timm; close are {", ".join(close)}')


def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    seed: int,
    accelerator: Any,
    tell: Callable[[dict[str, float]], None],
) -> tuple[list[dict[str, float]], int]:
    """Train a model and look at it after every epoch.

    Args:
        model: It is trained in place, on the accelerator's device.
        data: What it learns.
        recipe: How.
        seed: Decides the batches, and whatever else the model draws.
        accelerator: Knows the device and the precision.
        tell: Is told the numbers of each epoch.

    Returns:
        The numbers of all epochs, and a checksum of the batches.
    """
    from timm.optim import create_optimizer_v2, get_optimizer_class
    from timm.scheduler.cosine_lr import CosineLRScheduler

    device = accelerator.device
    model = model.to(device)
    known = signature(get_optimizer_class(recipe.optimizer, bind_defaults=False)).parameters
    optimizer = create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        **({"fused": True} if "fused" in known else {}),  # on CPUs a step is six times as fast
    )
    steps = recipe.epochs * math.ceil(recipe.train / recipe.batch_size)
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=steps,
        warmup_t=round(recipe.warmup * steps),
        warmup_prefix=False,
        t_in_epochs=False,
    )
    optimizer = accelerator.prepare_optimizer(optimizer)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
    curve, checksum, step = [], 0, 0
    for epoch in range(1, recipe.epochs + 1):
        draw = Draw.of(recipe, seed, epoch)
        checksum = draw.checksum(checksum)
        torch.manual_seed(1_000_003 * seed + epoch)  # for what the model itself draws: dropout
        model.train()
        total = torch.zeros((), device=device)
        for x, y in batches(data, recipe, draw):
            schedule.step_update(step)
            optimizer.zero_grad()
            with accelerator.autocast():
                loss = loss_of(model(x.to(device)), y.to(device))
            accelerator.backward(loss)
            optimizer.step()
            total += loss.detach() * len(y)
            step += 1
        seen = {"epoch": epoch, "loss": total.item() / len(draw.order)}
        curve.append(seen | evaluate(model, data, recipe, accelerator))
        tell(curve[-1])
    return curve, checksum


@torch.no_grad()
def evaluate(model: nn.Module, data: Data, recipe: Recipe, accelerator: Any) -> dict[str, float]:
    """Top-1 accuracy and cross-entropy over the validation images."""
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy

    model.eval()
    # Each process has a run of its own, which torchmetrics would mix with those of the others.
    alone = {"sync_on_compute": False}
    accuracy = MulticlassAccuracy(len(data.classes), average="micro", **alone)
    accuracy, loss = accuracy.to(accelerator.device), MeanMetric(**alone).to(accelerator.device)
    everything = range(recipe.validation)
    for x, y in data.batches(data.validation, everything, 2 * recipe.batch_size):
        x, y = data.normalize(x).to(accelerator.device), y.to(accelerator.device)
        with accelerator.autocast():
            scores = model(x)
        accuracy.update(scores, y)
        loss.update(F.cross_entropy(scores.float(), y), len(y))
    right = round(accuracy.compute().item() * recipe.validation)  # exact, where float32 is not
    return {"validation_loss": loss.compute().item(), "accuracy": right / recipe.validation}
