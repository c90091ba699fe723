"""Does it help to straighten what one looks at? A small network, with and without a transformer.

Scikit-learn's digits are turned, scaled and shifted on a canvas. The same small convolutional
network reads them twice, with the same first weights, the same canvases and the same number of
steps: once as they are, once behind a spatial transformer, which nobody tells where the digit is.

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
HELD_OUT = 360  # digits that are never trained on
BATCH = 128


def digits() -> tuple[Tensor, Tensor]:
    """The digits from 0 to 1, ``b 1 8 8``, and what they mean, in a random but fixed order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    return images[order], torch.tensor(data.target)[order]


def throw(images: Tensor, random: torch.Generator) -> Tensor:
    """Each digit on a canvas: turned by up to 60°, a third to two thirds as large, anywhere."""
    b = len(images)
    angle = math.pi / 3 * (2 * torch.rand(b, generator=random) - 1)
    size = 1 / 3 + torch.rand(b, generator=random) / 3
    shift = (1 - size)[:, None] * (2 * torch.rand(b, 2, generator=random) - 1)
    # A grid says where each pixel of the canvas reads the digit: the way back.
    cos, sin = angle.cos() / size, angle.sin() / size
    turn = torch.stack([cos, sin, -sin, cos], 1).unflatten(1, (2, 2))
    theta = torch.cat([turn, -turn @ shift[:, :, None]], 2)
    grid = affine_grid(theta, [b, 1, SIDE, SIDE], align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def network(*, transformer: bool) -> nn.Sequential:
    """The network; both kinds have the same first weights behind the transformer."""
    reader = nn.Sequential(
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
    return nn.Sequential(front, reader)


def train(model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, seed: int) -> None:
    """Train on canvases that are never twice the same, and depend on the seed alone."""
    random = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(labels) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pace = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=random).split(BATCH):
            loss = cross_entropy(model(throw(images[chosen], random)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pace.step()


def held_out(images: Tensor, labels: Tensor, times: int = 5) -> tuple[Tensor, Tensor]:
    """Canvases for testing, several of each digit; always the same."""
    images, labels = images.repeat(times, 1, 1, 1), labels.repeat(times)
    return throw(images, torch.Generator().manual_seed(-1)), labels


@torch.no_grad()
def accuracy(model: nn.Module, canvases: Tensor, labels: Tensor) -> float:
    """The share of right answers."""
    return (model(canvases).argmax(1) == labels).float().mean().item()


@torch.no_grad()
def draw(model: nn.Sequential, canvases: Tensor, path: Path) -> None:
    """What the transformer was given, with the frame that it chose, and what it made of it."""
    from matplotlib.figure import Figure

    transformer = model[0]
    grids = regard.explain(transformer, canvases)[""].tensor  # b h w 2, from -1 to 1
    rows = torch.stack([canvases, transformer(canvases)]).squeeze(2).numpy()
    figure = Figure(figsize=(1.25 * len(canvases), 2.75), layout="constrained")
    panels = figure.subplots(2, len(canvases), squeeze=False)
    for name, row, axes in zip(("given", "rectified"), rows, panels, strict=True):
        for image, panel in zip(row, axes, strict=True):
            panel.imshow(image, cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        axes[0].set_ylabel(name)
    for grid, panel in zip(grids, panels[0], strict=True):
        corners = grid[[0, 0, -1, -1, 0], [0, -1, -1, 0, 0]]  # around the edge
        x, y = ((corners + 1) * SIDE / 2 - 0.5).T.numpy()
        panel.plot(x, y, color="orange", lw=1.6)
        panel.plot(x[:2], y[:2], color="red", lw=1.6)  # what becomes the upper edge
        panel.set(xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5))
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train both, seed by seed, and print what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="where to draw what the last one rectified")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)

    images, labels = digits()
    canvases, answers = held_out(images[:HELD_OUT], labels[:HELD_OUT])
    reached: dict[bool, list[float]] = {False: [], True: []}
    for seed in asked.seeds:
        for transformer in reached:
            torch.manual_seed(seed)
            model = network(transformer=transformer)
            train(model, images[HELD_OUT:], labels[HELD_OUT:], epochs=asked.epochs, seed=seed)
            reached[transformer].append(accuracy(model, canvases, answers))
    for transformer, name in {False: "alone", True: "behind a spatial transformer"}.items():
        each = ", ".join(f"{a:.1%}" for a in reached[transformer])
        mean = sum(reached[transformer]) / len(asked.seeds)
        print(f"{name:<30}{mean:6.1%} of held-out digits  ({each})")
    if asked.picture:
        draw(model, canvases[:10], asked.picture)


if __name__ == "__main__":
    main()
