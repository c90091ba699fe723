"""Several processes that train one model keep one state, made of the batches of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

import regard

COUNTS = (3, 2)  # images in the batch of each process
STEPS = 3
KEPT = 0.9

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="no gloo"
)


def model() -> Any:
    torch.manual_seed(0)
    return regard.create("expectation_maximization", 8, num_bases=5, momentum=KEPT).double()


def batch(rank: int, step: int) -> Tensor:
    random = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(COUNTS[rank], 8, 6, 5, generator=random, dtype=torch.float64)


def work(rank: int, folder: str) -> None:
    """What each process does: a few steps of training, then evaluation."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(COUNTS)
    )
    try:
        module = model()
        module.before.requires_grad_(False)  # it gets no gradient, which DDP would wait for
        spread = DistributedDataParallel(module)
        optimizer = torch.optim.SGD(filter(lambda p: p.requires_grad, spread.parameters()), 0.1)
        seen = [module.bases.clone()]
        for step in range(STEPS):
            optimizer.zero_grad()
            spread(batch(rank, step)).square().mean().backward()
            optimizer.step()
            seen.append(module.bases.clone())
        module.eval()(batch(rank, STEPS))
        seen.append(module.bases.clone())
        torch.save(seen, f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Tensor]]:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, (str(folder),), nprocs=len(COUNTS))
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(COUNTS))]


@pytest.mark.slow
def test_all_processes_keep_the_same_bases(results: list[list[Tensor]]) -> None:
    for ours, theirs in zip(results[0], results[1], strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(results[0][0], results[0][-1]), "they have not moved"


@pytest.mark.slow
def test_the_bases_are_those_of_one_process_with_all_images(
    results: list[list[Tensor]],
) -> None:
    """The mean is over images: the process with more of them has more to say."""
    module = model().train()
    for step in range(STEPS):
        module(torch.cat([batch(rank, step) for rank in range(len(COUNTS))]))
        torch.testing.assert_close(results[0][step + 1], module.bases, rtol=1e-12, atol=0)


def test_a_step_moves_the_bases_toward_the_mean_of_all_images() -> None:
    module = model()
    module.return_bases = True
    x = torch.cat([batch(0, 0), batch(1, 0)])
    before, own = module.bases.clone(), module.eval()(x)[1]
    module.train()(x)
    want = KEPT * before + (1 - KEPT) * own.mean(0)
    torch.testing.assert_close(module.bases, want, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_evaluation_leaves_the_bases_alone(results: list[list[Tensor]]) -> None:
    for seen in results:
        assert torch.equal(seen[-1], seen[-2])


def test_evaluation_has_no_trace_of_the_moving(tmp_path: Path) -> None:
    """Exported in evaluation mode, among processes or not, the graph neither talks nor writes."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        program = torch.export.export(model().eval(), (batch(0, 0),))
    finally:
        distributed.destroy_process_group()
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [name for name in called if "reduce" in name or "lerp" in name or "copy_" in name]
    assert not program.graph_signature.buffers_to_mutate
