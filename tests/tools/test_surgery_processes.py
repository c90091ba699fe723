"""An attended network in several processes: the same gradients as in one, and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import regard
from regard.surgery import insertions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (distributed.is_available() and distributed.is_gloo_available()), reason="no gloo"
    ),
]
# The second has a parameter that never gets a gradient, the third reads tokens in a grid.
MECHANISMS = ("squeeze_excitation", "expectation_maximization", "coordinate")


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(2, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Sequential(Block(16), Block(16))
        self.encode = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x)).flatten(2).transpose(1, 2)
        return self.head(self.encode(x).mean(1))


def attended(mechanism: str) -> nn.Module:
    torch.manual_seed(0)
    options: dict[str, Any] = {"reduction": 4} if mechanism == "squeeze_excitation" else {}
    net, x = Net(), torch.rand(2, 3, 8, 8)
    new = regard.insert(net, mechanism, "body.*", example_input=x, **options)
    new = regard.insert(new, "coordinate", "encode", example_input=x)
    for name, parameter in new.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    for module in new.modules():
        if isinstance(
            module, nn.modules.batchnorm._BatchNorm
        ):  # its statistics differ between the processes
            module.eval()
    return new.double()


def images(rank: int) -> Tensor:
    random = torch.Generator().manual_seed(rank)
    return torch.rand(2, 3, 8, 8, generator=random, dtype=torch.float64)


def loss(net: nn.Module, x: Tensor) -> Tensor:
    return net(x).square().mean()


def under_ddp(mechanism: str, rank: int, folder: str) -> dict[str, Any]:
    net = DistributedDataParallel(attended(mechanism))
    with pytest.raises(ValueError, match="is distributed over processes: insert attention first"):
        regard.insert(net, "simam", "module.body.0")
    for _ in range(2):  # the second step would stop at a gradient that did not come
        net.zero_grad()
        loss(net, images(rank)).backward()
    return {name: p.grad for name, p in net.module.named_parameters() if p.grad is not None}


def under_fsdp(mechanism: str, rank: int, folder: str) -> dict[str, Any]:
    from torch.distributed.fsdp import fully_shard

    net = attended(mechanism)
    for module in net.body:
        fully_shard(module)
    fully_shard(net)
    assert len(insertions(net)) == 3
    with pytest.raises(ValueError, match="is sharded over processes: insert attention first"):
        regard.insert(net, "simam", "body.0")
    for _ in range(2):
        net.zero_grad()
        loss(net, images(rank)).backward()
    grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {name: grad.full_tensor() for name, grad in grads.items()}


def saved_and_loaded(mechanism: str, rank: int, folder: str) -> dict[str, Any]:
    """Save a sharded model and its optimizer, load them into another one, and compare."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.fsdp import fully_shard

    net, other = attended(mechanism), attended(mechanism)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    pairs = []
    for one in (net, other):
        fully_shard(one)
        pairs.append((one, torch.optim.AdamW(one.parameters(), 0.01)))
    loss(net, images(rank)).backward()
    pairs[0][1].step()
    wanted = net(images(rank)).detach()
    model_state, optimizer_state = get_state_dict(*pairs[0])
    assert not any("_attended" in name for name in model_state)
    state = {"model": model_state, "optimizer": optimizer_state}
    checkpoint.save(state, checkpoint_id=f"{folder}/checkpoint")
    model_state, optimizer_state = get_state_dict(*pairs[1])
    state = {"model": model_state, "optimizer": optimizer_state}
    checkpoint.load(state, checkpoint_id=f"{folder}/checkpoint")
    set_state_dict(*pairs[1], model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return {"difference": (other(images(rank)) - wanted).abs().max().detach()}


def work(rank: int, task: Callable[..., dict[str, Any]], mechanism: str, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    try:
        torch.save(task(mechanism, rank, folder), f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


def run(task: Callable[..., dict[str, Any]], mechanism: str, folder: Path) -> list[dict[str, Any]]:
    multiprocessing.spawn(work, (task, mechanism, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("task", [under_ddp, under_fsdp], ids=lambda task: task.__name__)
def test_the_gradients_are_those_of_one_process(task, mechanism, tmp_path):
    results = run(task, mechanism, tmp_path)
    net = attended(mechanism)
    if mechanism == "expectation_maximization":  # its bases move with the batch of each process
        assert results[0].keys() == {n for n, p in net.named_parameters() if p.requires_grad}
        return
    loss(net, torch.cat([images(0), images(1)])).backward()
    for got in results:
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_a_distributed_checkpoint_has_the_names_of_the_state_dict(tmp_path):
    for result in run(saved_and_loaded, "squeeze_excitation", tmp_path):
        assert result["difference"] == 0
