"""What is done to a model of each library, step by step, and the table of it in docs/hosts.md."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pictures import (
    awake,
    distance,
    folder,
    gates,
    images,
    same_old_entries,
    settled,
    tensors,
)
from torch import Tensor, nn

import regard
from regard.surgery import insertions, recipe

STEPS = {
    "insert": "the old entries and the output are what they were, and the gates open",
    "train": "the library's own training, or a loop: all insertions are there and learn",
    "resume": "from a checkpoint in the middle: the same insertions, trained on",
    "save": "in the library's own form, or with regard.save",
    "reload": "in a fresh process or model: the output of the attended model",
    "fuse": "norms folded into convolutions: the output of the attended model, within 1e-5",
    "export": "ONNX in onnxruntime, or TorchScript: the output of the attended model",
    "explain": "a map of each insertion",
    "measure": "its parameters are those that were inserted",
}
NONE = "–"


class Journey:
    """A model, and the steps that its library offers.

    A step raises if it does not hold. Each uses what the one before left.

    Attributes:
        library: The name of its package.
        name: The name of the model.
        without: Steps that there are none of, and why.
        slow: Whether it is left to `make test-all`.
    """

    library: str
    without: dict[str, str] = {}  # noqa: RUF012  # never changed

    def __init__(self, name: str, *, slow: bool = True) -> None:
        self.name, self.slow = name, slow
        self.number = 0
        self.plain: nn.Module
        self.net: nn.Module
        self.folder = Path()

    def run(self, root: Path) -> dict[str, str]:
        """Do all steps, and return what the table says of each."""
        self.folder = root
        torch.manual_seed(0)
        cells = {}
        for step in STEPS:
            if step in self.without:
                cells[step] = NONE
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                getattr(self, step)()
            cells[step] = "✓"
        cells["insert"] = str(self.number)
        return cells

    # What a library does in its own way.

    def make(self) -> nn.Module:
        raise NotImplementedError

    def inputs(self, number: int = 2) -> tuple[Any, ...]:
        return (images(number),)

    def answers(self, net: nn.Module, *inputs: Any) -> Any:
        return net(*inputs)

    def loss(self, net: nn.Module) -> Tensor:
        found = self.answers(net, *self.inputs())
        found = list(found.values()) if isinstance(found, dict) else found
        found = found if isinstance(found, (list, tuple)) else [found]
        return torch.stack([y.square().mean() for y in found]).sum()

    def into(self, net: nn.Module, start: str = "identity") -> nn.Module:
        options: dict[str, Any] = {"start": start, "skip": "unfit", "reduction": 4}
        return regard.insert(net, "cbam", example_input=self.inputs(), **options)

    # The steps.

    def insert(self) -> None:
        self.plain = settled(self.make().eval(), *self.inputs(4))
        self.net = self.into(self.plain).eval()
        self.number = len(insertions(self.net))
        x = self.inputs()
        assert self.number > 1 and same_old_entries(self.net, self.plain)
        bare = self.answers(self.plain, *x)
        assert distance(self.answers(self.net, *x), bare) == 0
        opened = awake(copy.deepcopy(self.net))
        assert distance(self.answers(opened, *x), bare) > 1e-5

    def learn(self, net: nn.Module, optimizer: Any, steps: int) -> None:
        net.train()
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss(net).backward()
            optimizer.step()
        net.eval()

    def train(self) -> None:
        before = gates(self.net)
        optimizer = torch.optim.AdamW(regard.parameter_groups(self.net, 1e-3))
        self.learn(self.net, optimizer, 2)
        state = {"model": self.net.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, self.folder / "state.pt")
        self.optimizer = optimizer
        self.has_learned(before)

    def has_learned(self, before: list[Tensor]) -> None:
        moved = [not torch.equal(a, b) for a, b in zip(gates(self.net), before, strict=True)]
        assert len(insertions(self.net)) == self.number and sum(moved) > len(moved) / 2

    def resume(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        again = recipe(self.net).apply(self.make())
        again.load_state_dict(state["model"])
        optimizer = torch.optim.AdamW(regard.parameter_groups(again, 1e-3))
        optimizer.load_state_dict(state["optimizer"])
        torch.manual_seed(1)
        self.learn(again, optimizer, 1)
        torch.manual_seed(1)
        self.learn(self.net, self.optimizer, 1)
        assert recipe(again) == recipe(self.net)
        assert distance(gates(again), gates(self.net)) < 1e-5

    def save(self) -> None:
        regard.save(self.net, self.folder / "net.safetensors")

    def load(self) -> nn.Module:
        return regard.load(self.make(), self.folder / "net.safetensors")

    def reload(self) -> None:
        loaded, x = self.load().eval(), self.inputs()
        assert recipe(loaded) == recipe(self.net)
        assert distance(self.answers(loaded, *x), self.answers(self.net, *x)) < 1e-6

    def fuse(self) -> None:
        from torch.fx.experimental.optimization import fuse

        net, x = awake(copy.deepcopy(self.net)), self.inputs()
        wanted = self.answers(net, *x)
        fused = fuse(net)
        left = sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
        assert left < sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        assert distance(self.answers(fused, *x), wanted) < 1e-5
        assert distance(wanted, self.answers(self.plain, *x)) > 1e-4

    def export(self) -> None:
        import onnxruntime

        net, x = Answers(self, awake(copy.deepcopy(self.net))), self.inputs(1)
        wanted, buffer = net(*x), io.BytesIO()
        torch.onnx.export(net, x, buffer, dynamo=False, opset_version=18)
        session = onnxruntime.InferenceSession(buffer.getvalue())
        names = [one.name for one in session.get_inputs()]
        got = session.run(None, {n: v.numpy() for n, v in zip(names, x, strict=True)})
        assert distance([torch.tensor(y) for y in got], wanted) < 1e-4
        assert distance(wanted, Answers(self, self.plain)(*x)) > 1e-4

    def explain(self) -> None:
        found = regard.explain(self.net, *self.inputs()).values()
        assert len({one.path for one in found if not one.function}) == self.number

    def measure(self) -> None:
        counts = [
            regard.measure(net, *self.inputs(1), latency=False, depth=0).params
            for net in (self.plain, self.net)
        ]
        assert counts[1] - counts[0] == sum(
            p.numel() for p in regard.attention_parameters(self.net)
        )


class Answers(nn.Module):
    """A model that returns the tensors that matter alone."""

    def __init__(self, journey: Journey, net: nn.Module) -> None:
        super().__init__()
        self.net, self.journey = net, journey

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        found = self.journey.answers(self.net, *inputs)
        found = list(found.values()) if isinstance(found, dict) else found
        return list(found) if isinstance(found, (list, tuple)) else [found]


class Timm(Journey):
    library = "timm"

    def __init__(self, name: str, *, slow: bool = True, **options: Any) -> None:
        super().__init__(name, slow=slow)
        self.options = {"num_classes": 3, **options}
        if name.startswith("vit"):
            self.without = {"fuse": "it has no batch norms"}

    def make(self) -> nn.Module:
        import timm

        return timm.create_model(self.name, **self.options)

    def save(self) -> None:
        from regard.hosts import timm as host

        options = {n: v for n, v in self.options.items() if n != "num_classes"}
        host.save_for_hf(self.net, self.folder / "hub", model_args=options)

    def load(self) -> nn.Module:
        from regard.hosts import timm as host

        return host.create_model(f"local-dir:{self.folder / 'hub'}")


class Smp(Journey):
    library = "segmentation-models-pytorch"

    def __init__(self, name: str, *, slow: bool = True) -> None:
        super().__init__(name, slow=slow)
        self.without = {} if name == "Unet" else {"fuse": "torch.fx does not follow its decoder"}

    def make(self) -> nn.Module:
        import segmentation_models_pytorch as smp

        return smp.create_model(self.name, "resnet18", encoder_weights=None, classes=2)

    def loss(self, net: nn.Module) -> Tensor:
        import segmentation_models_pytorch as smp

        mask = torch.randint(0, 2, (2, 64, 64))
        return smp.losses.DiceLoss("multiclass")(net(*self.inputs()), mask)

    def save(self) -> None:
        from regard.hosts import huggingface_hub as host

        host.register()
        self.net.save_pretrained(self.folder / "hub")  # pyright: ignore[reportCallIssue]

    def load(self) -> nn.Module:
        import segmentation_models_pytorch as smp

        return smp.from_pretrained(self.folder / "hub")


class Torchvision(Journey):
    library = "torchvision"

    def make(self) -> nn.Module:
        from torchvision import models

        return models.get_model(self.name, weights=None, weights_backbone=None, num_classes=3)


class Detector(Journey):
    library = "torchvision"
    without = {  # noqa: RUF012
        "export": "its boxes are as many as there are detections; export the backbone",
    }

    def make(self) -> nn.Module:
        from torchvision import models

        options = {"weights": None, "weights_backbone": None, "num_classes": 3}
        return models.get_model(self.name, **options, min_size=64, max_size=64)

    def inputs(self, number: int = 2) -> tuple[Any, ...]:
        return ([*images(number)],)

    def answers(self, net: Any, *inputs: Any) -> Any:
        return net.backbone(torch.stack(inputs[0]))

    def fuse(self) -> None:
        from torch.fx.experimental.optimization import fuse

        net, x = awake(copy.deepcopy(self.net)), self.inputs()
        wanted = self.answers(net, *x)
        net.backbone.body = fuse(net.backbone.body)  # pyright: ignore
        assert not any(isinstance(m, nn.BatchNorm2d) for m in net.backbone.body.modules())
        assert distance(self.answers(net, *x), wanted) < 1e-5
        assert distance(wanted, self.answers(self.plain, *x)) > 1e-4

    def loss(self, net: nn.Module) -> Tensor:
        boxes = torch.tensor([[8.0, 8.0, 40.0, 48.0]])
        targets = [{"boxes": boxes, "labels": torch.tensor([1])} for _ in range(2)]
        return torch.stack([*net(*self.inputs(), targets).values()]).sum()


class Monai(Journey):
    library = "monai"

    def __init__(self, name: str, make: Callable[[Any], nn.Module], dims: int, **more: Any) -> None:
        super().__init__(name, **more)
        self.maker, self.dims = make, dims
        self.without = {"fuse": "its norms are instance or group norms"}

    def make(self) -> nn.Module:
        import monai.networks.nets as nets

        return self.maker(nets)

    def inputs(self, number: int = 2) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(number)
        return (torch.rand(number, 1, *(32,) * self.dims, generator=generator),)

    def loss(self, net: nn.Module) -> Tensor:
        import monai

        (x,) = self.inputs()
        mask = torch.randint(0, 2, x.shape)
        return monai.losses.DiceLoss(softmax=True, to_onehot_y=True)(net(x), mask)


class Transformers(Journey):
    library = "transformers"

    def __init__(self, name: str, *, slow: bool = True) -> None:
        super().__init__(name, slow=slow)
        if name == "vit":
            self.without = {
                "resume": "Trainer reads the checkpoint of a ViT under other names than it wrote, "
                "also without attention: 8 of 40 entries",
                "fuse": "it has no batch norms",
            }

    def make(self) -> nn.Module:
        from test_transformers import model

        return model(self.name)

    def into(self, net: nn.Module, start: str = "identity") -> nn.Module:
        from regard.hosts import transformers as host

        options: dict[str, Any] = {"example_input": self.inputs(), "skip": "unfit"}
        return host.insert(net, "cbam", start=start, reduction=4, **options)

    def answers(self, net: nn.Module, *inputs: Any) -> Any:
        if isinstance(net, torch.fx.GraphModule):
            return [net(*inputs)["logits"]]
        from test_transformers import answers

        return answers(net(*inputs))

    def train(self) -> None:
        from test_transformers import trainer

        if "For" in type(self.net).__name__ and "ImageClass" not in type(self.net).__name__:
            super().train()  # its labels are boxes or masks
            return
        before = gates(self.net)
        run = trainer(self.net, self.folder / "run", max_steps=4)
        run.train()
        self.net = run.model.eval()
        self.has_learned(before)

    def resume(self) -> None:
        from test_transformers import trainer

        if not (self.folder / "run").exists():
            super().resume()
            return
        # Without another step it is the model of the checkpoint, and then it trains on.
        for steps in (4, 5):
            run = trainer(self.into(self.plain), self.folder / "run", max_steps=steps)
            run.train(resume_from_checkpoint=str(self.folder / "run" / "checkpoint-4"))
            assert run.state.global_step == steps and len(insertions(run.model)) == self.number
            same = map(torch.equal, run.model.state_dict().values(), self.net.state_dict().values())
            assert all(same) == (steps == 4)

    def save(self) -> None:
        self.net.save_pretrained(self.folder / "hub")  # pyright: ignore[reportCallIssue]

    def load(self) -> nn.Module:
        from regard.hosts import transformers as host

        return host.from_pretrained(str(self.folder / "hub"))

    def fuse(self) -> None:
        """Its configuration keeps torch.fx out, so that each norm is folded by name."""
        net, x = awake(copy.deepcopy(self.net)), self.inputs()
        wanted = self.answers(net, *x)
        names = (("convolution", "normalization"), ("conv", "norm"), ("linear_fuse", "batch_norm"))
        folded = 0
        for module in net.modules():
            for conv, norm in names:
                pair = module._modules.get(conv), module._modules.get(norm)
                if isinstance(pair[0], nn.Conv2d) and isinstance(pair[1], nn.BatchNorm2d):
                    setattr(module, conv, nn.utils.fuse_conv_bn_eval(*pair))
                    setattr(module, norm, nn.Identity())
                    folded += 1
        assert folded and distance(self.answers(net, *x), wanted) < 1e-5
        assert distance(wanted, self.answers(self.plain, *x)) > 1e-4


class Lightning(Journey):
    library = "lightning"

    def make(self) -> nn.Module:
        from test_lightning import Classifier

        return Classifier().model

    def train(self) -> None:
        from test_lightning import Classifier, fit

        before = gates(self.net)
        self.module = Classifier()
        self.module.model = self.net
        fit(self.module, self.folder, 1, mechanism="cbam")
        self.net = self.module.model.eval()
        self.has_learned(before)

    def resume(self) -> None:
        from test_lightning import Classifier, fit

        (saved,) = self.folder.glob("epoch=0*.ckpt")
        again = Classifier()
        trainer = fit(again, self.folder, 2, resume=saved)
        assert trainer.current_epoch == 2 and recipe(again.model) == recipe(self.net)

    def save(self) -> None:
        assert next(self.folder.glob("epoch=0*.ckpt")).stat().st_size

    def load(self) -> nn.Module:
        from test_lightning import Classifier

        from regard.hosts import lightning as host

        (saved,) = self.folder.glob("epoch=0*.ckpt")
        return host.load_from_checkpoint(Classifier, saved).model


RELOAD = """
import sys, torch
from ultralytics import YOLO
found = YOLO(sys.argv[1])
assert "regard.hosts.ultralytics" in sys.modules
from regard.surgery import insertions
x, options = torch.load(sys.argv[2])
y = found.model.eval()(x)
while not isinstance(y, torch.Tensor):
    y = y[0]
