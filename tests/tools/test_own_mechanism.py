"""A class with `attention` and `combine` alone works with every verb."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import regard
from regard.comparison.variants import parse


class Mine(regard.Attention):
    def attention(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return a * x


class Rows(regard.SequenceAttention):
    def __init__(self, embed_dim: int) -> None:
        super().__init__(d=embed_dim)
        self.query = nn.Linear(embed_dim, embed_dim)

    def attention(self, z: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor:
        query, key, _ = z
        return (self.query(query) @ key.mT).softmax(-1)

    def combine(self, a: Tensor, z: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return a @ z[2]


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()


def test_it_is_created_by_its_class():
    assert isinstance(regard.create(Mine), Mine)
    assert repr(regard.create(Rows, 6)).startswith("Rows(\n  embed_dim=6")
    with pytest.raises(TypeError, match="expected a name or a Mechanism class, got 123"):
        regard.create(123)  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [Mine, Rows])
def test_it_is_inserted_explained_measured_and_removed(net: nn.Module, cls: type):
    x = torch.randn(2, 3, 9, 8)
    new = regard.insert(net, cls, at="1", example_input=x)
    assert torch.equal(new(x), net(x))
    assert [what.mechanism for what in regard.insertions(new)] == [cls.__name__]
    found = regard.explain(new, x)
    assert len(found) == 1
    assert (
        regard.measure(new, x, latency=False).params > regard.measure(net, x, latency=False).params
    )
    assert torch.equal(regard.remove(new)(x), net(x))


def test_the_axes_of_its_map_are_named_by_their_sizes():
    (one,) = regard.explain(Mine(), torch.randn(2, 3, 9, 8)).values()
    assert one.axes == "b 1 h w" and one.heat().shape == (2, 9, 8)
    (one,) = regard.explain(Rows(6), torch.randn(2, 5, 6)).values()
    assert one.axes == "b n m"


def test_it_is_compared(tmp_path: Path):
    _, mine, se = parse([Mine, "se"])
    assert (mine.label, se.key) == ("Mine", "squeeze_excitation")
    assert mine.key == f"{__name__}.Mine"
    found = regard.compare(
        [Mine, "se"],
        backbone="test_resnet",
        size=16,
        train_samples=20,
        epochs=1,
        seeds=1,
        control=False,
        quiet=True,
        out=tmp_path,
    )
    assert [row.label for row in found.rows] == ["none", "Mine", "se"]
    assert found.paired and found.report.exists()
    with pytest.raises(TypeError, match="expected names or Mechanism classes, got 3"):
        parse([3])  # type: ignore[list-item]
