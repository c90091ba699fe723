"""What a place of `regard.insert` costs, beside the mechanism placed by hand.

Run: ``python benchmarks/site.py``. Times are the least of many interleaved runs, in microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import regard


class ByHand(nn.Module):
    """The same computation as an inserted mechanism, written into the network."""

    def __init__(self, host: nn.Module, mechanism: nn.Module, gamma: Tensor | None) -> None:
        super().__init__()
        self.host, self.mechanism, self.gamma = host, mechanism, gamma

    def forward(self, x: Tensor) -> Tensor:
        """Return the host's output after the mechanism."""
        y = self.host(x)
        z = self.mechanism(y)
        return z if self.gamma is None else y - (self.gamma * (y - z) + 0.0)


def least(runs: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Return the least time of each function, called in turn."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            found[name] = min(found[name], time.perf_counter() - start)
    return {name: seconds * 1e6 for name, seconds in found.items()}


def main() -> None:
    """Time one place, and a training step of a ResNet-50 with all of them."""
    torch.set_num_threads(1)
    x = torch.randn(1, 16, 4, 4)
    for start in ("paper", "identity"):
        host = nn.Sequential(nn.Identity(), nn.Identity())
        net = regard.insert(
            host, "se", at="0", layout="b c h w", start=start, example_input=x, reduction=4
        ).eval()
        site = net[0].attention
        runs = {"by hand": ByHand(nn.Identity(), site.mechanism, site.gamma), "inserted": net[0]}
        for compiled in (False, True):
            chosen = {n: torch.compile(m) if compiled else m for n, m in runs.items()}
            with torch.no_grad():
                for module in chosen.values():
                    module(x)
                took = least({n: lambda m=m: m(x) for n, m in chosen.items()}, 3000)
            extra = took["inserted"] - took["by hand"]
            how = "compiled" if compiled else "eager"
            print(f"one place, start={start}, {how}: {took} extra {extra:.1f}")
    image = torch.randn(2, 3, 96, 96)
    plain = timm.create_model("resnet50", num_classes=10).train()
    inserted = regard.insert(plain, "se", example_input=image, start="paper").train()
    by_hand = timm.create_model("resnet50", num_classes=10).train()
    for what in regard.insertions(inserted):
        parent, _, name = what.path.rpartition(".")
        module = by_hand.get_submodule(what.path)
        hand = ByHand(module, regard.create("se", what.channels), None)
        setattr(by_hand.get_submodule(parent), name, hand)
    nets = {"without": plain, "by hand": by_hand, "inserted": inserted}
    took = least({n: lambda m=m: m(image).sum().backward() for n, m in nets.items()}, 12)
    print({name: f"{time / took['without']:.3f}" for name, time in took.items()})


if __name__ == "__main__":
    main()
