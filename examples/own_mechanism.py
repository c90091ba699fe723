"""A mechanism of your own: with two methods, it works with all of regard.

Run: ``python examples/own_mechanism.py``
"""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

import regard


class ContrastGate(regard.Attention):
    """Scales each channel by a gate computed from the standard deviation of its values."""

    def __init__(self, channels: int) -> None:
        super().__init__(c=channels)
        self.score = nn.Linear(channels, channels)

    def attention(self, x: Tensor) -> Tensor:
        """Return the map."""
        return self.score(x.std((2, 3))).sigmoid()[..., None, None]

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        """Apply the map."""
        return a * x


def main() -> None:
    """Create the mechanism, insert it, explain the model and measure its cost."""
    print(regard.create(ContrastGate, 64))

    torch.manual_seed(0)
    plain = timm.create_model("resnet18", num_classes=10).eval()
    image = torch.randn(1, 3, 64, 64)
    model = regard.insert(plain, ContrastGate, at="stage", example_input=image)
    print("output unchanged until trained:", torch.equal(model(image), plain(image)))

    print(regard.explain(model, image).table())
    print(regard.measure(model, image, latency=False, depth=0).table())
    # regard.compare([ContrastGate, "se"]) trains and compares it with others.


if __name__ == "__main__":
    main()
