"""Reading every attention map of a model while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.names import glob, listing
from ..core.text import aligned, html_table
from ..core.watching import alone, sharing_copy
from ..surgery.dry_run import DryRun
from .functions import Sighting, Watch
from .fused import Reduction
from .maps import AttentionMap, Query
from .rollout import Heads, rollout
from .taps import mechanisms, tapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Explanation(Mapping[str, AttentionMap]):
    """The attention maps of one run, by key, in the order of the run.

    Attributes:
        maps: The maps.
        image: The input, if it is an image.
        output: What the model returned.
    """

    def __init__(
        self, maps: Mapping[str, AttentionMap], image: Tensor | None = None, output: Any = None
    ) -> None:
        self.maps = dict(maps)
        self.image = image
        self.output = output

    def __getitem__(self, key: str) -> AttentionMap:
        if key not in self.maps:
            raise KeyError(f"no map {key!r}; there are {', '.join(map(repr, self.maps))}")
        return self.maps[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        return f"Explanation of {len(self)} maps\n{self.table()}"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=4)

    def table(self) -> str:
        """Return the maps as text, one line each."""
        return aligned(self._rows(), left=4)

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("path", "mechanism", "axes", "shape", "min", "mean", "max", "entropy")
        rows = []
        for key, one in self.items():
            s = one.summary()
            numbers = (s["min"], s["mean"], s["max"], s["entropy"])
            rows.append(
                (
                    key or "(root)",
                    one.mechanism,
                    one.axes,
                    " × ".join(map(str, s["shape"])),
                    *("" if number is None else f"{number:.3g}" for number in numbers),
                )
            )
        return [head, *rows]

    def to_dict(self) -> dict[str, Any]:
        """Return `AttentionMap.summary` of each map, by key."""
        return {key: one.summary() for key, one in self.items()}

    def gradients(self, score: Tensor) -> dict[str, Tensor]:
        """Return the gradients of a score with respect to the maps, in their order, by key.

        Args:
            score: A number that was computed from `output`, such as ``output[:, 281].sum()``.

        Raises:
            ValueError: the maps have no graph, because they were not read with ``grad=True``.
        """
        kept = {key: one for key, one in self.items() if one.source is not None}
        if len(kept) < len(self):
            raise ValueError("the maps have no gradients: use explain(..., grad=True)")
        sources = [one.source for one in kept.values() if one.source is not None]
        slopes = torch.autograd.grad(
            score, sources, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return {k: one.arrange(g) for (k, one), g in zip(kept.items(), slopes, strict=True)}

    def rollout(self, score: Tensor | None = None, *, heads: Heads = "mean") -> AttentionMap:
        """Return what the last layer's tokens attend to in the image, through all layers.

        Args:
            score: A number computed from `output`, such as ``output[:, 281].sum()``: then maps are
                weighted by its gradients. Without one it is plain attention rollout.
            heads: ``"mean"``, ``"max"`` or ``"min"`` over the heads, without a score.

        See `regard.explanation.rollout.rollout` for the equations, and what each cannot show.

        Raises:
            ValueError: the maps are not all between the same tokens, or have no gradients.
        """
        return rollout(self, None if score is None else self.gradients(score), heads=heads)

    def figure(
        self,
        image: Any = None,
        *,
        query: Query | None = None,
        rows: int = 4,
        columns: int = 5,
        stretch: bool = True,
    ) -> Figure:
        """Draw the maps on the image.

        Args:
            image: As for `regard.explanation.drawing.draw`, as are the other arguments; by default
                the model's input, if that is an image.
            query: The query, for maps between positions.
            rows: Maximum number of images.
            columns: Maximum number of panels side by side.
            stretch: Spread the colors over the values of the map, not over its range.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from .drawing import draw

        pictures = self.image if image is None else image
        options = {"rows": rows, "columns": columns, "stretch": stretch}
        return draw(list(self.values()), pictures, query=query, **options)

    def save(self, path: str | Path, image: Any = None, **options: Any) -> None:
        """Write the maps into a file.

        Args:
            path: ``.npz``: the maps as arrays, by key; ``.html``: a page in which one picks a place
                and sees where it looks, in one file; any other name: a figure, as matplotlib does.
            image: As for `figure`.
            options: Arguments of `figure`; ``title`` and ``rows`` of a page.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: a page has no image.
        """
        path = Path(path)
        if path.suffix == ".npz":
            import numpy as np

            arrays = {
                key or "(root)": one.tensor.detach().cpu().numpy() for key, one in self.items()
            }
            np.savez(path, **arrays)
        elif path.suffix == ".html":
            from .page import page

            shown = self.image if image is None else image
            path.write_text(page(list(self.values()), shown, **options), "utf-8")
        else:
            self.figure(image, **options).savefig(path, bbox_inches="tight")


