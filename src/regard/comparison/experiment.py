"""`compare`: train every variant with every seed, and record each run as soon as it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Literal

from ..core.attention import Mechanism
from ..core.check import above_zero, one_of, positive, probability
from .attention_panels import Gallery, attention_panels, image_tags
from .data import load
from .report import write_page
from .results import Comparison, attention_rows
from .runs import SHOWN_SEED, Runs, accelerator_factory, deterministic
from .training import Recipe, check_optimizer
from .variants import build, check_backbone, make_control, parse

LIBRARIES = (
    *("accelerate", "timm", "torchvision", "torchmetrics", "scipy", "sklearn", "plotly"),
    "matplotlib",
)
NUM_SAMPLES = 6  # images in the report


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
    """Train one backbone with several attentions under one recipe, and compare their accuracy.

    All variants of a seed start with the same backbone weights and train on the same batches. Each
    finished run is in ``out/results.jsonl``: the same call resumes an interrupted comparison, and a
    call with more attentions or seeds trains only the missing runs. If started by ``torchrun`` or
    ``accelerate launch``, the processes divide the runs among them.

    Args:
        attention: Names with options in brackets, ``"se,cbam(reduction=4)"``, or a sequence, which
            may also include classes of your own; runs are identified by name. The baseline,
            ``none``, is always included.
        backbone: A model of timm, or of torchvision: ``torchvision/resnet18``. It is not
            pretrained.
        data: ``digits``, ``folder:/path`` or ``torchvision:CIFAR10``.
        epochs: Number of epochs.
        seeds: Number of seeds; more seeds detect smaller differences.
        at: Where to insert attention, as in `regard.insert`.
        start: ``paper`` to initialize new attentions as published, ``identity`` to make them return
            their input at first.
        control: Also train the backbone without attention, but with as many additional parameters
            as the largest attention.
        out: Folder of the results log, the weights and the report.
        size: Height and width of the images; by default 32 for the digits, otherwise the shorter
            side of the first image, at most 224.
        train_samples: Number of training images to use; all by default.
        batch_size: Images per batch.
        optimizer: Name of an optimizer of timm.
        lr: Maximum learning rate.
        weight_decay: Weight decay, which does not apply to biases and norms.
        warmup: Fraction of the steps in which the learning rate rises; then it falls to zero along
            a cosine.
        smoothing: Label smoothing.
        shift: Shift each image by up to this fraction of its size.
        flip: Mirror half of the images; not for digits, which have another meaning when mirrored.
        precision: ``no``, ``bf16`` or ``fp16``; by default the setting of accelerate.
        device: ``cpu``, ``cuda``, …; by default the choice of accelerate.
        threads: CPU threads of each run. The last digits of sums depend on them; one thread, and as
            many processes as there are cores, is fastest and yields the same numbers on any number
            of cores.
        workers: Processes that load images from the disk.
        data_root: Folder of torchvision's data sets, to which they are downloaded if missing.
        quiet: Do not show progress.

    Returns:
        The table, the runs, and the path of the report.

    Raises:
        ValueError: an argument is invalid, or ``out`` has runs of another recipe.
        ImportError: a library of the extra ``compare`` is missing.
    """
    variants = parse(attention)
    positive(epochs=epochs, seeds=seeds, batch_size=batch_size, threads=threads)
    above_zero(lr=lr)
    probability(warmup=warmup, smoothing=smoothing, shift=shift)
    one_of((None, "no", "bf16", "fp16"), precision=precision)
    check_libraries()
    check_backbone(backbone)
    check_optimizer(optimizer)
    with (
        accelerator_factory(device, precision) as make_accelerator,
        deterministic(threads),
    ):
        state = make_accelerator()
        with state.main_process_first():  # it may have to download
            images = load(
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
            checksum=images.checksum,
            size=images.shape[-1],
            channels=images.shape[0],
            classes=len(images.classes),
            train=len(images.train),
            validation=len(images.validation),
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
        runs = Runs(recipe, images, Path(out), make_accelerator)
        resumed = runs.log.check_recipe(asdict(recipe))
        models = {variant: build(variant, recipe, seed=0)[0] for variant in variants}
        if control and (extra := make_control(models)):
            models[extra] = build(extra, recipe, seed=0)[0]
        if state.is_main_process:
            if not resumed:
                runs.log.append("recipe", **asdict(recipe))
            runs.measure(models, state.device)
        variants = list(models)
        del models  # to free their memory
        runs.train(variants, range(seeds), quiet=quiet)
        state.wait_for_everyone()
        comparison = runs.gather(variants, range(seeds))
        if state.is_main_process:
            write_page(comparison, make_gallery(comparison, runs))
        state.wait_for_everyone()
    return comparison


def make_gallery(comparison: Comparison, runs: Runs) -> Gallery:
    """Compute the attention maps of the trained models whose weights exist."""
    images, classes = runs.data.sample_validation(NUM_SAMPLES)
    x = runs.data.normalize(images)
    panels = tuple(
        panel
        for row in attention_rows(comparison)
        if (model := runs.load_trained(row.variant)) is not None
        for panel in attention_panels(row.label, model, x, images, classes)
    )
    return Gallery(SHOWN_SEED, tuple(classes), image_tags(images, classes), panels)


def check_libraries() -> None:
    """Raise ImportError if a library is missing that is needed only after the training."""
    for name in LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            raise ImportError(f'compare needs {name}: pip install "regard[compare]"') from None
