"""The pictures: scikit-learn's digits, an image folder, or a torchvision data set by name."""

from __future__ import annotations

import inspect
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

LARGEST = 224
SAMPLE = 500  # images that tell mean and deviation
VALIDATION = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class Data:
    """A data set, split and brought to one size.

    Attributes:
        name: What was asked for.
        train: Pairs of an image, ``c h w`` from 0 to 1, and the number of its class.
        validation: The same, never trained on.
        classes: The names of the classes.
        shape: Channels, height and width of every image.
        mean: Mean of each channel of the training images, or of 500 of them.
        std: Its standard deviation.
        checksum: Another one when the split, the labels or the size change.
        workers: Processes that read pictures; what is read does not depend on it.
    """

    name: str
    train: Any
    validation: Any
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor
    checksum: str
    workers: int = 0

    def batches(self, split: Any, order: Sequence[int], size: int) -> DataLoader[Any]:
        """Read a split in this order, so many images at a time."""
        return DataLoader(
            split,
            batch_size=size,
            sampler=order,  # pyright: ignore[reportArgumentType]
            num_workers=self.workers,
            generator=torch.Generator(),  # else a loader draws from the seed of the run
        )

    def normalize(self, x: Tensor) -> Tensor:
        """Bring the training images to mean zero and deviation one, channel by channel."""
        return (x - self.mean.view(-1, 1, 1).to(x)) / self.std.view(-1, 1, 1).to(x)

    def samples(self, count: int) -> tuple[Tensor, list[str]]:
        """A few validation images of as many classes as there are, and their names."""
        chosen, _ = share(labels(self.validation), count)
        pairs = [self.validation[i] for i in chosen]
        return torch.stack([x for x, _ in pairs]), [self.classes[int(y)] for _, y in pairs]


def load(
    name: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    train_samples: int | None = None,
    workers: int | None = None,
    root: str | Path = "data",
) -> Data:
    """Read a data set by its name.

    Args:
        name: ``digits``, ``folder:/path`` or ``torchvision:CIFAR10``.
        size: Height and width that every image is brought to. By default 32 for the digits, else
            the shorter side of the first image, 224 at most.
        channels: 3 gives gray images three equal channels; by default they stay gray.
        train_samples: Use only so many training images, of all classes alike.
        workers: Processes that read pictures; none for the digits, which are in memory.
        root: Where torchvision's data sets lie, or are downloaded to.

    Raises:
        ValueError: there is no such data set, or it cannot be used.

    >>> data = load("digits", train_samples=100)
    >>> len(data.train), len(data.validation), data.shape
    (100, 599, (1, 32, 32))
    """
    kind, _, where = name.partition(":")
    if name == "digits":
        train, validation, classes = _digits(size or 32, channels or 1)
    elif kind == "folder" and where:
        train, validation, classes = _folder(Path(where).expanduser(), size)
    elif kind == "torchvision" and where:
        train, validation, classes = _torchvision(where, size, channels, Path(root))
    else:
        raise ValueError(
            f'no data "{name}"; there are digits, folder:/path/to/images, and torchvision:CIFAR10 '
            "or any other classification set of torchvision.datasets"
        )
    if train_samples is not None:
        if not len(classes) <= train_samples <= len(train):
            raise ValueError(
                f"train_samples must be {len(classes)} (one a class) to {len(train)} (all), "
                f"got {train_samples}"
            )
        train = Subset(train, share(labels(train), train_samples)[0])
    shape = tuple(train[0][0].shape)
    some = torch.stack([train[i][0] for i in share(labels(train), min(len(train), SAMPLE))[0]])
    told = repr((shape, labels(train), labels(validation), some.double().sum().item()))
    return Data(
        name,
        train,
        validation,
        classes,
        shape,
        some.mean((0, 2, 3)),
        some.std((0, 2, 3)).clamp(min=1e-6),
        f"{zlib.crc32(told.encode()):08x}",
        (0 if name == "digits" else 2) if workers is None else workers,
    )


def labels(split: Any) -> list[int]:
    """The class of every image, without reading the images where that can be helped."""
    if isinstance(split, Subset):
        whole = labels(split.dataset)
        return [whole[i] for i in split.indices]
    if isinstance(split, TensorDataset):
        return split.tensors[1].tolist()
    for name in ("targets", "labels", "_labels"):
        if (found := getattr(split, name, None)) is not None:
            return [int(y) for y in found]
    return [int(split[i][1]) for i in range(len(split))]


