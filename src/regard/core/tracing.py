"""What `torch.fx` must not trace into."""

from __future__ import annotations

import torch

# Marks a function that a traced model calls whole, because it reads what a symbol has not: sizes,
# types, the layout in memory, or whether a gradient is wanted.
leaf = torch.fx.wrap
