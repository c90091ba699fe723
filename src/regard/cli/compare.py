"""``regard compare``: train a backbone with several attentions, and compare accuracy and cost."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from .arguments import AT, At, Json
from .screen import show_json

RECIPE = "The recipe"
MACHINE = "The machine"


def compare(
    attention: Annotated[
        str, typer.Option(help="Names with options in brackets: none,se,cbam(reduction=4).")
    ] = "none,se,eca",
    backbone: Annotated[
        str, typer.Option(help="A model of timm, or torchvision/resnet18; not pretrained.")
    ] = "resnet18",
    data: Annotated[
        str, typer.Option(help="digits, folder:/path/to/images or torchvision:CIFAR10.")
    ] = "digits",
    epochs: Annotated[int, typer.Option(help="Number of epochs.")] = 5,
    seeds: Annotated[
        int, typer.Option(help="Number of seeds; more detect smaller differences.")
    ] = 3,
    out: Annotated[
        Path, typer.Option(help="Folder of results and report; the same command resumes there.")
    ] = Path("runs/compare"),
    at: At = AT,
    start: Annotated[
        str, typer.Option(help="paper: as published; identity: changes nothing until trained.")
    ] = "paper",
    control: Annotated[
        bool, typer.Option(help="Also train as many parameters without attention.")
    ] = True,
    size: Annotated[
        int | None,
        typer.Option(help="Side of images: 32 for digits, else that of the first, at most 224."),
    ] = None,
    train_samples: Annotated[
        int | None, typer.Option(help="Number of training images to use; default: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch.", rich_help_panel=RECIPE)] = 32,
    optimizer: Annotated[
        str, typer.Option(help="Name of an optimizer of timm.", rich_help_panel=RECIPE)
    ] = "adamw",
    lr: Annotated[
        float, typer.Option(help="Maximum learning rate.", rich_help_panel=RECIPE)
    ] = 1e-3,
    weight_decay: Annotated[
        float,
        typer.Option(help="Weight decay, except for biases and norms.", rich_help_panel=RECIPE),
    ] = 0.05,
    warmup: Annotated[
        float,
        typer.Option(
            help="Fraction of the steps in which the learning rate rises.", rich_help_panel=RECIPE
        ),
    ] = 0.1,
    smoothing: Annotated[
        float, typer.Option(help="Label smoothing.", rich_help_panel=RECIPE)
    ] = 0.0,
    shift: Annotated[
        float,
        typer.Option(
            help="Shift images by up to this fraction of their size.", rich_help_panel=RECIPE
        ),
    ] = 0.125,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror half of the images.", rich_help_panel=RECIPE)
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="no, bf16 or fp16.", rich_help_panel=MACHINE)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, …", rich_help_panel=MACHINE)
    ] = None,
    processes: Annotated[
        int, typer.Option(help="Number of processes that divide the runs.", rich_help_panel=MACHINE)
    ] = 1,
    threads: Annotated[
        int, typer.Option(help="CPU threads of each run.", rich_help_panel=MACHINE)
    ] = 1,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images.", rich_help_panel=MACHINE)
    ] = None,
    data_root: Annotated[
        Path, typer.Option(help="Folder of torchvision's data sets.", rich_help_panel=MACHINE)
    ] = Path("data"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show progress.")] = False,
    json: Json = False,
) -> None:
    """Train one backbone with several attentions under one recipe, and compare them.

    If it is interrupted, the same command resumes it.
    """
    if processes != 1 and "LOCAL_RANK" not in os.environ:
        launch_processes(processes, threads)
        return
    from ..comparison import compare

    comparison = compare(
        attention,
        backbone=backbone,
        data=data,
        epochs=epochs,
        seeds=seeds,
        out=out,
        at=at,
        start=cast(Literal["identity", "paper"], start),
        control=control,
        size=size,
        train_samples=train_samples,
        batch_size=batch_size,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        warmup=warmup,
        smoothing=smoothing,
        shift=shift,
        flip=flip,
        precision=precision,
        device=device,
        threads=threads,
        workers=workers,
        data_root=data_root,
        quiet=quiet,
    )
    if os.environ.get("RANK", "0") != "0":  # only the first process prints
        return
    if json:
        show_json(comparison.to_dict())
        return
    typer.echo(comparison.table())
    typer.echo(f"\nreport: {comparison.report.resolve()}")


def launch_processes(processes: int, threads: int) -> None:
    """Start this command in several processes, which accelerate connects."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    from ..core.check import positive

    positive(processes=processes, threads=threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        main(["--standalone", f"--nproc-per-node={processes}", "-m", "regard", *sys.argv[1:]])
    except ChildFailedError as error:  # the process has printed the reason
        raise typer.Exit(next(iter(error.failures.values())).exitcode) from None