def explain(
    model: nn.Module,
    *inputs: Any,
    only: str | Sequence[str] | None = None,
    grad: bool = False,
    reduce: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Explanation:
    """Run a model and return all its attention maps: those of mechanisms, and the model's own.

    The maps of a mechanism are what passes its taps. Any other attention is seen in the functions
    that the model calls: `torch.nn.functional.scaled_dot_product_attention`,
    `torch.nn.functional.multi_head_attention_forward`, and each softmax whose result multiplies
    values. Fused functions stay fused; the map is computed beside them.

    A copy of the model that shares its parameters runs once, in evaluation mode and uncompiled.
    Nothing is registered on the model, and its modes, buffers and the random state are not changed.

    Args:
        model: Any module.
        inputs: Positional arguments of the model.
        only: Paths of modules; in a pattern ``*`` stops at dots and ``**`` does not, as in
            `regard.insert`. All attention if None.
        grad: Keep the graph, so that gradients flow through the maps.
        reduce: What is kept of fused attention, so that a map of 10,000 tokens is never whole in
            memory: ``{"heads": "mean"}`` (or ``"max"``) and ``{"query": (row, column)}``, an index
            of a token, or ``"mean"``.
        kwargs: Keyword arguments of the model.

    Returns:
        The maps by path, followed by the name of the part in brackets if a mechanism has several
        maps, and by ``#1`` for the second call.

    Raises:
        ValueError: the model has no attention, or none at such a path, or none that ran; or
            ``reduce`` has something else, or is given with ``grad``.

    >>> import regard
    >>> print(explain(regard.create("cbam", 16), torch.ones(1, 16, 5, 5))["[spatial]"].axes)
    b 1 h w
    >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
    >>> print(explain(layer, torch.ones(1, 7, 16)).table())
    path       mechanism           axes           shape          min    mean   max    entropy
    self_attn  MultiheadAttention  b heads n m    1 × 2 × 7 × 7  0.143  0.143  0.143  1.95
    """
    patterns = {p: glob(p) for p in ([only] if isinstance(only, str) else only or ())}
    found: list[AttentionMap | Sighting] = []
    others: set[str] = set()  # paths of attention that is not wanted
    image = next((x for x in (*inputs, *kwargs.values()) if _is_image(x)), None)
    reduced = Reduction.of(reduce)
    if grad and reduced != Reduction():
        raise ValueError("reduce: a reduced map has no gradient; leave out grad or reduce")

    def wanted(path: str) -> bool:
        if only is None or any(regex.fullmatch(path) for regex in patterns.values()):
            return True
        others.add(path)
        return False

    def watch(run: DryRun) -> Watch:
        return Watch(run, found.append, wanted, reduced, grad=grad)

    aspect = image.shape[2] / image.shape[3] if image is not None else 1.0
    twin = sharing_copy(model)
    with alone(), tapped(twin, found, wanted, aspect=aspect, grad=grad):
        run = DryRun(twin, inputs, kwargs, beside=watch, grad=grad)
    maps = _by_key(found, _batch((*inputs, *kwargs.values())))
    own = mechanisms(model)
    idle = own.keys() - others - {one.path for one in maps.values()}
    if not maps and not others and not idle:
        raise ValueError(
            f"{type(model).__name__} has no attention to explain: no mechanism of regard, no call "
            "of scaled_dot_product_attention or multi_head_attention_forward, and no softmax whose "
            'result multiplies values; regard.insert(model, "cbam") adds some'
        )
    there = dict.fromkeys([*own, *(one.path for one in maps.values()), *others])
    for pattern, regex in patterns.items():
        if not any(regex.fullmatch(path) for path in there):
            raise ValueError(f"no attention at {pattern!r}; there are {listing(there, pattern)}")
    if not maps:
        raise ValueError(f"none of the mechanisms ran: {', '.join(map(repr, sorted(idle)))}")
    shown = image if image is not None and image.shape[1] in (1, 3) else None
    return Explanation(maps, shown, run.result)


def _by_key(found: Sequence[AttentionMap | Sighting], batch: int) -> dict[str, AttentionMap]:
    """Return the maps by their keys, those of functions with named axes."""
    maps: dict[str, AttentionMap] = {}
    calls: Counter[str] = Counter()
    for one in found:
        if isinstance(one, Sighting):
            calls[one.call.name] += 1
            one = _named(one, batch, calls[one.call.name] - 1)
        maps.setdefault(one.key, one)
    return maps


def _named(seen: Sighting, batch: int, call: int) -> AttentionMap:
    """Return a map with named axes and its places in the image."""
    found = seen.canonical(batch)
    given = seen.call.given
    points = None
    if seen.points is not None:
        points = torch.stack([seen.canonical(batch, x).map for x in seen.points.unbind(-1)], -1)
    return AttentionMap(
        path=seen.call.name,
        part="",
        call=call,
        mechanism=type(seen.call.module).__name__,
        axes=found.axes,
        tensor=found.map,
        range="softmax" if seen.adds_up else "real",
        input_shape=given[0].shape if given else (),
        grid=None,
        queries=found.queries,
        keys=found.keys,
        function=seen.function,
        points=points,
        source=seen.source if seen.source.requires_grad else None,
        arrange=lambda x: seen.canonical(batch, x).map,
    )


def _is_image(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() == 4


def _batch(inputs: Sequence[Any]) -> int:
    """Return the number of samples: the first size of the first tensor, or of a list of them."""
    for x in inputs:
        if isinstance(x, Tensor) and x.dim():
            return len(x)
        if isinstance(x, (list, tuple)) and x and isinstance(x[0], Tensor):
            return len(x)
    return 1
