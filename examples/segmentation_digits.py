"""Which digit is this pixel part of? Small segmentation networks that differ in their head alone.

Scikit-learn's digits lie on a canvas, among pieces of other digits that mean nothing: whoever sees
a stroke alone cannot tell. The same small dilated encoder, with the same first weights and the same
canvases, feeds one attention head after the other.

    python examples/segmentation_digits.py --head all --picture segmentation.png
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, interpolate

import regard
from regard.networks import heads
from regard.networks.segmentation import Segmenter, segmentation_loss

SIDE = 64  # of a canvas, in pixels
CLASSES = 11  # the background is 0, the digit d is d + 1
HELD_OUT = 360  # digits that are never trained on
DIGITS, PIECES = 4, 5  # at most so many on a canvas
WIDTH, CHANNELS, STRIDE = 64, 128, 4  # of the encoder inside, and of the features that it gives
OPTIONS = {
    "emanet": {"num_bases": 16},
    "encnet": {"num_codewords": 16},
    "ocnet_asp": {"dilations": (2, 4, 6), "scale": 1},
    "psanet": {"mask_size": 31, "stride": 1},
    "spnet": {"bins": (8, 4)},
}


class Encoder(nn.Module):
    """A residual network that shrinks the image four times, and dilates instead of going on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, WIDTH, 3, 2, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(self.block(dilation) for dilation in (2, 4))
        self.widen = heads.convolve(WIDTH, CHANNELS, 1)

    @staticmethod
    def block(dilation: int) -> nn.Sequential:
        """What a block adds to its input."""
        how = {"padding": dilation, "dilation": dilation, "bias": False}
        return nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, **how),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, **how),
            nn.BatchNorm2d(WIDTH),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features, as a sequence of one."""
        x = self.stem(x)
        for block in self.blocks:
            x = (x + block(x)).relu()
        return [self.widen(x)]


def network(head: str, seed: int) -> Segmenter:
    """The network with one of the heads; all have the same first encoder."""
    torch.manual_seed(seed)
    encoder = Encoder()
    made = heads.head(head, CHANNELS, CLASSES, dropout=0.0, **OPTIONS.get(head, {}))
    net = Segmenter(encoder, made, gives=heads.HEADS[head].gives)
    if head == "spnet":  # the other half of the paper stands in the encoder
        example = torch.zeros(2, 1, SIDE, SIDE)
        net = regard.insert(
            net, "strip_pooling", "encoder.blocks.1.2", start="paper", example_input=example
        )
    return net


def digits() -> tuple[Tensor, Tensor]:
    """The digits from 0 to 1, ``b 1 8 8``, and what they mean, in a random but fixed order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    return images[order], torch.tensor(data.target)[order]


