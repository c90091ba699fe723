"""Functions that `torch.fx` must not trace into."""

from __future__ import annotations

import torch

# Marks a function that stays a single call in a traced model, because it reads what the symbols of
# torch.fx lack: sizes, dtypes, memory formats, or whether a gradient is required.
leaf = torch.fx.wrap
