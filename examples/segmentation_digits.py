"""Which digit is this pixel part of? Small segmentation networks that differ only in their head.

Scikit-learn's digits are on a canvas, among pieces of other digits that belong to the background: a
single stroke does not reveal its class. One attention head after the other is trained with the same
small dilated encoder, the same initial weights and the same canvases.

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
HELD_OUT = 360  # digits that are not used in training
DIGITS, PIECES = 4, 5  # at most, on a canvas
WIDTH, CHANNELS, STRIDE = 64, 128, 4  # inside the encoder; of its features; their stride
OPTIONS = {
    "emanet": {"num_bases": 16},
    "encnet": {"num_codewords": 16},
    "ocnet_asp": {"dilations": (2, 4, 6), "scale": 1},
    "psanet": {"mask_size": 31, "stride": 1},
    "spnet": {"bins": (8, 4)},
}


class Encoder(nn.Module):
    """A residual network with a stride of 4, and dilation instead of a larger stride."""

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
        self.widen = heads.conv_norm_relu(WIDTH, CHANNELS, 1)

    @staticmethod
    def block(dilation: int) -> nn.Sequential:
        """Return the layers of a residual branch."""
        options = {"padding": dilation, "dilation": dilation, "bias": False}
        return nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, **options),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, **options),
            nn.BatchNorm2d(WIDTH),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features, as a list of one."""
        x = self.stem(x)
        for block in self.blocks:
            x = (x + block(x)).relu()
        return [self.widen(x)]


def network(head: str, seed: int) -> Segmenter:
    """Build the network with one of the heads; all start with the same encoder."""
    torch.manual_seed(seed)
    encoder = Encoder()
    module = heads.head(head, CHANNELS, CLASSES, dropout=0.0, **OPTIONS.get(head, {}))
    net = Segmenter(encoder, module, output_names=heads.HEADS[head].outputs)
    if head == "spnet":  # the paper also has attention in the encoder
        example = torch.zeros(2, 1, SIDE, SIDE)
        net = regard.insert(
            net, "strip_pooling", "encoder.blocks.1.2", start="paper", example_input=example
        )
    return net


def digits() -> tuple[Tensor, Tensor]:
    """Return the images of digits, ``b 1 8 8`` from 0 to 1, and labels, in a fixed random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    return images[order], torch.tensor(data.target)[order]


def scenes(
    images: Tensor, answers: Tensor, count: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return canvases ``b 1 h w`` of up to four digits and clutter, and the class of each pixel."""

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=random)

    objects = DIGITS + PIECES
    chosen = torch.randint(len(images), (count, objects), generator=random)
    drawn = images[chosen].squeeze(2)  # b t 8 8
    # A piece is a window of 4 by 4 pixels.
    corner = torch.randint(1, 4, (2, count, PIECES, 1), generator=random)
    inside = (torch.arange(8) >= corner) & (torch.arange(8) < corner + 4)
    drawn[:, DIGITS:] *= inside[0].unsqueeze(3) & inside[1].unsqueeze(2)
    # A digit stays in its quarter of the canvas, a piece is anywhere.
    size = 0.36 + 0.14 * uniform(count, objects)
    quarter = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    center = 1.8 * uniform(count, objects, 2) - 0.9
    free = (0.5 - size[:, :DIGITS]).unsqueeze(2) + 0.04
    center[:, :DIGITS] = quarter + free * (2 * uniform(count, DIGITS, 2) - 1)
    angle = math.pi / 9 * (2 * uniform(count, objects) - 1)
    cos, sin = angle.cos() / size, angle.sin() / size
    rotation = torch.stack([cos, sin, -sin, cos], 2).unflatten(2, (2, 2))
    theta = torch.cat([rotation, -rotation @ center.unsqueeze(3)], 3).flatten(0, 1)
    grid = affine_grid(theta, [len(theta), 1, SIDE, SIDE], align_corners=False)
    layers = grid_sample(drawn.reshape(-1, 1, 8, 8), grid, align_corners=False)
    layers = layers.reshape(count, objects, SIDE, SIDE)
    layers[:, :DIGITS] *= (uniform(count, DIGITS) < 0.75)[:, :, None, None]
    peak, which = layers[:, :DIGITS].max(1)
    digit = answers[chosen].gather(1, which.flatten(1)).view_as(which)
    labels = torch.where(peak > 0.4, digit + 1, 0)
    layers = layers * (0.6 + 0.4 * uniform(count, objects, 1, 1))
    top, clutter = layers[:, :DIGITS].amax(1), layers[:, DIGITS:].amax(1)
    canvas = torch.where(peak > 0.15, top, clutter).unsqueeze(1)  # digits hide the clutter
    noise = 0.06 * torch.randn(canvas.shape, generator=random)
    return (canvas + noise).clamp(0, 1), labels


