"""Training of one run. All variants of a seed get the same batches."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import Data

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Recipe:
    """Everything on which a run depends, except its attention and its seed.

    Attributes:
        backbone: Name of the backbone.
        at: Where attention is inserted.
        start: What a new attention computes.
        data: Name of the data set.
        checksum: Checksum of the data set.
        size: Height and width of the images.
        channels: Channels of the images.
        classes: Number of classes.
        train: Number of training images.
        validation: Number of validation images.
        epochs: Number of epochs.
        batch_size: Images per batch.
        optimizer: Name of the optimizer in timm.
        lr: Maximum learning rate.
        weight_decay: Weight decay.
        warmup: Fraction of the steps in which the learning rate rises; then it falls to zero along
            a cosine.
        smoothing: Label smoothing.
        shift: Each image is shifted by up to this fraction of its size, anew in each epoch.
        flip: Whether half of the images are mirrored.
        precision: ``no``, ``bf16`` or ``fp16``.
        device: Type of the device.
        threads: CPU threads of a run, fixed because the last digits of sums depend on them.
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
class EpochPlan:
    """The random choices of one epoch: the order of the images, and their augmentation.

    Attributes:
        order: Indices of the images.
        shifts: Vertical and horizontal shift of each image, from 0 to twice the largest one.
        flips: Whether each image is mirrored.
    """

    order: Tensor
    shifts: Tensor
    flips: Tensor

    @classmethod
    def sample(cls, recipe: Recipe, seed: int, epoch: int) -> EpochPlan:
        """Sample the plan, which depends on seed and epoch alone.

        An image that would be alone in the last batch is left out, because batch norm cannot be
        trained on one vector.
        """
        generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        order = torch.randperm(recipe.train, generator=generator)
        max_shift = round(recipe.shift * recipe.size)
        shifts = torch.randint(2 * max_shift + 1, (recipe.train, 2), generator=generator)
        flips = torch.rand(recipe.train, generator=generator) < 0.5
        count = recipe.train - (recipe.train % recipe.batch_size == 1)
        return cls(order[:count], shifts, flips if recipe.flip else torch.zeros_like(flips))

    def checksum(self, previous: int = 0) -> int:
        """Continue a checksum of earlier plans by this one."""
        for x in (self.order, self.shifts, self.flips):
            previous = zlib.crc32(x.numpy().tobytes(), previous)
        return previous


def training_batches(
    data: Data, recipe: Recipe, plan: EpochPlan
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the training batches of an epoch, augmented and normalized."""
    start = 0
    for x, y in data.loader(data.train, plan.order.tolist(), recipe.batch_size):
        chosen = plan.order[start : start + len(x)]
        start += len(x)
        x = shift_images(x, plan.shifts[chosen], round(recipe.shift * recipe.size))
        x = torch.where(plan.flips[chosen].view(-1, 1, 1, 1), x.flip(-1), x)
        yield data.normalize(x), y


def shift_images(x: Tensor, shifts: Tensor, max_shift: int) -> Tensor:
    """Shift each image by ``shifts - max_shift``, up and to the left; edges are repeated.

    >>> shift_images(torch.tensor([[[[1.0, 2, 3]]]]), torch.tensor([[1, 0]]), 1)
    tensor([[[[1., 1., 2.]]]])
    """
    if max_shift == 0:
        return x
    height, width = x.shape[-2:]
    padded = F.pad(x, (max_shift,) * 4, mode="replicate")
    crops = [
        image[:, i : i + height, j : j + width]
        for image, (i, j) in zip(padded, shifts.tolist(), strict=True)
    ]
    return torch.stack(crops)


def check_optimizer(name: str) -> None:
    """Raise ValueError if timm does not have the optimizer.

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
    accelerator: Accelerator,
    on_epoch: Callable[[dict[str, float]], None],
) -> tuple[list[dict[str, float]], int]:
    """Train a model and evaluate it after every epoch.

    Args:
        model: The model, which is trained in place, on the accelerator's device.
        data: The data set.
        recipe: The settings.
        seed: Seed of the batches, and of random numbers that the model uses.
        accelerator: Decides device and precision.
        on_epoch: Called with the metrics of each epoch.

    Returns:
        The metrics of all epochs, and a checksum of the batches.
    """
    from timm.optim import create_optimizer_v2, get_optimizer_class
    from timm.scheduler.cosine_lr import CosineLRScheduler

    device = accelerator.device
    model = model.to(device)
    options = signature(get_optimizer_class(recipe.optimizer, bind_defaults=False)).parameters
    optimizer = create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        **({"fused": True} if "fused" in options else {}),  # six times as fast on CPUs
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
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
    curve, checksum, step = [], 0, 0
    for epoch in range(1, recipe.epochs + 1):
        plan = EpochPlan.sample(recipe, seed, epoch)
        checksum = plan.checksum(checksum)
        torch.manual_seed(
            1_000_003 * seed + epoch
        )  # for random numbers of the model, such as dropout
        model.train()
        total = torch.zeros((), device=device)
        for x, y in training_batches(data, recipe, plan):
            schedule.step_update(step)
            optimizer.zero_grad()
            with accelerator.autocast():
                loss = criterion(model(x.to(device)), y.to(device))
            accelerator.backward(loss)
            optimizer.step()
            total += loss.detach() * len(y)
            step += 1
        metrics = {"epoch": epoch, "loss": total.item() / len(plan.order)}
        curve.append(metrics | evaluate(model, data, recipe, accelerator))
        on_epoch(curve[-1])
    return curve, checksum


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Data, recipe: Recipe, accelerator: Accelerator
) -> dict[str, float]:
    """Return top-1 accuracy and cross-entropy over the validation images."""
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy

    model.eval()
    # Each process trains another run; torchmetrics would mix their metrics.
    local = {"sync_on_compute": False}
    accuracy = MulticlassAccuracy(len(data.classes), average="micro", **local)
    accuracy, loss = accuracy.to(accelerator.device), MeanMetric(**local).to(accelerator.device)
    order = range(recipe.validation)
    for x, y in data.loader(data.validation, order, 2 * recipe.batch_size):
        x, y = data.normalize(x).to(accelerator.device), y.to(accelerator.device)
        with accelerator.autocast():
            scores = model(x)
        accuracy.update(scores, y)
        loss.update(F.cross_entropy(scores.float(), y), len(y))
    # Counting the correct images makes the accuracy exact, which float32 is not.
    correct = round(accuracy.compute().item() * recipe.validation)
    return {"validation_loss": loss.compute().item(), "accuracy": correct / recipe.validation}
