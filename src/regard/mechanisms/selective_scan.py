"""Selective scan: a state runs over the image in four directions, and forgets as x tells it."""

from __future__ import annotations

from math import ceil, log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu, softplus
from torch.utils.checkpoint import checkpoint

from ..core import precision, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive
from ..core.tracing import leaf, recording

# x; the gate b h w e; along four directions u and steps b 4 e n, and B and C b 4 s n
Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

# Positions of which all states are held at a time: enough for a few large operations.
CHUNK = 64
# Doublings of a scan whose length is not known: 2 to the power of it is the largest length.
DOUBLINGS = 20
STEPS = 0.001, 0.1  # the range of the first steps


class SelectiveScan(Attention):
    r"""Scans the image in four directions, with a state whose decay and input depend on x.

    .. math::
        h_t = e^{\Delta_t A} h_{t-1} + \Delta_t u_t B_t, \quad
        o_t = C_t^\top h_t + S u_t, \quad
        y = W_o \big(\operatorname{LN}\big(\textstyle\sum_k o^{(k)}\big) \odot \delta(z)\big)

    for :math:`u = \delta(\operatorname{DWConv}(W_x x))`, :math:`z = W_z x`, SiLU :math:`\delta`,
    and :math:`\Delta, B, C` linear in u, :math:`\Delta` followed by softplus; along rows, along
    columns, and both backwards; section 4 and equations 3 to 6 of the paper. This is attention with
    a map that is implicit: :math:`a_{ts} = C_t^\top e^{(\Delta_{s+1} + \dots + \Delta_t) A}
    \Delta_s B_s` for s up to t. It is built only if its tap is watched.

    In half precision, the scan is computed in single precision. Compiled and exported code scans up
    to :math:`2^{20}` positions.

    Args:
        channels: :math:`C`.
        state_dim: Numbers in the state of a channel.
        expansion: Channels that are scanned, for each of x.
        rank: Channels that the steps :math:`\Delta` are computed from; a sixteenth of ``channels``
            by default.
        kernel_size: Side of the depthwise convolution, odd.
        conv_bias: Give the convolution a bias.
        bias: Give :math:`W_x`, :math:`W_z` and :math:`W_o` biases.
        gate: Multiply by :math:`\delta(z)`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b 4 e n n`` for four directions, each in its own order, and e scanned
        channels; y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, or no channel would be scanned.

    >>> SelectiveScan(16)(torch.randn(2, 16, 9, 7)).shape
    torch.Size([2, 16, 9, 7])
    """

    card = Card(
        title="2D selective scan",
        paper="VMamba: Visual State Space Model",
        authors=(
            "Yue Liu, Yunjie Tian, Yuzhong Zhao, Hongtian Yu, Lingxi Xie, Yaowei Wang, Qixiang Ye, "
            "Jianbin Jiao, Yunfan Liu"
        ),
        venue="NeurIPS",
        year=2024,
        url="https://arxiv.org/abs/2401.10166",
        code="https://github.com/MzeroMiko/VMamba",
        license="MIT",
        domain="spatial",
        computes="conv+fc",
        applies="matmul",
        kind="relation",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ss2d", "vmamba", "cross_scan", "selective_scan_2d"),
        differs=(
            "The input of the state is multiplied by its step, as in the authors' code, not "
            "integrated over it as its decay is.",
            "The published networks have no gate, a state of one number and no expansion "
            "(gate=False, state_dim=1, expansion=1.0); their class has the defaults here.",
        ),
    )
    axes = Axes("b c h w", "b 4 e n n")

    def __init__(
        self,
        channels: int,
        *,
        state_dim: int = 16,
        expansion: float = 2.0,
        rank: int | None = None,
        kernel_size: int = 3,
        conv_bias: bool = True,
        bias: bool = False,
        gate: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels, state_dim=state_dim)
        odd(kernel_size=kernel_size)
        rank = ceil(channels / 16) if rank is None else rank
        positive(rank=rank)
        width = int(expansion * channels)
        if width < 1:
            raise ValueError(f"expansion leaves none of {channels} channels, got {expansion}")
        super().__init__(c=channels, e=width)
        self.sizes, self.gate = [rank, state_dim, state_dim], gate
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.project = nn.Linear(channels, width * (1 + gate), bias, **factory)
        self.local = nn.Conv2d(
            width,
            width,
            kernel_size,
            padding=kernel_size // 2,
            groups=width,
            bias=conv_bias,
            **factory,
        )
        self.select = nn.Parameter(torch.empty(4, sum(self.sizes), width, **factory))
        self.step = nn.Parameter(torch.empty(4, width, rank, **factory))
        self.step_bias = nn.Parameter(torch.empty(4, width, **factory))
        self.log_decay = nn.Parameter(torch.empty(4, width, state_dim, **factory))
        self.skip = nn.Parameter(torch.empty(4, width, **factory))
        self.norm = nn.LayerNorm(width, **factory)
        self.out = nn.Linear(width, channels, bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the decays are 1, 2, … and the first steps are small."""
        super().reset_parameters()
        nn.init.kaiming_uniform_(self.select.flatten(0, 1), a=5**0.5)
        bound = self.step.shape[2] ** -0.5
        nn.init.uniform_(self.step, -bound, bound)
        with torch.no_grad():
            steps = torch.empty_like(self.step_bias).uniform_(*map(log, STEPS)).exp().clamp(1e-4)
            self.step_bias.copy_(steps + (-(-steps).expm1()).log())  # softplus inverted
            rates = torch.arange(1, self.sizes[1] + 1, device=steps.device, dtype=steps.dtype)
            self.log_decay.copy_(rates.log().expand_as(self.log_decay))
        nn.init.ones_(self.skip)

    def prepare(self, x: Tensor) -> Prepared:
        image = self.project(x.permute(0, 2, 3, 1))  # b h w e
        u, z = image.chunk(2, 3) if self.gate else (image, image)
        u = silu(self.local(u.permute(0, 3, 1, 2)))
        u = _directions(u)
        selected = torch.einsum("bken,kce->bkcn", u, self.select)
        rank, enter, leave = selected.split(self.sizes, 2)
        steps = torch.einsum("bkcn,kec->bken", rank, self.step) + self.step_bias.unsqueeze(-1)
        return x, z, u, softplus(precision.widen(steps)), enter, leave

    def attention(self, z: Prepared) -> Tensor:
        _, _, u, steps, enter, leave = z
        a = _weights(steps, self.decay(), enter, leave)
        return (a + torch.diag_embed(self.skip.unsqueeze(-1).expand_as(u))).to(u.dtype)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        u = z[2]
        return self.join((a @ u.unsqueeze(-1)).squeeze(-1), z)

    def fused(self, z: Prepared) -> Tensor:
        _, _, u, steps, enter, leave = z
        y = _scan(u, steps, self.decay(), enter, leave)
        return self.join(y + self.skip.unsqueeze(-1) * u, z)

    def decay(self) -> Tensor:
        """Return A, which is negative, ``4 e s``."""
        return -precision.widen(self.log_decay).exp()

    def join(self, y: Tensor, z: Prepared) -> Tensor:
        """Add the four directions ``b 4 e n``, and project."""
        x, gate, *_ = z
        y = self.norm(_merged(y, x))  # b h w e
        y = self.out(y * silu(gate) if self.gate else y)
        return tokens.laid_out_like(y.permute(0, 3, 1, 2), x)


@leaf
def _directions(u: Tensor) -> Tensor:
    """Return the positions along rows, along columns, and both backwards, ``b 4 e n``."""
    both = torch.stack([u.flatten(2), u.transpose(2, 3).flatten(2)], 1)
    return torch.cat([both, both.flip(-1)], 1)


@leaf
def _merged(y: Tensor, x: Tensor) -> Tensor:
    """Add the four directions in the order of the image, ``b h w e``."""
    rows, columns, rows_back, columns_back = y.unbind(1)
    h, w = x.shape[2:]
    rows = (rows + rows_back.flip(-1)).unflatten(2, (h, w))
    columns = (columns + columns_back.flip(-1)).unflatten(2, (w, h))
    return rows.permute(0, 2, 3, 1) + columns.permute(0, 3, 2, 1)


@leaf
def _weights(steps: Tensor, decay: Tensor, enter: Tensor, leave: Tensor) -> Tensor:
    """Return the map ``b 4 e n n`` of a scan, without what skips the state."""
    time = steps.cumsum(-1)  # b 4 e n
    passed = time.unsqueeze(-1) - time.unsqueeze(-2)
    before = torch.ones(passed.shape[-2:], dtype=torch.bool, device=steps.device).tril()
    passed = passed.masked_fill(~before, 0.0)
    a = torch.zeros_like(passed)
    for s in range(decay.shape[2]):
        held = (passed * decay[:, :, s, None, None]).exp()
        a = a + held * leave[:, :, s, None, :, None] * enter[:, :, s, None, None]
    return (a * steps.unsqueeze(-2)).masked_fill(~before, 0.0)


@leaf
def _scan(u: Tensor, steps: Tensor, decay: Tensor, enter: Tensor, leave: Tensor) -> Tensor:
    """Return what the state gives at each position, ``b 4 e n``, some positions at a time."""
    wide = [precision.widen(t) for t in (u, steps, enter, leave)]
    state = torch.zeros((*u.shape[:3], decay.shape[2]), device=u.device, dtype=decay.dtype)
    # Compiled code must work for every size: no loop over as many chunks as there are.
    if recording():
        return _chunk(state, decay, *wide, doublings=DOUBLINGS)[0].to(u.dtype)
    if u.is_meta:  # where costs are counted, which are those of all chunks together
        return _chunk(state, decay, *wide, doublings=(CHUNK - 1).bit_length())[0].to(u.dtype)
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (*wide, decay))
    parts = []
    for start in range(0, u.shape[3], CHUNK):
        chunk = [t[..., start : start + CHUNK] for t in wide]
        doublings = max(chunk[0].shape[3] - 1, 0).bit_length()
        if learns and u.shape[3] > CHUNK:
            part, state = checkpoint(
                _chunk, state, decay, *chunk, doublings=doublings, use_reentrant=False
            )
        else:
            part, state = _chunk(state, decay, *chunk, doublings=doublings)
        parts.append(part)
    return torch.cat(parts, -1).to(u.dtype)


def _chunk(
    state: Tensor,
    decay: Tensor,
    u: Tensor,
    steps: Tensor,
    enter: Tensor,
    leave: Tensor,
    *,
    doublings: int,
) -> tuple[Tensor, Tensor]:
    """Scan positions from a state ``b 4 e s``: what it gives, and the last state.

    Each doubling joins the states of spans of positions with those of the spans before them. The
    decays are below one, so that no product of them overflows.
    """
    keep = (steps.unsqueeze(3) * decay.unsqueeze(-1)).exp()  # b 4 e s n
    states = (steps * u).unsqueeze(3) * enter.unsqueeze(2)
    n = u.shape[3]
    for i in range(doublings):
        earlier = pad(states, (2**i, 0))[..., :n]
        states = states + keep * earlier
        keep = keep * pad(keep, (2**i, 0), value=1.0)[..., :n]
    states = states + keep * state.unsqueeze(-1)
    return (states * leave.unsqueeze(2)).sum(3), states[..., -1]