def train(net: Segmenter, images: Tensor, answers: Tensor, *, steps: int, seed: int) -> None:
    """Train on canvases that never repeat and depend only on the seed."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(steps, 2))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = 0.1  # some heads have 0.0003, for much longer training
    net.train()
    for _ in range(steps):
        canvases, labels = scenes(images, answers, 16, random)
        loss = segmentation_loss(net(canvases), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


@torch.no_grad()
def mean_iou(net: Segmenter, canvases: Tensor, labels: Tensor) -> float:
    """Return the mean over the classes of the intersection over union."""
    net.eval()
    answers = torch.cat([net(part).argmax(1) for part in canvases.split(32)])
    pairs = torch.bincount((labels * CLASSES + answers).flatten(), minlength=CLASSES**2)
    confusion = pairs.view(CLASSES, CLASSES)
    both = confusion.diagonal()
    return (both / (confusion.sum(0) + confusion.sum(1) - both).clamp(min=1)).mean().item()


def colors(labels: Tensor) -> Tensor:
    """Map classes to colors, ``h w 3``; the background is dark."""
    from matplotlib import colormaps

    palette = torch.tensor([(0.13, 0.13, 0.16), *colormaps["tab10"].colors])
    return palette[labels]


def dense(a: Tensor) -> Tensor:
    """Expand the map of one criss-cross pass, ``h w k``, to one over all positions, ``n n``."""
    h, w = a.shape[:2]
    i, j = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    full = a.new_zeros(h, w, h, w)
    full[i, j, :, j] += a[..., :h]
    full[i, j, i, :] += a[..., h:]
    return full.reshape(h * w, h * w)


def attention_map(net: Segmenter, canvas: Tensor, query: tuple[int, int]) -> tuple[Tensor, bool]:
    """Return a map of the head in the size of the canvas, and whether it depends on the query."""
    found = regard.explain(net, canvas)
    # The codewords of EncNet attend to a flat sequence of positions.
    grid = (SIDE // STRIDE, SIDE // STRIDE)
    maps = [a if a.grid else replace(a, grid=grid) for a in found.values()]
    chosen = next(a for a in maps if a.spatial)
    if chosen.mechanism == "CrissCross":  # the product of the maps of its two passes
        first, second = (dense(a.tensor[0]) for a in found.values())
        h, w = chosen.tensor.shape[1:3]
        heat = (second @ first)[query[0] * w + query[1]].view(1, 1, h, w)
        return interpolate(heat, canvas.shape[2:], mode="bilinear")[0, 0], True
    pairs = chosen.form == "pairs"
    return chosen.heat(SIDE, query=query if pairs else None)[0], pairs


def digit_centers(labels: Tensor) -> list[tuple[int, int, int]]:
    """Return each digit, the largest first, with row and column of its most central pixel."""
    half = SIDE // 2
    found = []
    for top in (0, half):
        for left in (0, half):
            quarter = labels[top : top + half, left : left + half]
            pixels = quarter.nonzero()
            if len(pixels) > 30:  # fewer are the edge of a neighbor
                distance = (pixels - pixels.float().mean(0)).square().sum(1)
                y, x = pixels[distance.argmin()].tolist()
                found.append((len(pixels), int(quarter[y, x]) - 1, y + top, x + left))
    return [one[1:] for one in sorted(found, reverse=True)]


@torch.no_grad()
def draw(nets: dict[str, Segmenter], canvases: Tensor, labels: Tensor, path: Path) -> None:
    """Draw each canvas above its labels, and beside it each head's answer above its attention."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.5, foreground="black")]
    columns = 1 + len(nets)
    # With one head, the canvases are side by side; with several, one below the other.
    lines, blocks = (len(canvases), 1) if len(nets) > 1 else (1, len(canvases))
    size = (1.3 * columns * blocks + 0.2, 2.6 * lines + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(2 * lines, columns * blocks, squeeze=False)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    for i, (canvas, truth) in enumerate(zip(canvases, labels, strict=True)):
        top, left = divmod(i, blocks)
        upper, lower = panels[2 * top : 2 * top + 2, columns * left : columns * (left + 1)]
        upper[0].imshow(canvas[0].numpy(), cmap="gray", vmin=0, vmax=1)
        lower[0].imshow(colors(truth).numpy())
        centers = digit_centers(truth)
        for digit, y, x in centers:
            style = {"color": "white", "weight": "bold", "path_effects": outline}
            lower[0].text(x, y, str(digit), ha="center", va="center", fontsize=8, **style)
        _, y, x = centers[0]
        for (name, net), answer, attention in zip(nets.items(), upper[1:], lower[1:], strict=True):
            answer.imshow(colors(net.eval()(canvas[None]).argmax(1)[0]).numpy())
            attention.imshow(canvas[0].numpy(), cmap="gray", vmin=0, vmax=1)
            if name == "fcn":  # it has no attention
                attention.set_visible(False)
            else:
                heat, marked = attention_map(net, canvas[None], (y // STRIDE, x // STRIDE))
                attention.imshow(heat.numpy(), cmap="inferno", alpha=0.7)
                if marked:
                    attention.plot(x, y, "o", ms=6, mfc="none", mec="cyan", mew=1.5)
            if top == 0:
                answer.set_title(name, fontsize=9)
        if left == 0:
            upper[0].set_ylabel("canvas, answer", fontsize=7)
            lower[0].set_ylabel("labels, attention", fontsize=7)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train one head after the other, and print the mean IoU of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--head", default="danet", choices=[*heads.HEADS, "all"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=256, help="held-out canvases")
    parser.add_argument("--picture", type=Path, help="path of a picture of answers and attention")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    images, answers = digits()
    unseen = torch.Generator().manual_seed(-1)
    canvases, labels = scenes(images[:HELD_OUT], answers[:HELD_OUT], args.scenes, unseen)
    nets = {}
    print(f"{'head':<14}parameters  mean IoU  seconds")
    for name in heads.HEADS if args.head == "all" else [args.head]:
        nets[name] = network(name, args.seed)
        start = time.perf_counter()
        train(nets[name], images[HELD_OUT:], answers[HELD_OUT:], steps=args.steps, seed=args.seed)
        took = time.perf_counter() - start
        size = sum(p.numel() for p in nets[name].head.parameters())
        print(f"{name:<14}{size:>10,}{mean_iou(nets[name], canvases, labels):>10.1%}{took:>9.0f}")
    if args.picture:
        draw(nets, canvases[:4], labels[:4], args.picture)


if __name__ == "__main__":
    main()
