"""Can a Transformer learn to read backwards, and does it look where it should?

A tiny one learns to write sequences of random digits in reverse. Then it writes sequences that it
never saw, digit by digit: once with a cache of keys and values, once reading everything again at
each step. Where its decoder looks at the source, an anti-diagonal shows the way back.

    python examples/transformer_reverse.py --picture reverse.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regard

DIGITS = 10
START, END = DIGITS, DIGITS + 1  # END pads too
SHORTEST, LONGEST = 4, 12
BATCH = 128
RATE = 2e-3  # of learning, at its highest


class Reverser(nn.Module):
    """Digits and their places as vectors, a Transformer, and scores for the next digit."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(DIGITS + 2, width)
        self.place = nn.Embedding(LONGEST + 1, width)
        self.transformer = regard.Transformer(
            width,
            num_heads=4,
            num_encoder_layers=1,
            num_decoder_layers=1,
            norm_first=True,
            dropout=0.0,
        )
        self.score = nn.Linear(width, DIGITS + 2)

    def placed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Tokens as vectors, of which the first stands at ``start``."""
        return self.embed(tokens) + self.place.weight[start : start + tokens.shape[1]]

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score the token after each of the target's."""
        x, y = self.placed(source), self.placed(target)
        return self.score(self.transformer(x, y, source_key_mask=source != END))

    @torch.no_grad()
    def write(self, source: Tensor) -> Tensor:
        """The likeliest token, one after the other; each key and value is computed once."""
        encoder, decoder = self.transformer.encoder, self.transformer.decoder
        valid = source != END
        memory = encoder(self.placed(source), source_key_mask=valid)
        cache = decoder.remember(memory, memory_key_mask=valid)
        written = source.new_full((len(source), 1), START)
        for i in range(LONGEST + 1):
            y, cache = decoder.step(self.placed(written[:, -1:], i), cache)
            written = torch.cat([written, self.score(y).argmax(2)], 1)
        return written[:, 1:]

    @torch.no_grad()
    def write_anew(self, source: Tensor) -> Tensor:
        """The same without a cache: all is read again for each token."""
        written = source.new_full((len(source), 1), START)
        for _ in range(LONGEST + 1):
            written = torch.cat([written, self(source, written)[:, -1:].argmax(2)], 1)
        return written[:, 1:]


def sequences(count: int, random: torch.Generator, *, held_out: bool) -> tuple[Tensor, Tensor]:
    """Random digits, padded by END, and the same in reverse with one END more.

    Those whose sum ends in a zero are held out: training has all others, and none of them.
    """
    length = torch.randint(SHORTEST, LONGEST + 1, (count, 1), generator=random)
    place = torch.arange(LONGEST + 1)
    digits = torch.randint(DIGITS, (count, LONGEST), generator=random) * (place[:-1] < length)
    end = 0 if held_out else torch.randint(1, DIGITS, (count,), generator=random)
    digits[:, 0] = (end - digits[:, 1:].sum(1)) % DIGITS
    source = torch.where(place[:-1] < length, digits, END)
    return source, torch.where(place < length, source.gather(1, mirrored(length)), END)


def mirrored(length: Tensor) -> Tensor:
    """Where in the source the digit stands that is written at each place, if there is one."""
    return (length - 1 - torch.arange(LONGEST + 1)).clamp(min=0)


def after_start(target: Tensor) -> Tensor:
    """What the decoder reads while it writes the target."""
    return torch.cat([torch.full_like(target[:, :1], START), target[:, :-1]], 1)


def train(model: Reverser, *, steps: int, seed: int) -> None:
    """Train on sequences that are never twice the same, and depend on the seed alone."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps + 1, pct_start=0.1)
    for _ in track(range(steps), "training", transient=True, console=Console(stderr=True)):
        source, target = sequences(BATCH, random, held_out=False)
        scores = model(source, after_start(target))
        loss = cross_entropy(scores.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        pace.step()


def looks(model: Reverser, source: Tensor, target: Tensor) -> Tensor:
    """Where the decoder looks while it writes the target, over all heads: ``b m n``."""
    maps = regard.explain(model, source, after_start(target), only="**cross_attention")
    (cross,) = maps.values()
    return cross.tensor.mean(1)


def draw(model: Reverser, source: Tensor, target: Tensor, path: Path) -> None:
    """The look of the decoder at the source, for each sequence a panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(source), 3.6), layout="constrained")
    panels = figure.subplots(1, len(source), squeeze=False)[0]
    seen = looks(model, source, target)
    for a, digits, back, panel in zip(seen, source, target, panels, strict=True):
        length = int((digits != END).sum())
        panel.imshow(a[:length, :length].numpy(), cmap="viridis", vmin=0, vmax=1)
        panel.set_xticks(range(length), digits[:length].tolist())
        panel.set_yticks(range(length), back[:length].tolist())
        panel.set(xlabel="looks at", ylabel="writes")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, write held-out sequences in both ways, and print how many are right."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="where to draw the look at the source")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)

    model = Reverser()
    train(model, steps=asked.steps, seed=asked.seed)
    model.eval()
    source, target = sequences(1000, torch.Generator().manual_seed(-1), held_out=True)
    start = time.perf_counter()
    written = model.write(source)
    middle = time.perf_counter()
    anew = model.write_anew(source)
    end = time.perf_counter()
    right = (written == target).all(1).float().mean().item()
    digit = target != END
    length = digit.sum(1, keepdim=True)
    hits = looks(model, source, target).gather(2, mirrored(length).unsqueeze(2)).squeeze(2)
    chance = len(length) / length.sum()
    same = "the same" if torch.equal(written, anew) else "other"
    print(f"held-out sequences without a fault:  {right:.1%}")
    print(f"looks at the digit that comes next:  {hits[digit].mean():.1%} (by chance {chance:.1%})")
    print(f"with the cache {middle - start:.2f} s, without {end - middle:.2f} s, {same} digits")
    if asked.picture:
        draw(model, source[:3], target[:3], asked.picture)


if __name__ == "__main__":
    main()
