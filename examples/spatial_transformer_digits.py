"""Does a spatial transformer help to read transformed digits? A comparison with and without one.

Scikit-learn's digits are rotated, scaled and shifted on a canvas. The same small convolutional
network is trained twice, with the same initial weights, canvases and number of steps: alone, and
after a spatial transformer, which is not trained on the position of the digit.

    python examples/spatial_transformer_digits.py --picture transformer.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

import regard

SIDE = 32  # of a canvas, in pixels
HELD_OUT = 360  # digits that are not used in training
BATCH = 128


def digits() -> tuple[Tensor, Tensor]:
    """Return the images of digits, ``b 1 8 8`` from 0 to 1, and labels, in a fixed random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    return images[order], torch.tensor(data.target)[order]


def place_digits(images: Tensor, random: torch.Generator) -> Tensor:
    """Place each digit on a canvas: rotated by up to 60°, 1/3 to 2/3 as large, shifted."""
    b = len(images)
    angle = math.pi / 3 * (2 * torch.rand(b, generator=random) - 1)
    size = 1 / 3 + torch.rand(b, generator=random) / 3
    shift = (1 - size)[:, None] * (2 * torch.rand(b, 2, generator=random) - 1)
    # The grid has, for each pixel of the canvas, its position in the digit: the inverse transform.
    cos, sin = angle.cos() / size, angle.sin() / size
    rotation = torch.stack([cos, sin, -sin, cos], 1).unflatten(1, (2, 2))
    theta = torch.cat([rotation, -rotation @ shift[:, :, None]], 2)
    grid = affine_grid(theta, [b, 1, SIDE, SIDE], align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def network(*, transformer: bool) -> nn.Sequential:
    """Build the network; with and without the transformer, the classifier starts the same."""
    classifier = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 6 * 6, 10),
    )
    front = (
        regard.create("spatial_transformer", 1, input_size=SIDE) if transformer else nn.Identity()
    )
    return nn.Sequential(front, classifier)


def train(model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, seed: int) -> None:
    """Train on canvases that never repeat and depend only on the seed."""
    random = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(labels) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=random).split(BATCH):
            loss = cross_entropy(model(place_digits(images[chosen], random)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()


def held_out(images: Tensor, labels: Tensor, times: int = 5) -> tuple[Tensor, Tensor]:
    """Return canvases for testing, several of each digit, from a fixed seed."""
    images, labels = images.repeat(times, 1, 1, 1), labels.repeat(times)
    return place_digits(images, torch.Generator().manual_seed(-1)), labels


@torch.no_grad()
def accuracy(model: nn.Module, canvases: Tensor, labels: Tensor) -> float:
    """Return the fraction of correct answers."""
    return (model(canvases).argmax(1) == labels).float().mean().item()


@torch.no_grad()
def draw(model: nn.Sequential, canvases: Tensor, path: Path) -> None:
    """Draw the input of the transformer, with the frame of its grid, and its output."""
    from matplotlib.figure import Figure

    transformer = model[0]
    grids = regard.explain(transformer, canvases)[""].tensor  # b h w 2, from -1 to 1
    rows = torch.stack([canvases, transformer(canvases)]).squeeze(2).numpy()
    figure = Figure(figsize=(1.25 * len(canvases), 2.75), layout="constrained")
    panels = figure.subplots(2, len(canvases), squeeze=False)
    for name, row, axes in zip(("input", "rectified"), rows, panels, strict=True):
        for image, panel in zip(row, axes, strict=True):
            panel.imshow(image, cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        axes[0].set_ylabel(name)
    for grid, panel in zip(grids, panels[0], strict=True):
        corners = grid[[0, 0, -1, -1, 0], [0, -1, -1, 0, 0]]  # around the edge
        x, y = ((corners + 1) * SIDE / 2 - 0.5).T.numpy()
        panel.plot(x, y, color="orange", lw=1.6)
        panel.plot(x[:2], y[:2], color="red", lw=1.6)  # the upper edge of the output
        panel.set(xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5))
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train both networks with each seed, and print their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="path of a picture of rectified digits")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    images, labels = digits()
    canvases, answers = held_out(images[:HELD_OUT], labels[:HELD_OUT])
    accuracies: dict[bool, list[float]] = {False: [], True: []}
    for seed in args.seeds:
        for transformer in accuracies:
            torch.manual_seed(seed)
            model = network(transformer=transformer)
            train(model, images[HELD_OUT:], labels[HELD_OUT:], epochs=args.epochs, seed=seed)
            accuracies[transformer].append(accuracy(model, canvases, answers))
    for transformer, name in {False: "alone", True: "after a spatial transformer"}.items():
        each = ", ".join(f"{a:.1%}" for a in accuracies[transformer])
        mean = sum(accuracies[transformer]) / len(args.seeds)
        print(f"{name:<30}{mean:6.1%} of held-out digits  ({each})")
    if args.picture:
        draw(model, canvases[:10], args.picture)


if __name__ == "__main__":
    main()
