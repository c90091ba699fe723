"""``regard explain``: where the attention in a model looks."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from . import insertion, models
from .arguments import AT, START, At, Insert, Json, Network, Options, Start
from .screen import plain_table, screen, show_json, show_text
from .weights import load

if TYPE_CHECKING:
    from torch import Tensor

    from ..explanation import Explanation


class Method(str, Enum):
    """What is shown."""

    maps = "maps"
    rollout = "rollout"


def explain(
    model: Network,
    image: Annotated[Path, typer.Argument(help="An image file.", show_default=False)],
    insert: Insert = None,
    at: At = AT,
    start: Start = START,
    set_: Options = None,
    weights: Annotated[
        Path | None, typer.Option(help="State dict, .safetensors or saved by torch.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Download the weights of the model.")
    ] = False,
    classes: Annotated[int | None, typer.Option(min=1, help="Outputs of the model.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the model's input.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Only these modules; * stops at dots, ** does not."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="Y,X", help="Where it looks from: row,column or parts such as 0.5,0.25; or all."
        ),
    ] = None,
    method: Annotated[
        Method, typer.Option(help="Each map, or all layers' maps multiplied.")
    ] = Method.maps,
    out: Annotated[
        Path | None, typer.Option(help="Write the maps: .html with a picker, .npz, or a picture.")
    ] = None,
    json: Json = False,
) -> None:
    """Show where the attention in a model looks."""
    from ..explanation import Explanation, explain

    change = insertion.requested(insert, at, start, models.options(set_))
    more = {} if classes is None else {"num_classes": classes}
    network = models.network(model, pretrained=pretrained, **more)
    cfg = models.preprocessing(network)
    picture = read(image, size or cfg["input_size"][-1])
    x = normalized(picture, cfg)
    own = network.state_dict().keys()
    if change:
        network = change.into(network, x)
    added = [name for name in network.state_dict() if name not in own]
    untrained = load(network, weights, optional=added) if weights else added
    at_query = place(query)
    found = explain(network, x, only=only or None)
    if method is Method.rollout:
        rolled = found.rollout()
        found = Explanation({rolled.key: rolled}, found.image)
    if out:
        drawn = {} if out.suffix in (".html", ".npz") else {"query": at_query}
        found.save(out, picture, **drawn)
    if json:
        show_json(found.to_dict())
    else:
        show_text(maps_table(found), screen())
        if out:
            typer.echo(f"\ndrawn: {out}")
    if not (weights or pretrained):
        typer.echo("regard: the weights are random; give --weights or --pretrained", err=True)
    elif untrained:
        typer.echo(f"regard: the inserted {insert} is untrained", err=True)


def place(text: str | None) -> tuple[float, ...] | int | Literal["all"] | None:
    """Read a query: an index, a row and a column, parts of height and width, or ``all``.

    >>> place("3,4"), place("0.5,0.25"), place("12"), place("all"), place(None)
    ((3, 4), (0.5, 0.25), 12, 'all', None)
    >>> place("left")
    Traceback (most recent call last):
    ValueError: --query takes row,column such as 3,4 or 0.5,0.25, an index, or all; got "left"
    """
    if text is None or text == "all":
        return text
    try:
        numbers = tuple(float(part) if "." in part else int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 1 and isinstance(numbers[0], int):
        return numbers[0]
    if len(numbers) not in (2, 3):
        raise ValueError(
            f'--query takes row,column such as 3,4 or 0.5,0.25, an index, or all; got "{text}"'
        )
    return numbers


def maps_table(found: Explanation) -> Table:
    """List the maps with their axes, shapes and values, one line each."""
    facts = [one.summary() for one in found.values()]
    numbers = ["min", "mean", "max"]
    numbers += ["entropy"] if any(fact["entropy"] is not None for fact in facts) else []
    table = plain_table("map", "axes", "shape", *numbers, numbers=tuple(numbers))
    for column in table.columns[1:]:
        column.no_wrap = True
    for key, fact in zip(found, facts, strict=True):
        shape = "×".join(map(str, fact["shape"]))
        values = ("" if fact[name] is None else f"{fact[name]:.3g}" for name in numbers)
        table.add_row(Text(key, "cyan", overflow="fold"), fact["axes"], shape, *values)
    return table


def read(path: Path, side: int) -> Tensor:
    """Read the central square of an image file, ``1 3 side side``, from 0 to 1.

    Raises:
        ValueError: the file is not an image.
        ImportError: Pillow is not installed.
    """
    import torch

    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError('images need Pillow: pip install "regard[vision]"') from error
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (UnidentifiedImageError, ModuleNotFoundError):  # a plug-in of Pillow that needs more
        raise ValueError(f"{path} is not an image that can be read") from None
    square = ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    values = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    return values.reshape(1, side, side, 3).movedim(3, 1) / 255


def normalized(picture: Tensor, cfg: dict[str, Any]) -> Tensor:
    """Normalize an image as the model's training data were."""
    mean, std = (picture.new_tensor(cfg[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    return (picture - mean) / std