def scenes(
    images: Tensor, answers: Tensor, count: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Canvases ``b 1 h w`` of up to four digits, with clutter, and the class of each pixel."""

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=random)

    things = DIGITS + PIECES
    chosen = torch.randint(len(images), (count, things), generator=random)
    drawn = images[chosen].squeeze(2)  # b t 8 8
    # Of a piece only a window of 4 by 4 is left.
    corner = torch.randint(1, 4, (2, count, PIECES, 1), generator=random)
    inside = (torch.arange(8) >= corner) & (torch.arange(8) < corner + 4)
    drawn[:, DIGITS:] *= inside[0].unsqueeze(3) & inside[1].unsqueeze(2)
    # A digit keeps to its quarter of the canvas, a piece to nothing.
    size = 0.36 + 0.14 * uniform(count, things)
    quarter = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    place = 1.8 * uniform(count, things, 2) - 0.9
    free = (0.5 - size[:, :DIGITS]).unsqueeze(2) + 0.04
    place[:, :DIGITS] = quarter + free * (2 * uniform(count, DIGITS, 2) - 1)
    angle = math.pi / 9 * (2 * uniform(count, things) - 1)
    cos, sin = angle.cos() / size, angle.sin() / size
    turn = torch.stack([cos, sin, -sin, cos], 2).unflatten(2, (2, 2))
    theta = torch.cat([turn, -turn @ place.unsqueeze(3)], 3).flatten(0, 1)
    grid = affine_grid(theta, [len(theta), 1, SIDE, SIDE], align_corners=False)
    layers = grid_sample(drawn.reshape(-1, 1, 8, 8), grid, align_corners=False)
    layers = layers.reshape(count, things, SIDE, SIDE)
    layers[:, :DIGITS] *= (uniform(count, DIGITS) < 0.75)[:, :, None, None]
    peak, which = layers[:, :DIGITS].max(1)
    meant = answers[chosen].gather(1, which.flatten(1)).view_as(which)
    labels = torch.where(peak > 0.4, meant + 1, 0)
    layers = layers * (0.6 + 0.4 * uniform(count, things, 1, 1))
    top, clutter = layers[:, :DIGITS].amax(1), layers[:, DIGITS:].amax(1)
    canvas = torch.where(peak > 0.15, top, clutter).unsqueeze(1)  # a digit hides the clutter
    noise = 0.06 * torch.randn(canvas.shape, generator=random)
    return (canvas + noise).clamp(0, 1), labels


def train(net: Segmenter, images: Tensor, answers: Tensor, *, steps: int, seed: int) -> None:
    """Train on canvases that are never twice the same, and depend on the seed alone."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-3)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(steps, 2))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = 0.1  # some heads have 0.0003, for trainings that last for days
    net.train()
    for _ in range(steps):
        canvases, labels = scenes(images, answers, 16, random)
        loss = segmentation_loss(net(canvases), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()


@torch.no_grad()
def mean_iou(net: Segmenter, canvases: Tensor, labels: Tensor) -> float:
    """Intersection over union of what is said and what is there, the mean over the classes."""
    net.eval()
    said = torch.cat([net(part).argmax(1) for part in canvases.split(32)])
    pairs = torch.bincount((labels * CLASSES + said).flatten(), minlength=CLASSES**2)
    confusion = pairs.view(CLASSES, CLASSES)
    both = confusion.diagonal()
    return (both / (confusion.sum(0) + confusion.sum(1) - both).clamp(min=1)).mean().item()


def colors(labels: Tensor) -> Tensor:
    """A color for each class, ``h w 3``; the background is dark."""
    from matplotlib import colormaps

    palette = torch.tensor([(0.13, 0.13, 0.16), *colormaps["tab10"].colors])
    return palette[labels]


def dense(a: Tensor) -> Tensor:
    """The map of one criss-cross pass, ``h w k``, as one between all positions, ``n n``."""
    h, w = a.shape[:2]
    i, j = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    full = a.new_zeros(h, w, h, w)
    full[i, j, :, j] += a[..., :h]
    full[i, j, i, :] += a[..., h:]
    return full.reshape(h * w, h * w)


def looked(net: Segmenter, canvas: Tensor, query: tuple[int, int]) -> tuple[Tensor, bool]:
    """A map of the head in the size of the canvas, and whether it is that of one position."""
    found = regard.explain(net, canvas)
    # The codewords of EncNet see the places in one row.
    grid = (SIDE // STRIDE, SIDE // STRIDE)
    maps = [one if one.grid else replace(one, grid=grid) for one in found.values()]
    one = next(one for one in maps if one.spatial)
    if one.mechanism == "CrissCross":  # what the second pass reads of what the first one read
        first, second = (dense(one.tensor[0]) for one in found.values())
        h, w = one.tensor.shape[1:3]
        read = (second @ first)[query[0] * w + query[1]].view(1, 1, h, w)
        return interpolate(read, canvas.shape[2:], mode="bilinear")[0, 0], True
    pairs = one.form == "pairs"
    return one.heat(SIDE, query=query if pairs else None)[0], pairs


def middles(labels: Tensor) -> list[tuple[int, int, int]]:
    """Each digit with the row and column of its pixel nearest to its middle, the largest first."""
    half = SIDE // 2
    found = []
    for top in (0, half):
        for left in (0, half):
            quarter = labels[top : top + half, left : left + half]
            places = quarter.nonzero()
            if len(places) > 30:  # else it is the edge of a neighbor
                away = (places - places.float().mean(0)).square().sum(1)
                y, x = places[away.argmin()].tolist()
                found.append((len(places), int(quarter[y, x]) - 1, y + top, x + left))
    return [one[1:] for one in sorted(found, reverse=True)]


@torch.no_grad()
def draw(nets: dict[str, Segmenter], canvases: Tensor, labels: Tensor, path: Path) -> None:
    """Each canvas above the truth; beside them what each head says, above where it looks."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.5, foreground="black")]
    across = 1 + len(nets)
    # Of one head the canvases stand side by side, of several below each other.
    lines, blocks = (len(canvases), 1) if len(nets) > 1 else (1, len(canvases))
    size = (1.3 * across * blocks + 0.2, 2.6 * lines + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(2 * lines, across * blocks, squeeze=False)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    for i, (canvas, truth) in enumerate(zip(canvases, labels, strict=True)):
        top, left = divmod(i, blocks)
        upper, lower = panels[2 * top : 2 * top + 2, across * left : across * (left + 1)]
        upper[0].imshow(canvas[0].numpy(), cmap="gray", vmin=0, vmax=1)
        lower[0].imshow(colors(truth).numpy())
        there = middles(truth)
        for digit, y, x in there:
            style = {"color": "white", "weight": "bold", "path_effects": outline}
            lower[0].text(x, y, str(digit), ha="center", va="center", fontsize=8, **style)
        _, y, x = there[0]
        for (name, net), said, seen in zip(nets.items(), upper[1:], lower[1:], strict=True):
            said.imshow(colors(net.eval()(canvas[None]).argmax(1)[0]).numpy())
            seen.imshow(canvas[0].numpy(), cmap="gray", vmin=0, vmax=1)
            if name == "fcn":  # which has no attention
                seen.set_visible(False)
            else:
                heat, marked = looked(net, canvas[None], (y // STRIDE, x // STRIDE))
                seen.imshow(heat.numpy(), cmap="inferno", alpha=0.7)
                if marked:
                    seen.plot(x, y, "o", ms=6, mfc="none", mec="cyan", mew=1.5)
            if top == 0:
                said.set_title(name, fontsize=9)
        if left == 0:
            upper[0].set_ylabel("canvas, answer", fontsize=7)
            lower[0].set_ylabel("truth, gaze", fontsize=7)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train one head after the other, and print what each reaches."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--head", default="danet", choices=[*heads.HEADS, "all"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=256, help="held-out canvases")
    parser.add_argument("--picture", type=Path, help="where to draw answers and attention")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)

    images, answers = digits()
    unseen = torch.Generator().manual_seed(-1)
    canvases, labels = scenes(images[:HELD_OUT], answers[:HELD_OUT], asked.scenes, unseen)
    nets = {}
    print(f"{'head':<14}parameters  mean IoU  seconds")
    for name in heads.HEADS if asked.head == "all" else [asked.head]:
        nets[name] = network(name, asked.seed)
        start = time.perf_counter()
        train(nets[name], images[HELD_OUT:], answers[HELD_OUT:], steps=asked.steps, seed=asked.seed)
        took = time.perf_counter() - start
        size = sum(p.numel() for p in nets[name].head.parameters())
        print(f"{name:<14}{size:>10,}{mean_iou(nets[name], canvases, labels):>10.1%}{took:>9.0f}")
    if asked.picture:
        draw(nets, canvases[:4], labels[:4], asked.picture)


if __name__ == "__main__":
    main()