torch.save(y, sys.argv[3])
number = len(insertions(found.model))
found.train(**options, name="again")
assert len(insertions(found.model)) == number, "trained on without the attention"
print(number)
"""


class Ultralytics(Journey):
    """Its own calls do all steps, on eight pictures."""

    library = "ultralytics"

    def __init__(self, name: str, task: str, *, slow: bool = True) -> None:
        super().__init__(name, slow=slow)
        self.task = task

    def make(self) -> Any:
        import ultralytics

        cls = ultralytics.RTDETR if self.name.startswith("rtdetr") else ultralytics.YOLO
        return cls(f"{self.name}.yaml")

    def answers(self, net: nn.Module, *inputs: Any) -> Any:
        return tensors(net(*inputs))[0]

    @property
    def options(self) -> dict[str, Any]:
        plain = {"imgsz": 64, "batch": 4, "workers": 0, "plots": False, "device": "cpu"}
        data = folder(self.folder / "data", self.task)
        return {**plain, "verbose": False, "data": data, "project": str(self.folder)}

    def insert(self) -> None:
        from regard.hosts import ultralytics as host

        self.yolo = self.make()
        self.plain = settled(self.yolo.model, *self.inputs(4)).eval()
        host.insert(self.yolo, "cbam", skip="unfit", reduction=2)
        self.net = self.yolo.model.eval()
        self.number, x = len(insertions(self.net)), self.inputs()
        assert self.number > 4 and same_old_entries(self.net, self.plain)
        bare = self.answers(self.plain, *x)
        assert distance(self.answers(self.net, *x), bare) == 0
        assert distance(self.answers(awake(copy.deepcopy(self.net)), *x), bare) > 1e-5

    def train(self) -> None:
        before, seen = gates(self.net), []
        self.yolo.add_callback("on_train_batch_end", lambda t: seen.append(insertions(t.model)))
        more = {"epochs": 2, "nbs": 4, "save_period": 1, "warmup_epochs": 0, "name": "first"}
        self.yolo.train(**more, **self.options)
        assert {len(found) for found in seen} == {self.number} == {len(insertions(self.yolo.model))}
        self.last = str(self.folder / "first" / "weights" / "last.pt")
        trained = gates(type(self.yolo)(self.last).model)
        halves = [(a.half(), b.half()) for a, b in zip(trained, before, strict=True)]
        assert sum(not torch.equal(a, b) for a, b in halves) > len(halves) / 2
        self.yolo.val(**self.options)
        picture = next((self.folder / "data").rglob("*.png"))
        self.yolo.predict(str(picture), imgsz=64, device="cpu", verbose=False)
        assert len(insertions(self.yolo.predictor.model.model)) == self.number

    def resume(self) -> None:
        file, seen = str(self.folder / "first" / "weights" / "epoch0.pt"), []
        again = type(self.yolo)(file)
        again.add_callback("on_train_start", lambda trainer: seen.append(gates(trainer.model)))
        again.train(resume=True)
        assert again.trainer.start_epoch == 1 and len(insertions(again.model)) == self.number
        assert distance(seen[0], gates(type(self.yolo)(file).model)) < 1e-6

    def save(self) -> None:
        assert Path(self.last).stat().st_size

    def reload(self) -> None:
        """In a process that knows nothing of regard before it reads the file."""
        files = [str(self.folder / name) for name in ("x.pt", "y.pt")]
        torch.save((self.inputs()[0], {**self.options, "epochs": 1}), files[0])
        text = RELOAD if not self.name.startswith("rtdetr") else RELOAD.replace("YOLO", "RTDETR")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", text, self.last, *files],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.split()[-1] == str(self.number)
        self.net = type(self.yolo)(self.last).model.eval()
        wanted = self.answers(self.net, *self.inputs())
        assert distance(torch.load(files[1]), wanted) < 1e-5

    def fuse(self) -> None:
        net, x = awake(copy.deepcopy(self.net)).double(), self.inputs()[0].double()
        settled(net, x).eval()
        wanted = self.answers(net, x)
        bare = copy.deepcopy(net)
        for _, child, inserted in regard.surgery.site.inserted_modules(bare):
            assert child
            nn.init.zeros_(inserted.gamma)
        assert distance(self.answers(bare, x), wanted) > 1e-6
        fused = net.fuse(verbose=False)  # pyright: ignore[reportCallIssue]
        assert len(insertions(fused)) == self.number
        assert distance(self.answers(fused, x), wanted) < 1e-5

    def export(self) -> None:
        found = type(self.yolo)(self.last)
        settled(awake(found.model), *self.inputs(4)).eval()
        (x,) = self.inputs(1)
        # Export folds the norms, whose rounding it is not about.
        wanted = self.answers(copy.deepcopy(found.model).fuse(verbose=False), x)
        file = found.export(format="torchscript", imgsz=64, device="cpu")
        got = tensors(torch.jit.load(file)(x))[0]
        assert got.shape == wanted.shape and distance(got, wanted) < 1e-5

    def measure(self) -> None:
        from regard.hosts import ultralytics as host

        self.plain = host.remove(self.net)
        super().measure()


UNET = {"in_channels": 1, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2)}
JOURNEYS: tuple[Journey, ...] = (
    Ultralytics("yolov8n", "detect"),
    Ultralytics("yolov8n-cls", "classify", slow=False),
    Ultralytics("yolo11n-seg", "segment"),
    Ultralytics("yolo11n-pose", "pose"),
    Ultralytics("yolo12n", "detect"),
    Ultralytics("yolo26n-obb", "obb"),
    Ultralytics("rtdetr-l", "detect"),
    Transformers("resnet", slow=False),
    Transformers("vit"),
    Transformers("segformer"),
    Transformers("rtdetr"),
    Timm("resnet10t", slow=False),
    Timm("vit_tiny_patch16_224", img_size=64, depth=2, global_pool="avg"),
    Smp("Unet", slow=False),
    Smp("FPN"),
    Torchvision("lraspp_mobilenet_v3_large", slow=False),
    Torchvision("deeplabv3_mobilenet_v3_large"),
    Detector("fasterrcnn_mobilenet_v3_large_320_fpn"),
    Monai("UNet", lambda n: n.UNet(3, **UNET, num_res_units=1), 3, slow=False),
    Monai("SegResNet", lambda n: n.SegResNet(3, 8, in_channels=1, out_channels=2), 3),
    Lightning("resnet10t in a LightningModule", slow=False),
)
PAGE = Path(__file__).parents[2] / "docs" / "hosts.md"
BEGIN, END = "<!-- steps -->\n", "<!-- /steps -->\n"


def table(results: dict[tuple[str, str], dict[str, str]]) -> str:
    """The table of the page, with the versions that it was made with."""
    lines = [f"| library | model | {' | '.join(STEPS)} |", f"|---|---|{'---|' * len(STEPS)}"]
    notes = []
    for one in JOURNEYS:
        cells = results[one.library, one.name]
        lines.append(f"| {one.library} | {one.name} | {' | '.join(cells[s] for s in STEPS)} |")
        notes += [f"{one.name}, {step}: {why}" for step, why in one.without.items()]
    versions = [f"{name} {version(name)}" for name in dict.fromkeys(o.library for o in JOURNEYS)]
    return "\n".join([
        *lines, "", f"Made with torch {version('torch')}, {', '.join(versions)}.", "",
        f"{NONE} where there is no such step:", "", *(f"- {note}." for note in notes), "",
    ])  # fmt: skip


def rows() -> dict[tuple[str, str], dict[str, str]]:
    """The cells that the page has."""
    text = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {(row[0], row[1]): dict(zip(STEPS, row[2:], strict=True)) for row in cells[1:]}


def main(root: Path, names: list[str]) -> None:
    """Do all steps of the named models, or of all, and write the table."""
    results = rows() if names else {}
    for one in JOURNEYS:
        if names and one.name not in names:
            continue
        place = root / f"{one.library}-{one.name}".replace(" ", "-")
        place.mkdir(parents=True)
        results[one.library, one.name] = one.run(place)
        print(one.library, one.name, results[one.library, one.name], flush=True)  # noqa: T201
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(results) + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    import tempfile

    import conftest  # noqa: F401  # no library may read settings of the user

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder_:
        main(Path(folder_), sys.argv[1:])
