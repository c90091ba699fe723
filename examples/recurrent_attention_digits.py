"""Can a network learn where to look, when all it is ever told is whether its answer was right?

Scikit-learn's digits lie anywhere on a canvas, between pieces of other digits. A recurrent model
takes a few small glimpses, sharp in the middle and blurred around, and learns by REINFORCE where to
take the next. Beside it, the same network learns with its gaze held at the center.

    python examples/recurrent_attention_digits.py --picture glimpses.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from regard import RecurrentAttention

SIDE = 32  # of a canvas, in pixels
DIGIT = 14  # of a digit
PIECE = 5  # of a piece of another digit
PIECES = 4
HELD_OUT = 360  # digits that are never trained on, nor cut into pieces for training
BATCH = 128


def digits() -> tuple[Tensor, Tensor]:
    """The digits from 0 to 1, ``b 14 14``, and what they mean, in a random but fixed order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    images = interpolate(images, (DIGIT, DIGIT), mode="bilinear").squeeze(1)
    return images[order], torch.tensor(data.target)[order]


def window(within: int, side: int, count: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Index of a random square in each of so many images: image, rows, columns."""
    corner = torch.randint(within - side + 1, (2, count, 1, 1), generator=random)
    rows, columns = torch.arange(side)[:, None], torch.arange(side)
    return torch.arange(count)[:, None, None], corner[0] + rows, corner[1] + columns


def throw(images: Tensor, others: Tensor, random: torch.Generator) -> Tensor:
    """Each digit somewhere on a canvas, between pieces of others; ``b 1 h w`` around zero."""
    b = len(images)
    canvas = torch.zeros(b, SIDE, SIDE)
    canvas[window(SIDE, DIGIT, b, random)] = images
    for _ in range(PIECES):
        other = others[torch.randint(len(others), (b,), generator=random)]
        place = window(SIDE, PIECE, b, random)
        canvas[place] = torch.maximum(canvas[place], other[window(DIGIT, PIECE, b, random)])
    return 4 * canvas.unsqueeze(1) - 0.6


def network(*, held: bool) -> RecurrentAttention:
    """The network; a hook on its tap holds the gaze at the center, whatever the policy says."""
    model = RecurrentAttention(
        1,
        num_classes=10,
        num_glimpses=4,
        patch_size=8,
        num_patches=3,
        glimpse_dim=64,
        location_dim=64,
        location_std=0.15,
    )
    if held:
        model.tap.register_forward_hook(lambda tap, args, places: torch.zeros_like(places))
    return model


def train(
    model: RecurrentAttention, images: Tensor, labels: Tensor, *, steps: int, seed: int
) -> None:
    """Train on canvases that are never twice the same, and depend on the seed alone."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    pace = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,), generator=random)
        x = throw(images[chosen], images, random)
        if model.tap.watched:  # the gaze is held: there is no choice to learn
            loss = cross_entropy(model(x), labels[chosen])
        else:
            loss = model.explore(x).loss(labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        pace.step()


def held_out(images: Tensor, labels: Tensor, times: int = 5) -> tuple[Tensor, Tensor]:
    """Canvases for testing, several of each digit; always the same."""
    images, labels = images.repeat(times, 1, 1), labels.repeat(times)
    return throw(images, images, torch.Generator().manual_seed(-1)), labels


@torch.no_grad()
def accuracy(model: RecurrentAttention, canvases: Tensor, labels: Tensor) -> float:
    """The share of right answers."""
    return (model.eval()(canvases).argmax(1) == labels).float().mean().item()


@torch.no_grad()
def draw(model: RecurrentAttention, canvases: Tensor, labels: Tensor, path: Path) -> None:
    """The way of the gaze over each canvas, what is sharp on it, and what is seen at its end."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    episode = model.eval().explore(canvases)
    sides = model.glimpse.retina.sides
    ways = ((episode.places + 1) * SIDE / 2 - 0.5).numpy()  # b t 2, in pixels
    answers = episode.scores.argmax(1).tolist()
    columns = -(-len(canvases) // 2)
    figure = Figure(figsize=(1.8 * columns, 4.2), layout="constrained")
    panels = figure.subplots(2, columns, squeeze=False).flat
    for i, panel in zip(range(len(canvases)), panels, strict=False):
        panel.imshow(canvases[i, 0].numpy(), cmap="gray")
        for place in ways[i]:
            box = {"fill": False, "ec": "orange", "lw": 1, "alpha": 0.5}
            panel.add_patch(Rectangle(place - sides[0] / 2, sides[0], sides[0], **box))
        box |= {"alpha": 1, "lw": 1.6}
        panel.add_patch(Rectangle(place - sides[1] / 2, sides[1], sides[1], **box))
        panel.plot(*ways[i].T, color="cyan", lw=1.6)
        panel.plot(*ways[i][0], "o", color="cyan", ms=4)
        panel.plot(*ways[i][-1], "o", color="cyan", ms=7)
        right = answers[i] == labels[i]
        told = f"{answers[i]}" if right else f"{answers[i]}, but is {labels[i]}"
        panel.set_title(told, color="green" if right else "red", fontsize=11)
        panel.set(xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5), xticks=[], yticks=[])
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train both, seed by seed, and print what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="where to draw the glimpses of the last one")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)

    images, labels = digits()
    canvases, answers = held_out(images[:HELD_OUT], labels[:HELD_OUT])
    reached: dict[bool, list[float]] = {True: [], False: []}
    for seed in asked.seeds:
        for held in reached:
            torch.manual_seed(seed)
            model = network(held=held)
            train(model, images[HELD_OUT:], labels[HELD_OUT:], steps=asked.steps, seed=seed)
            reached[held].append(accuracy(model, canvases, answers))
    for held, name in {True: "gaze held at the center", False: "gaze that learned"}.items():
        each = ", ".join(f"{a:.1%}" for a in reached[held])
        mean = sum(reached[held]) / len(asked.seeds)
        print(f"{name:<26}{mean:6.1%} of held-out digits  ({each})")
    if asked.picture:
        draw(model, canvases[:10], answers, asked.picture)


if __name__ == "__main__":
    main()
