"""`compare`: every variant in every seed, shared out between processes, written down at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Literal

from ..core.attention import Mechanism
from ..core.check import above_zero, one_of, positive, probability
from .data import load
from .results import Comparison
from .runs import Runs, accelerators, steady
from .training import Recipe, check_optimizer
from .variants import build, check_backbone, control_of, parse

LIBRARIES = (
    *("accelerate", "timm", "torchvision", "torchmetrics", "scipy", "sklearn", "plotly"),
    "matplotlib",
)


def compare(
    attention: str | type[Mechanism] | Sequence[str | type[Mechanism]] = ("none", "se", "eca"),
    *,
    backbone: str = "resnet18",
    data: str = "digits",
    epochs: int = 5,
    seeds: int = 3,
    at: str = "residual",
    start: Literal["identity", "paper"] = "paper",
    control: bool = True,
    out: str | Path = "runs/compare",
    size: int | None = None,
    train_samples: int | None = None,
    batch_size: int = 32,
    optimizer: str = "adamw",
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    smoothing: float = 0.0,
    shift: float = 0.125,
    flip: bool = False,
    precision: str | None = None,
    device: str | None = None,
    threads: int = 1,
    workers: int | None = None,
    data_root: str | Path = "data",
    quiet: bool = False,
) -> Comparison:
    """Train one backbone with several attentions, alike in all else, and say what each gains.

    All variants of a seed begin with the same backbone weights and see the same batches. A run
    that is over is in ``out/results.jsonl``; the same call goes on where it was interrupted, and a
    call with more attentions or seeds runs only what is missing. Started by ``torchrun`` or
    ``accelerate launch``, the processes share out the runs.

    Args:
        attention: Names, with options in brackets: ``"se,cbam(reduction=4)"``, or a sequence, in
            which classes of your own may stand too; runs are kept by name. The
            baseline, ``none``, is always among them.
        backbone: A model of timm, or of torchvision: ``torchvision/resnet18``. It is not
            pretrained.
        data: ``digits``, ``folder:/path`` or ``torchvision:CIFAR10``.
        epochs: How often each training image is seen.
        seeds: How many; more of them tell smaller differences from chance.
        at: Where attention goes, as for `regard.insert`.
        start: What a new attention computes: ``paper`` its own initialization, ``identity`` its
            input.
        control: Also train the backbone with as many parameters more as the largest attention
            has, but without attention.
        out: The folder for ledger, weights and report.
        size: Height and width of the images; by default 32 for the digits, else the shorter side of
            the first image, 224 at most.
        train_samples: Use only so many training images.
        batch_size: Images for one step.
        optimizer: Any of timm.
        lr: The highest learning rate.
        weight_decay: Decay of the weights, not of biases and norms.
        warmup: Share of the steps in which the rate rises; then it falls to zero as a cosine.
        smoothing: Label smoothing.
        shift: Move each image by up to this share of its side.
        flip: Mirror half of the images. Digits would become other signs.
        precision: ``no``, ``bf16`` or ``fp16``; by default what accelerate was set to.
        device: ``cpu``, ``cuda``, …; by default what accelerate finds.
        threads: CPU threads of each run. Sums depend on it in their last digits; one thread, and as
            many processes as there are cores, is fastest and gives the same numbers anywhere.
        workers: Processes that read images from the disk.
        data_root: Where torchvision's data sets are, or go.
        quiet: Show no progress.

    Returns:
        The table, the runs, and where the report is.

    Raises:
        ValueError: something cannot be meant; or ``out`` holds runs of another recipe.
        ImportError: a library is missing that the extra ``compare`` brings.
    """
    variants = parse(attention)
    positive(epochs=epochs, seeds=seeds, batch_size=batch_size, threads=threads)
    above_zero(lr=lr)
    probability(warmup=warmup, smoothing=smoothing, shift=shift)
    one_of((None, "no", "bf16", "fp16"), precision=precision)
    check_libraries()
    check_backbone(backbone)
    check_optimizer(optimizer)
    with accelerators(device, precision) as accelerate, steady(threads):
        state = accelerate()
        with state.main_process_first():  # who may have to download
            pictures = load(
                data,
                size=size,
                channels=3 if backbone.startswith("torchvision/") else None,
                train_samples=train_samples,
                workers=workers,
                root=data_root,
            )
        recipe = Recipe(
            backbone=backbone,
            at=at,
            start=start,
            data=data,
            checksum=pictures.checksum,
            size=pictures.shape[-1],
            channels=pictures.shape[0],
            classes=len(pictures.classes),
            train=len(pictures.train),
            validation=len(pictures.validation),
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            warmup=warmup,
            smoothing=smoothing,
            shift=shift,
            flip=flip,
            precision=state.mixed_precision,
            device=state.device.type,
            threads=threads,
        )
        runs = Runs(recipe, pictures, Path(out), accelerate)
        begun = runs.ledger.agree(asdict(recipe))
        models = {variant: build(variant, recipe, seed=0)[0] for variant in variants}
        if control and (extra := control_of(models)):
            models[extra] = build(extra, recipe, seed=0)[0]
        if state.is_main_process:
            if not begun:
                runs.ledger.add("recipe", **asdict(recipe))
            runs.measure(models, state.device)
        variants = list(models)
        del models  # their room is needed
        runs.train(variants, range(seeds), quiet=quiet)
        state.wait_for_everyone()
        comparison = runs.gather(variants, range(seeds))
        if state.is_main_process:
            from .report import write

            write(comparison, runs)
        state.wait_for_everyone()
    return comparison


def check_libraries() -> None:
    """Refuse to begin what would fail for want of a library at the end."""
    for name in LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            raise ImportError(f'compare needs {name}: pip install "regard[compare]"') from None
