"""Data sets of images: scikit-learn's digits, an image folder, or a set of torchvision."""

from __future__ import annotations

import inspect
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

MAX_SIZE = 224
NUM_FOR_STATISTICS = 500  # images from which mean and standard deviation are computed
VALIDATION_FOLDERS = ("val", "valid", "validation", "test")


class Split(Protocol):
    """Pairs of an image, ``c h w`` from 0 to 1, and the index of its class."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


@dataclass(frozen=True)
class Data:
    """A data set, split for training and validation, with images of one size.

    Attributes:
        name: Name of the data set, as the caller wrote it.
        train: Images to train on.
        validation: Images that are never trained on.
        classes: Names of the classes.
        shape: Channels, height and width of every image.
        mean: Mean of each channel of the training images, or of 500 of them.
        std: Standard deviation of each channel.
        checksum: Changes with the split, the labels and the size.
        workers: Processes that load images; the images do not depend on it.
    """

    name: str
    train: Split
    validation: Split
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor
    checksum: str
    workers: int = 0

    def loader(self, split: Split, order: Sequence[int], batch_size: int) -> DataLoader[Any]:
        """Return a loader of the images of a split in the given order."""
        return DataLoader(
            split,  # pyright: ignore[reportArgumentType]
            batch_size=batch_size,
            sampler=order,  # pyright: ignore[reportArgumentType]
            num_workers=self.workers,
            generator=torch.Generator(),  # otherwise a loader advances the random state of the run
        )

    def normalize(self, x: Tensor) -> Tensor:
        """Normalize each channel by mean and standard deviation of the training images."""
        return (x - self.mean.view(-1, 1, 1).to(x)) / self.std.view(-1, 1, 1).to(x)

    def sample_validation(self, count: int) -> tuple[Tensor, list[str]]:
        """Return validation images of as many classes as possible, and the names of these."""
        chosen, _ = stratified_split(labels_of(self.validation), count)
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
    """Load a data set by its name.

    Args:
        name: ``digits``, ``folder:/path`` or ``torchvision:CIFAR10``.
        size: Height and width to which images are resized. By default 32 for the digits, otherwise
            the shorter side of the first image, at most 224.
        channels: With 3, gray images get three equal channels; by default they keep one.
        train_samples: Number of training images to use, with every class in proportion.
        workers: Processes that load images; 0 for the digits, which are in memory.
        root: Folder of torchvision's data sets, to which they are downloaded if missing.

    Raises:
        ValueError: the data set does not exist or cannot be used.

    >>> data = load("digits", train_samples=100)
    >>> len(data.train), len(data.validation), data.shape
    (100, 599, (1, 32, 32))
    """
    kind, _, source = name.partition(":")
    if name == "digits":
        train, validation, classes = _load_digits(size or 32, channels or 1)
    elif kind == "folder" and source:
        train, validation, classes = _load_folder(Path(source).expanduser(), size)
    elif kind == "torchvision" and source:
        train, validation, classes = _load_torchvision(source, size, channels, Path(root))
    else:
        raise ValueError(
            f'no data "{name}"; choose digits, folder:/path/to/images, and torchvision:CIFAR10 '
            "or another classification data set of torchvision.datasets"
        )
    if train_samples is not None:
        if not len(classes) <= train_samples <= len(train):
            raise ValueError(
                f"train_samples must be {len(classes)} (one per class) to {len(train)} (all), "
                f"got {train_samples}"
            )
        train = Subset(train, stratified_split(labels_of(train), train_samples)[0])
    shape = tuple(train[0][0].shape)
    chosen, _ = stratified_split(labels_of(train), min(len(train), NUM_FOR_STATISTICS))
    some = torch.stack([train[i][0] for i in chosen])
    facts = repr((shape, labels_of(train), labels_of(validation), some.double().sum().item()))
    return Data(
        name,
        train,
        validation,
        classes,
        shape,
        some.mean((0, 2, 3)),
        some.std((0, 2, 3)).clamp(min=1e-6),
        f"{zlib.crc32(facts.encode()):08x}",
        (0 if name == "digits" else 2) if workers is None else workers,
    )


def labels_of(split: Any) -> list[int]:
    """Return the class of every image, if possible without loading the images."""
    if isinstance(split, Subset):
        whole = labels_of(split.dataset)
        return [whole[i] for i in split.indices]
    if isinstance(split, TensorDataset):
        return split.tensors[1].tolist()
    for name in ("targets", "labels", "_labels"):
        if (found := getattr(split, name, None)) is not None:
            return [int(y) for y in found]
    return [int(split[i][1]) for i in range(len(split))]


def stratified_split(classes: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Choose ``count`` indices with every class in proportion; return them and the rest.

    The choice is random with a fixed seed.

    >>> chosen, rest = stratified_split([0, 0, 0, 0, 1, 1], 3)
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


Splits = tuple[Any, Any, tuple[str, ...]]  # training, validation, names of the classes


def _load_digits(size: int, channels: int) -> Splits:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    x = torch.from_numpy(digits.images).float()[:, None] / 16
    x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    whole = TensorDataset(x.repeat(1, channels, 1, 1), torch.from_numpy(digits.target))
    validation, train = stratified_split(labels_of(whole), len(whole) // 3)
    names = tuple(str(name) for name in digits.target_names)
    return TensorDataset(*whole[train]), TensorDataset(*whole[validation]), names


def _load_folder(root: Path, size: int | None) -> Splits:
    from torchvision.datasets import ImageFolder

    if not root.is_dir():
        raise ValueError(f"no folder {root}")
    top = root / "train" if (root / "train").is_dir() else root
    other = next((root / name for name in VALIDATION_FOLDERS if (root / name).is_dir()), None)
    if top != root and other is None:
        raise ValueError(f"{root} has train/ but none of {', '.join(VALIDATION_FOLDERS)}")
    try:
        first = ImageFolder(str(top))[0][0]
        transform = partial(_to_tensor, size=size or _default_size(first), mode="RGB")
        train = ImageFolder(str(top), transform)
        validation = ImageFolder(str(other), transform) if top != root else None
    except FileNotFoundError as e:  # a folder without classes, or a class without images
        raise ValueError(f"{root} needs one folder of images per class: {e}") from None
    if len(train.classes) < 2:
        raise ValueError(f"{top} must have two classes or more, got only {train.classes[0]}")
    if validation is None:
        held_out, kept = stratified_split(train.targets, max(len(train.classes), len(train) // 5))
        return Subset(train, kept), Subset(train, held_out), tuple(train.classes)
    if validation.classes != train.classes:
        unmatched = ", ".join(sorted(set(train.classes) ^ set(validation.classes)))
        raise ValueError(f"{root}: classes of only one of the two splits: {unmatched}")
    return train, validation, tuple(train.classes)


def _load_torchvision(name: str, size: int | None, channels: int | None, root: Path) -> Splits:
    from torchvision import datasets

    cls: Any = getattr(datasets, name, None)
    if not inspect.isclass(cls):
        close = get_close_matches(name, datasets.__all__, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f'torchvision.datasets has no "{name}"{hint}')
    known = inspect.signature(cls).parameters
    if "train" in known:
        splits: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
    elif "split" in known:
        splits = ({"split": "train"}, {"split": "test"})
    else:
        raise ValueError(f"torchvision's {name} does not have a training and a test split")
    first = _open_or_download(cls, root, **splits[0])[0][0]
    mode = "RGB" if channels == 3 or first.mode != "L" else "L"
    transform = partial(_to_tensor, size=size or _default_size(first), mode=mode)
    train, validation = (_open_or_download(cls, root, transform, **split) for split in splits)
    names = getattr(train, "classes", None) or range(max(labels_of(train)) + 1)
    return train, validation, tuple(str(n) for n in names)


def _open_or_download(
    cls: Any, root: Path, transform: Callable[[Any], Tensor] | None = None, **split: Any
) -> Any:
    """Open a data set from the disk; download it if it is not there."""
    try:
        return cls(root, transform=transform, download=False, **split)
    except RuntimeError:
        return cls(root, transform=transform, download=True, **split)


def _default_size(image: Any) -> int:
    return min(*image.size, MAX_SIZE)


def _to_tensor(image: Any, size: int, mode: str) -> Tensor:
    """Resize an image, crop its central square, and scale the values from 0 to 1."""
    from torchvision.transforms import functional

    x = functional.to_tensor(image.convert(mode))
    return functional.center_crop(functional.resize(x, [size], antialias=True), [size])
