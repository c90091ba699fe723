"""Can a Transformer learn to reverse sequences, and does it attend to the right positions?

A tiny Transformer learns to reverse sequences of random digits. Then it generates held-out ones,
digit by digit: once with a cache of keys and values, once without. The map of its cross-attention
should be an anti-diagonal.

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
START, END = DIGITS, DIGITS + 1  # END is also the padding
SHORTEST, LONGEST = 4, 12
BATCH = 128
RATE = 2e-3  # maximum learning rate


class Reverser(nn.Module):
    """Embeddings of digits and positions, a Transformer, and scores for the next digit."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(DIGITS + 2, width)
        self.position = nn.Embedding(LONGEST + 1, width)
        self.transformer = regard.Transformer(
            width,
            num_heads=4,
            num_encoder_layers=1,
            num_decoder_layers=1,
            norm_first=True,
            dropout=0.0,
        )
        self.score = nn.Linear(width, DIGITS + 2)

    def embed_tokens(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Return the embeddings of tokens, the first of which is at position ``start``."""
        return self.embed(tokens) + self.position.weight[start : start + tokens.shape[1]]

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score the token after each of the target's."""
        x, y = self.embed_tokens(source), self.embed_tokens(target)
        return self.score(self.transformer(x, y, source_key_mask=source != END))

    @torch.no_grad()
    def write(self, source: Tensor) -> Tensor:
        """Generate greedily with a cache: each key and value is computed once."""
        encoder, decoder = self.transformer.encoder, self.transformer.decoder
        valid = source != END
        memory = encoder(self.embed_tokens(source), source_key_mask=valid)
        cache = decoder.remember(memory, memory_key_mask=valid)
        written = source.new_full((len(source), 1), START)
        for i in range(LONGEST + 1):
            y, cache = decoder.step(self.embed_tokens(written[:, -1:], i), cache)
            written = torch.cat([written, self.score(y).argmax(2)], 1)
        return written[:, 1:]

    @torch.no_grad()
    def write_without_cache(self, source: Tensor) -> Tensor:
        """Generate greedily without a cache: each step recomputes everything."""
        written = source.new_full((len(source), 1), START)
        for _ in range(LONGEST + 1):
            written = torch.cat([written, self(source, written)[:, -1:].argmax(2)], 1)
        return written[:, 1:]


def sequences(count: int, random: torch.Generator, *, held_out: bool) -> tuple[Tensor, Tensor]:
    """Return random digits, padded by END, and their reversal with one more END.

    Sequences whose sum is divisible by 10 are held out; training uses all others.
    """
    length = torch.randint(SHORTEST, LONGEST + 1, (count, 1), generator=random)
    position = torch.arange(LONGEST + 1)
    digits = torch.randint(DIGITS, (count, LONGEST), generator=random) * (position[:-1] < length)
    end = 0 if held_out else torch.randint(1, DIGITS, (count,), generator=random)
    digits[:, 0] = (end - digits[:, 1:].sum(1)) % DIGITS
    source = torch.where(position[:-1] < length, digits, END)
    return source, torch.where(position < length, source.gather(1, mirrored(length)), END)


def mirrored(length: Tensor) -> Tensor:
    """Return the position in the source of the digit at each position of the target."""
    return (length - 1 - torch.arange(LONGEST + 1)).clamp(min=0)


def shift_right(target: Tensor) -> Tensor:
    """Return the input of the decoder for a target: START and all but its last token."""
    return torch.cat([torch.full_like(target[:, :1], START), target[:, :-1]], 1)


def train(model: Reverser, *, steps: int, seed: int) -> None:
    """Train on sequences that never repeat and depend only on the seed."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps + 1, pct_start=0.1)
    for _ in track(range(steps), "training", transient=True, console=Console(stderr=True)):
        source, target = sequences(BATCH, random, held_out=False)
        scores = model(source, shift_right(target))
        loss = cross_entropy(scores.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()


def cross_attention(model: Reverser, source: Tensor, target: Tensor) -> Tensor:
    """Return the map of the cross-attention, averaged over the heads: ``b m n``."""
    maps = regard.explain(model, source, shift_right(target), only="**cross_attention")
    (cross,) = maps.values()
    return cross.tensor.mean(1)


def draw(model: Reverser, source: Tensor, target: Tensor, path: Path) -> None:
    """Draw the map of the cross-attention for each sequence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(source), 3.6), layout="constrained")
    panels = figure.subplots(1, len(source), squeeze=False)[0]
    maps = cross_attention(model, source, target)
    for a, digits, back, panel in zip(maps, source, target, panels, strict=True):
        length = int((digits != END).sum())
        panel.imshow(a[:length, :length].numpy(), cmap="viridis", vmin=0, vmax=1)
        panel.set_xticks(range(length), digits[:length].tolist())
        panel.set_yticks(range(length), back[:length].tolist())
        panel.set(xlabel="attends to", ylabel="generates")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, reverse held-out sequences in both ways, and print how many are correct."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="path of a picture of the cross-attention")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    model = Reverser()
    train(model, steps=args.steps, seed=args.seed)
    model.eval()
    source, target = sequences(1000, torch.Generator().manual_seed(-1), held_out=True)
    start = time.perf_counter()
    written = model.write(source)
    middle = time.perf_counter()
    recomputed = model.write_without_cache(source)
    end = time.perf_counter()
    correct = (written == target).all(1).float().mean().item()
    digit = target != END
    length = digit.sum(1, keepdim=True)
    hits = (
        cross_attention(model, source, target).gather(2, mirrored(length).unsqueeze(2)).squeeze(2)
    )
    chance = len(length) / length.sum()
    same = "the same" if torch.equal(written, recomputed) else "different"
    print(f"held-out sequences without a fault:  {correct:.1%}")
    print(f"attention to the digit to generate:  {hits[digit].mean():.1%} (by chance {chance:.1%})")
    print(f"with the cache {middle - start:.2f} s, without {end - middle:.2f} s, {same} digits")
    if args.picture:
        draw(model, source[:3], target[:3], args.picture)


if __name__ == "__main__":
    main()