def share(classes: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Draw so many places, every class in proportion and first; the draw is always the same.

    >>> chosen, rest = share([0, 0, 0, 0, 1, 1], 3)
    >>> sorted([0, 0, 0, 0, 1, 1][i] for i in chosen), len(rest)
    ([0, 0, 1], 3)
    """
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0)).tolist()
    total, seen, rank = Counter(classes), Counter[int](), {}
    for i in order:
        seen[classes[i]] += 1
        rank[i] = (seen[classes[i]] - 0.5) / total[classes[i]]
    order.sort(key=rank.__getitem__)
    return order[:count], order[count:]


Splits = tuple[Any, Any, tuple[str, ...]]


def _digits(size: int, channels: int) -> Splits:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    x = torch.from_numpy(digits.images).float()[:, None] / 16
    x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    whole = TensorDataset(x.repeat(1, channels, 1, 1), torch.from_numpy(digits.target))
    validation, train = share(labels(whole), len(whole) // 3)
    names = tuple(str(name) for name in digits.target_names)
    return TensorDataset(*whole[train]), TensorDataset(*whole[validation]), names


def _folder(root: Path, size: int | None) -> Splits:
    from torchvision.datasets import ImageFolder

    if not root.is_dir():
        raise ValueError(f"no folder {root}")
    top = root / "train" if (root / "train").is_dir() else root
    beside = next((root / name for name in VALIDATION if (root / name).is_dir()), None)
    if top != root and beside is None:
        raise ValueError(f"{root} has train/ but none of {', '.join(VALIDATION)} beside it")
    try:
        first = ImageFolder(str(top))[0][0]
        transform = partial(_prepare, size=size or _side(first), mode="RGB")
        train = ImageFolder(str(top), transform)
        validation = ImageFolder(str(beside), transform) if top != root else None
    except FileNotFoundError as e:  # a folder without classes, or a class without images
        raise ValueError(f"{root} needs one folder of images per class: {e}") from None
    if len(train.classes) < 2:
        raise ValueError(f"{top} holds one class, {train.classes[0]}; there must be two")
    if validation is None:
        held, kept = share(train.targets, max(len(train.classes), len(train) // 5))
        return Subset(train, kept), Subset(train, held), tuple(train.classes)
    if validation.classes != train.classes:
        other = ", ".join(sorted(set(train.classes) ^ set(validation.classes)))
        raise ValueError(f"{root}: classes of only one of the two splits: {other}")
    return train, validation, tuple(train.classes)


def _torchvision(name: str, size: int | None, channels: int | None, root: Path) -> Splits:
    from torchvision import datasets

    cls: Any = getattr(datasets, name, None)
    if not inspect.isclass(cls):
        close = get_close_matches(name, datasets.__all__, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f'torchvision.datasets has no "{name}"{hint}')
    known = inspect.signature(cls).parameters
    if "train" in known:
        halves: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
    elif "split" in known:
        halves = ({"split": "train"}, {"split": "test"})
    else:
        raise ValueError(f"torchvision's {name} does not come in a training and a test half")
    first = _open(cls, root, **halves[0])[0][0]
    mode = "RGB" if channels == 3 or first.mode != "L" else "L"
    transform = partial(_prepare, size=size or _side(first), mode=mode)
    train, validation = (_open(cls, root, transform, **half) for half in halves)
    names = getattr(train, "classes", None) or range(max(labels(train)) + 1)
    return train, validation, tuple(str(n) for n in names)


def _open(
    cls: Any, root: Path, transform: Callable[[Any], Tensor] | None = None, **half: Any
) -> Any:
    """Take a data set from the disk, and only if it is not there from the network."""
    try:
        return cls(root, transform=transform, download=False, **half)
    except RuntimeError:
        return cls(root, transform=transform, download=True, **half)


def _side(image: Any) -> int:
    return min(*image.size, LARGEST)


def _prepare(image: Any, size: int, mode: str) -> Tensor:
    """Bring a picture to a square of numbers from 0 to 1, cut out of its middle."""
    from torchvision.transforms import functional

    x = functional.to_tensor(image.convert(mode))
    return functional.center_crop(functional.resize(x, [size], antialias=True), [size])
