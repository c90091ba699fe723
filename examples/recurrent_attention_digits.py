"""Can a network learn where to look if the only reward is whether its answer is correct?

Scikit-learn's digits are at random positions of a canvas, among pieces of other digits. A recurrent
model takes a few small glimpses, sharp in the middle and blurred around, and learns by REINFORCE
where to take the next. The same network with all glimpses at the center is the baseline.

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
HELD_OUT = 360  # digits that are not used in training, not even as pieces
BATCH = 128


def digits() -> tuple[Tensor, Tensor]:
    """Return the images of digits, ``b 14 14`` from 0 to 1, and labels, in a fixed random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    images = interpolate(images, (DIGIT, DIGIT), mode="bilinear").squeeze(1)
    return images[order], torch.tensor(data.target)[order]


def window(within: int, side: int, count: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Return the index of a random square in each of ``count`` images: image, rows, columns."""
    corner = torch.randint(within - side + 1, (2, count, 1, 1), generator=random)
    rows, columns = torch.arange(side)[:, None], torch.arange(side)
    return torch.arange(count)[:, None, None], corner[0] + rows, corner[1] + columns


def place_digits(images: Tensor, others: Tensor, random: torch.Generator) -> Tensor:
    """Place each digit on a canvas among pieces of others; return ``b 1 h w``, around zero."""
    b = len(images)
    canvas = torch.zeros(b, SIDE, SIDE)
    canvas[window(SIDE, DIGIT, b, random)] = images
    for _ in range(PIECES):
        other = others[torch.randint(len(others), (b,), generator=random)]
        target = window(SIDE, PIECE, b, random)
        canvas[target] = torch.maximum(canvas[target], other[window(DIGIT, PIECE, b, random)])
    return 4 * canvas.unsqueeze(1) - 0.6


def network(*, centered: bool) -> RecurrentAttention:
    """Build the network; ``centered`` puts all glimpses at the center, by a hook on its tap."""
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
    if centered:
        model.tap.register_forward_hook(lambda tap, args, places: torch.zeros_like(places))
    return model


def train(
    model: RecurrentAttention, images: Tensor, labels: Tensor, *, steps: int, seed: int
) -> None:
    """Train on canvases that never repeat and depend only on the seed."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,), generator=random)
        x = place_digits(images[chosen], images, random)
        if model.tap.watched:  # all glimpses are at the center: there is no choice to learn
            loss = cross_entropy(model(x), labels[chosen])
        else:
            loss = model.explore(x).loss(labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()


def held_out(images: Tensor, labels: Tensor, times: int = 5) -> tuple[Tensor, Tensor]:
    """Return canvases for testing, several of each digit, from a fixed seed."""
    images, labels = images.repeat(times, 1, 1), labels.repeat(times)
    return place_digits(images, images, torch.Generator().manual_seed(-1)), labels


@torch.no_grad()
def accuracy(model: RecurrentAttention, canvases: Tensor, labels: Tensor) -> float:
    """Return the fraction of correct answers."""
    return (model.eval()(canvases).argmax(1) == labels).float().mean().item()


@torch.no_grad()
def draw(model: RecurrentAttention, canvases: Tensor, labels: Tensor, path: Path) -> None:
    """Draw the path of the glimpses over each canvas, with their frames, and the answer."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    episode = model.eval().explore(canvases)
    sides = model.glimpse.retina.sides
    paths = ((episode.places + 1) * SIDE / 2 - 0.5).numpy()  # b t 2, in pixels
    answers = episode.scores.argmax(1).tolist()
    columns = -(-len(canvases) // 2)
    figure = Figure(figsize=(1.8 * columns, 4.2), layout="constrained")
    panels = figure.subplots(2, columns, squeeze=False).flat
    for i, panel in zip(range(len(canvases)), panels, strict=False):
        panel.imshow(canvases[i, 0].numpy(), cmap="gray")
        for place in paths[i]:
            box = {"fill": False, "ec": "orange", "lw": 1, "alpha": 0.5}
            panel.add_patch(Rectangle(place - sides[0] / 2, sides[0], sides[0], **box))
        box |= {"alpha": 1, "lw": 1.6}
        panel.add_patch(Rectangle(place - sides[1] / 2, sides[1], sides[1], **box))
        panel.plot(*paths[i].T, color="cyan", lw=1.6)
        panel.plot(*paths[i][0], "o", color="cyan", ms=4)
        panel.plot(*paths[i][-1], "o", color="cyan", ms=7)
        correct = answers[i] == labels[i]
        title = f"{answers[i]}" if correct else f"{answers[i]}, but is {labels[i]}"
        panel.set_title(title, color="green" if correct else "red", fontsize=11)
        panel.set(xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5), xticks=[], yticks=[])
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train both networks with each seed, and print their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--picture", type=Path, help="path of a picture of the last model's glimpses"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    images, labels = digits()
    canvases, answers = held_out(images[:HELD_OUT], labels[:HELD_OUT])
    accuracies: dict[bool, list[float]] = {True: [], False: []}
    for seed in args.seeds:
        for centered in accuracies:
            torch.manual_seed(seed)
            model = network(centered=centered)
            train(model, images[HELD_OUT:], labels[HELD_OUT:], steps=args.steps, seed=seed)
            accuracies[centered].append(accuracy(model, canvases, answers))
    for centered, name in {True: "glimpses at the center", False: "learned glimpses"}.items():
        each = ", ".join(f"{a:.1%}" for a in accuracies[centered])
        mean = sum(accuracies[centered]) / len(args.seeds)
        print(f"{name:<26}{mean:6.1%} of held-out digits  ({each})")
    if args.picture:
        draw(model, canvases[:10], answers, args.picture)


if __name__ == "__main__":
    main()
