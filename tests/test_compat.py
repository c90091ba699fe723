"""Old scripts and old checkpoints: every class of the two libraries that this one takes over."""

from __future__ import annotations

import copy
import html
import importlib
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import regard
from cases import randomize
from closeness import assert_same
from regard import cli, compat
from regard.compat.importing import ROOTS, imports
from regard.compat.legacy import ABSENT, SOURCE, Changed, LegacyClass, classes
from regard.compat.settings import settings
from regard.factory import load_reference

SEEDS = Path(os.environ.get("REGARD_SEEDS") or "none")  # a folder with the usage documents
OLD = classes()
TOKENS = ("Queries", "ImageTokens")
FIXED = ("DAModule", "S2Attention")  # ran with 512 channels only

# Module, class, arguments, input, output as the documents print it; queries are keys and values.
PRINTED = (
    ("ExternalAttention", "ExternalAttention", "d_model=512,S=8", (50, 49, 512), (50, 49, 512)),
    (
        "SelfAttention",
        "ScaledDotProductAttention",
        "d_model=512, d_k=512, d_v=512, h=8",
        (50, 49, 512),
        (50, 49, 512),
    ),
    (
        "SimplifiedSelfAttention",
        "SimplifiedScaledDotProductAttention",
        "d_model=512, h=8",
        (50, 49, 512),
        (50, 49, 512),
    ),
    ("SEAttention", "SEAttention", "channel=512,reduction=8", (50, 512, 7, 7), (50, 512, 7, 7)),
    ("SKAttention", "SKAttention", "channel=512,reduction=8", (50, 512, 7, 7), (50, 512, 7, 7)),
    (
        "CBAM",
        "CBAMBlock",
        "channel=512,reduction=16,kernel_size=input.shape[2]",
        (50, 512, 7, 7),
        (50, 512, 7, 7),
    ),
    ("CBAM", "ChannelAttention", "channel=512", (50, 512, 7, 7), (50, 512, 1, 1)),
    ("CBAM", "SpatialAttention", "kernel_size=7", (50, 512, 7, 7), (50, 1, 7, 7)),
    (
        "BAM",
        "BAMBlock",
        "channel=512,reduction=16,dia_val=2",
        (50, 512, 7, 7),
        (50, 512, 7, 7),
    ),
    ("ECAAttention", "ECAAttention", "kernel_size=3", (50, 512, 7, 7), (50, 512, 7, 7)),
    (
        "DANet",
        "DAModule",
        "d_model=512,kernel_size=3,H=7,W=7",
        (50, 512, 7, 7),
        (50, 512, 7, 7),
    ),
    ("PSA", "PSA", "channel=512,reduction=8", (50, 512, 7, 7), (50, 512, 7, 7)),
    (
        "EMSA",
        "EMSA",
        "d_model=512, d_k=512, d_v=512, h=8,H=8,W=8,ratio=2,apply_transform=True",
        (50, 64, 512),
        (50, 64, 512),
    ),
    ("ShuffleAttention", "ShuffleAttention", "channel=512,G=8", (50, 512, 7, 7), (50, 512, 7, 7)),
    (
        "MUSEAttention",
        "MUSEAttention",
        "d_model=512, d_k=512, d_v=512, h=8",
        (50, 49, 512),
        (50, 49, 512),
    ),
    ("SGE", "SpatialGroupEnhance", "groups=8", (50, 512, 7, 7), (50, 512, 7, 7)),
    (
        "ResidualAttention",
        "ResidualAttention",
        "channel=512,num_class=1000,la=0.2",
        (50, 512, 7, 7),
        (50, 1000),
    ),
    ("TripletAttention", "TripletAttention", "", (50, 512, 7, 7), (50, 512, 7, 7)),
    (
        "CoordAttention",
        "CoordAtt",
        "inp=96, oup=96, reduction=32",
        (2, 96, 56, 56),
        (2, 96, 56, 56),
    ),
    ("SimAM", "SimAM", "", (3, 64, 7, 7), (3, 64, 7, 7)),
    ("CrissCrossAttention", "CrissCrossAttention", "64", (3, 64, 7, 7), (3, 64, 7, 7)),
    (
        "A2Atttention",
        "DoubleAttention",
        "512,128,128,True",
        (50, 512, 7, 7),
        (50, 512, 7, 7),
    ),
    ("AFT", "AFT_FULL", "d_model=512, n=49", (50, 49, 512), (50, 49, 512)),
    ("OutlookAttention", "OutlookAttention", "dim=512", (50, 28, 28, 512), (50, 28, 28, 512)),
    ("ViP", "WeightedPermuteMLP", "512,8", (64, 8, 8, 512), (64, 8, 8, 512)),
    (
        "HaloAttention",
        "HaloAttention",
        "dim=512,block_size=2,halo_size=1,",
        (1, 512, 8, 8),
        (1, 512, 8, 8),
    ),
    (
        "PolarizedSelfAttention",
        "SequentialPolarizedSelfAttention",
        "channel=512",
        (1, 512, 7, 7),
        (1, 512, 7, 7),
    ),
    (
        "PolarizedSelfAttention",
        "ParallelPolarizedSelfAttention",
        "channel=512",
        (1, 512, 7, 7),
        (1, 512, 7, 7),
    ),
    ("CoTAttention", "CoTAttention", "dim=512,kernel_size=3", (50, 512, 7, 7), (50, 512, 7, 7)),
    ("S2Attention", "S2Attention", "channels=512", (50, 512, 7, 7), (50, 512, 7, 7)),
    ("MobileViTAttention", "MobileViTAttention", "", (1, 3, 49, 49), (1, 3, 49, 49)),
    ("ParNetAttention", "ParNetAttention", "channel=512", (50, 512, 7, 7), (50, 512, 7, 7)),
    (
        "UFOAttention",
        "UFOAttention",
        "d_model=512, d_k=512, d_v=512, h=8",
        (50, 49, 512),
        (50, 49, 512),
    ),
    ("ACmixAttention", "ACmix", "in_planes=256, out_planes=256", (50, 256, 7, 7), (50, 256, 7, 7)),
    ("MobileViTv2Attention", "MobileViTv2Attention", "d_model=512", (50, 49, 512), (50, 49, 512)),
    (
        "Axial_attention",
        "AxialAttention",
        "dim=128, dim_index=1, heads=8, num_dimensions=2",
        (3, 128, 7, 7),
        (3, 128, 7, 7),
    ),
    (
        "Axial_attention",
        "AxialImageTransformer",
        "dim=128, depth=12, reversible=True",
        (3, 128, 7, 7),
        (3, 128, 7, 7),
    ),
    (
        "conv.Involution",
        "Involution",
        "kernel_size=3,in_channel=4,stride=2",
        (1, 4, 64, 64),
        (1, 4, 32, 32),
    ),
    (
        "conv.CondConv",
        "CondConv",
        "in_planes=32,out_planes=64,kernel_size=3,stride=1,padding=1,bias=False",
        (2, 32, 64, 64),
        (2, 64, 64, 64),
    ),
    (
        "conv.DynamicConv",
        "DynamicConv",
        "in_planes=32,out_planes=64,kernel_size=3,stride=1,padding=1,bias=False",
        (2, 32, 64, 64),
        (2, 64, 64, 64),
    ),
)


def where(block: tuple) -> str:
    """The module of a class."""
    return block[0] if "." in block[0] else f"attention.{block[0]}"


each_old = pytest.mark.parametrize("old", OLD, ids=lambda old: f"{old.module}.{old.name}")


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    compat.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Changed)
        yield
    compat.uninstall()


@pytest.fixture
def double() -> Iterator[None]:
    """Double precision for what old classes make in a call, too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def ours(old: LegacyClass, arguments: str | None = None) -> Any:
    """An object of an old class, as a script makes it."""
    cls = getattr(importlib.import_module(old.module), old.name)
    return eval(f"cls({small(old) if arguments is None else arguments})", {"cls": cls})


def theirs(old: LegacyClass) -> Any:
    """The same of the library itself."""
    compat.uninstall()
    pytest.importorskip("fightingcv_attention")
    module = importlib.import_module(f"fightingcv_attention.{old.module}")
    made = eval(f"cls({small(old)})", {"cls": getattr(module, old.name)})
    compat.install()
    return made


def small(old: LegacyClass) -> str:
    """Arguments as in the documents, with fewer channels; as they are where sizes are fixed."""
    if old.name in FIXED:
        return old.legacy.usage
    text = re.sub(r"\b512\b", "32", old.legacy.usage).replace("reduction=16", "reduction=8")
    return re.sub(r"\b1000\b", "10", text)


def run(old: LegacyClass, module: nn.Module, x: Tensor) -> Any:
    """Call it as a script does."""
    return module(x, x, x) if old.legacy.call in TOKENS else module(x)


def example(old: LegacyClass) -> Tensor:
    """An input for the arguments of `small`."""
    shape = next(b[3] for b in PRINTED if (where(b), b[1]) == (old.module, old.name))
    sizes = [2, *(32 if size == 512 and old.name not in FIXED else size for size in shape[1:])]
    return torch.randn(sizes, dtype=torch.float64)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root or "here")
@pytest.mark.parametrize("block", PRINTED, ids=lambda block: block[1])
def test_usage_prints_what_the_documents_say(
    block: tuple, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, name, arguments, given, printed = block
    batch = 50 if root == "" else 2  # the documents' own once
    given, printed = (tuple(batch if n == 50 else n for n in sizes) for sizes in (given, printed))
    old = next(old for old in OLD if (old.module, old.name) == (where(block), name))
    inputs = "input,input,input" if old.legacy.call in TOKENS else "input"
    exec(
        f"from {root}{where(block)} import {name}\nimport torch\n\ninput=torch.randn({given})\n"
        f"layer = {name}({arguments})\noutput=layer({inputs})\nprint(output.shape)",
        {},
    )
    assert capsys.readouterr().out == f"{torch.Size(printed)}\n"


def test_every_class_is_tried() -> None:
    assert {(old.module, old.name) for old in OLD} == {
        (where(block), block[1]) for block in PRINTED
    }


@each_old
def test_it_is_the_mechanism(old: LegacyClass) -> None:
    """With the card, the map and the errors of any other."""
    module = ours(old)
    new = getattr(regard, old.new)
    assert isinstance(module, new)
    assert module.card.title == new.card.title
    assert type(module).__name__ == old.name


@each_old
def test_numbers_are_as_before_where_an_option_says_so(old: LegacyClass, double: None) -> None:
    """And the old weights go in under their old names; what cannot be had is refused."""
    before = randomize(theirs(old).eval())
    state = copy.deepcopy(before.state_dict())  # MUSE changed its own at every call
    if not old.record.loads:
        assert old.differs()
        assert not old.before
        given = eval(f"dict({small(old)})")
        with pytest.raises(ValueError, match=re.escape(old.differs())):
            load_reference(old.key, old.record.source, given, state)
        return
    compat.install(legacy_behavior=True)
    module = ours(old).eval()
    module.load_state_dict(state)
    x = example(old)
    want = run(old, before, x)
    assert_same(run(old, module, x), want)
    inside = nn.ModuleDict({"block": nn.ModuleList([ours(old).eval()])})
    inside.load_state_dict({f"block.0.{n}": t for n, t in state.items()})
    assert_same(run(old, inside["block"][0], x), want)


@each_old
def test_a_difference_is_told_once(old: LegacyClass) -> None:
    settings.warned.clear()

    def said() -> list[warnings.WarningMessage]:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", Changed)
            ours(old)
        return [w for w in heard if w.category is Changed]

    first, second = said(), said()
    assert not second
    assert len(first) == bool(old.differs())
    for warning in first:
        text = str(warning.message)
        assert text.startswith(f"{old.name} {old.differs()}; regard.{old.new}, which replaces it, ")
        assert text.endswith(f"does so with {old.before} only" if old.before else "does not")
        assert warning.filename == "<string>"  # the script, not the library


@pytest.mark.parametrize(
    "old", [old for old in OLD if old.differs() and old.before], ids=lambda old: old.name
)
def test_what_is_as_before_is_not_told(old: LegacyClass) -> None:
    compat.install(legacy_behavior=True)
    settings.warned.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Changed)
        ours(old)
        compat.install()
        ours(old, ", ".join(filter(None, (small(old), old.before))))


def test_old_weights_of_what_is_otherwise_now_say_what_to_do() -> None:
    old = next(old for old in OLD if old.name == "CBAMBlock")
    state = theirs(old).state_dict()
    with pytest.raises(ValueError, match=r"adds its input.*residual=True.*legacy_behavior=True"):
        ours(old).load_state_dict(state)


def test_new_weights_go_in_as_ever() -> None:
    old = next(old for old in OLD if old.name == "SEAttention")
    first, second = randomize(ours(old)), ours(old)
    second.load_state_dict(first.state_dict())
    assert_same(second.squeeze.weight, first.squeeze.weight)
    with pytest.raises(RuntimeError, match=r"Missing key.*excite"):
        second.load_state_dict({"squeeze.weight": first.squeeze.weight})


@pytest.mark.parametrize(
    "name", ["EMSA", "OutlookAttention", "WeightedPermuteMLP", "AxialAttention"]
)
def test_other_layouts_are_understood_by_the_tools(name: str) -> None:
    """They are explained, measured, compiled and exported like any other."""
    old = next(old for old in OLD if old.name == name)
    arguments = small(old).replace("dim_index=1", "dim_index=-1").replace("128", "32")
    module = ours(old, arguments).eval()
    x = example(old).float()
    x = x[:, :32].movedim(1, -1) if name == "AxialAttention" else x
    model = nn.Sequential(nn.Identity(), module)
    y = model(x)
    assert y.shape == x.shape
    assert {layer.mechanism for layer in regard.explain(model, x).values()} == {name}
    assert regard.measure(model, x, latency=False).params > 0
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert_same(compiled(x), y, dtype=torch.float32)
    assert_same(torch.export.export(model, (x,)).module()(x), y, dtype=torch.float32)


@each_old
def test_it_is_copied_and_pickled(old: LegacyClass) -> None:
    module = ours(old)
    again = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    assert type(again) is type(module)
    assert again.state_dict().keys() == module.state_dict().keys()


def test_classes_can_be_derived_from() -> None:
    from attention.SEAttention import SEAttention

    class Mine(SEAttention):
        def __init__(self, channel: int) -> None:
            super().__init__(channel=channel, reduction=4)

    assert Mine(16)(torch.ones(1, 16, 3, 3)).shape == (1, 16, 3, 3)
    assert repr(Mine(16)).startswith("Mine(\n  channel=16, reduction=4")


def test_kernels_are_annealed() -> None:
    from model.conv.DynamicConv import DynamicConv

    conv, x = randomize(DynamicConv(16, 8, 3, 1, 1, temprature=3)), torch.randn(1, 16, 5, 4)
    seen = [conv(x)]
    for _ in range(3):
        conv.update_temprature()
        seen.append(conv(x))
    assert conv.temperature == 1
    assert not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[2], seen[3])


def test_masks_are_closed_where_they_are_true() -> None:
    from attention.SelfAttention import ScaledDotProductAttention as Old

    x, closed = torch.randn(2, 5, 8), torch.zeros(2, 2, 5, 5, dtype=torch.bool)
    closed[..., 3] = True
    attention = Old(8, 4, 4, 2, 0.0)
    seen = attention(x, x, x, attention_mask=closed)
    other = x.clone()
    other[:, 3] += 1
    assert_same(attention(x, other, other, closed), seen, dtype=torch.float32)
    assert not torch.allclose(attention(x, other, other), seen)
    weights = torch.zeros(2, 2, 5, 5)
    even = attention(x, x, x, attention_weights=weights)
    assert_same(even, even[:, :1].expand_as(even), dtype=torch.float32)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m, x: m(x, x + 1, x), "keys and values must be the queries"),
        (
            lambda m, x: m(x, x, x, torch.ones(1, 4, 24, 6).bool()),
            "takes neither a mask nor weights",
        ),
        (lambda m, x: m(x[:, 1:], None, None), r"expected axis n = 24 in \(b n c\), got 23"),
    ],
    ids=["keys", "mask", "size"],
)
def test_tokens_of_an_image_are_checked(call: Any, error: str) -> None:
    from attention.EMSA import EMSA

    with pytest.raises(ValueError, match=f"EMSA: {error}"):
        call(EMSA(8, 2, 2, 4, H=4, W=6, ratio=2), torch.randn(1, 24, 8))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("64, redution=8", 'SEAttention: no argument "redution"; did you mean "reduction"?'),
        ("64, 8, 3", "SEAttention(channel=512, reduction=16): too many positional arguments"),
        ("64, channel=64", "SEAttention(channel=512, reduction=16): multiple values"),
        ("64, color=1", 'SEAttention: no argument "color"; there are channel, reduction'),
    ],
)
def test_bad_arguments_are_named(arguments: str, error: str) -> None:
    old = next(old for old in OLD if old.name == "SEAttention")
    with pytest.raises(TypeError, match=re.escape(error)):
        ours(old, arguments)


@pytest.mark.parametrize(("module", "name"), ABSENT)
def test_what_has_no_place_says_why(module: str, name: str) -> None:
    with pytest.raises(ImportError, match=re.escape(f"{module}.{name}: {ABSENT[module, name]}")):
        exec(f"from {module} import {name}", {})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"attention\.Nothing"):
        importlib.import_module("attention.Nothing")
    with pytest.raises(ImportError, match="Nothing"):
        exec("from attention.SEAttention import Nothing", {})
    with pytest.raises(ValueError, match=r'framework must be "torch" or "keras", got'):
        compat.install(framework="jax")  # type: ignore[arg-type]


def test_uninstalling_leaves_nothing() -> None:
    import attention.SEAttention as ours_there

    compat.uninstall()
    assert "attention" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("attention.SEAttention")
    assert ours_there.SEAttention(16)(torch.ones(1, 16, 2, 2)).shape == (1, 16, 2, 2)


def script(tmp_path: Path, text: str, *args: str, folder: str = ".") -> str:
    """What a script prints under ``python -m regard.compat``, in a process of its own."""
    (tmp_path / "script.py").write_text(text)
    got = subprocess.run(
        [sys.executable, "-m", "regard.compat", *args],
        cwd=tmp_path / folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    return f"{got.stdout}{got.stderr}"


def test_a_script_is_run_beside_its_own_modules(tmp_path: Path) -> None:
    """A copy of the old code is passed over; what else stands in that package is found."""
    old_code = tmp_path / "model" / "attention"
    old_code.mkdir(parents=True)
    for name, cls in (("SEAttention", "SEAttention"), ("CBAM", "CBAMBlock")):
        text = f"class {cls}: pass\nraise ImportError('the old code')"
        (old_code / f"{name}.py").write_text(text)
    (old_code / "Mine.py").write_text("from model.attention.SEAttention import SEAttention as Mine")
    (old_code / "CoAtNet.py").write_text("class CoAtNet: pass")  # has no place here
    text = (
        "import sys\nfrom model.attention.Mine import Mine\n"
        "from model.attention.CBAM import CBAMBlock\n"
        "from model.attention.CoAtNet import CoAtNet\n"
        "print(__name__, sys.argv[1:], Mine(32).card.title, CoAtNet.__module__)\n"
        "CBAMBlock(32, kernel_size=7)\n"
    )
    (tmp_path / "elsewhere").mkdir()
    said = script(tmp_path, text, "../script.py", "--lr", "0.1", folder="elsewhere")
    assert "__main__ ['--lr', '0.1'] Squeeze-and-Excitation model.attention.CoAtNet" in said
    assert "script.py:6: Changed: CBAMBlock adds its input to its output" in said
    assert "Changed" not in script(tmp_path, text, "--legacy-behavior", "script.py")
    assert "no such file: none.py" in script(tmp_path, "", "none.py")


def test_what_a_project_calls_so_is_its_own(tmp_path: Path) -> None:
    """A module of an old name and other classes; or with more classes than were there."""
    own = tmp_path / "attention"
    own.mkdir()
    (own / "__init__.py").touch()
    (own / "CBAM.py").write_text("class CBAM3D: pass")
    (own / "SEAttention.py").write_text("class SEAttention: pass\nclass SE3D: pass")
    text = (
        "from attention.CBAM import CBAM3D\nfrom attention.SEAttention import SE3D, SEAttention\n"
        "from fightingcv_attention.attention.CBAM import CBAMBlock\n"
        "print(CBAM3D.__module__, SE3D.__module__, SEAttention(32).card.title)"
    )
    said = script(tmp_path, text, "script.py")
    assert said == "attention.CBAM attention.SEAttention Squeeze-and-Excitation\n"


@each_old
def test_old_methods_and_attributes_are_there(old: LegacyClass) -> None:
    """Arguments and layers under their old names; some scripts draw the weights anew."""
    module = ours(old)
    module.init_weights()
    assert all(p.isfinite().all() for p in module.parameters())
    for name, value in module.given.items():
        assert getattr(module, name) == value or name in (*vars(module), *module._modules)


def test_layers_have_their_old_names() -> None:
    from attention.EMSA import EMSA

    module = EMSA(16, 4, 4, 4, H=4, W=6)
    assert module.fc_q is module.query
    assert (module.d_k, module.h, module.W) == (4, 4, 6)
    with pytest.raises(AttributeError, match="'EMSA' object has no attribute 'fc_x'"):
        module.fc_x  # noqa: B018


def test_the_framework_is_that_of_the_script(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("import tensorflow.keras as k\nfrom torch.nn import functional")
    assert imports(path) == {"tensorflow", "torch"}
    path.write_text("this is no Python")
    assert imports(path) == set()


def saved(tmp_path: Path) -> Path:
    """The checkpoint of a model with old modules inside, as training loops write it."""
    old = {old.name: old for old in OLD}
    modules = {
        "stem": nn.Conv2d(3, 32, 3),
        "layer1.se": theirs(old["SEAttention"]),
        "layer2.se": theirs(old["SEAttention"]),
        "neck": theirs(old["EMSA"]),
    }
    state = {f"{at}.{n}": t for at, m in modules.items() for n, t in m.state_dict().items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "old.pth")
    return tmp_path / "old.pth"


def test_a_checkpoint_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, new = saved(tmp_path), tmp_path / "new.safetensors"
    neck = "neck=EMSA(32, 32, 32, 8, ratio=2)"
    with pytest.raises(SystemExit, match="0"):
        command("convert", path, new, "--map", "layer*.se=squeeze_excitation", "--map", neck)
    said = capsys.readouterr().out
    assert re.search(r"layer2\.se +2  regard\.SqueezeExcitation\(channels=32, reduction=8\)", said)
    before, after = torch.load(path)["model"], load_file(new)
    assert_same(after["stem.weight"], before["stem.weight"], dtype=torch.float32)
    se = regard.SqueezeExcitation(32, 8)
    se.load_state_dict({n[10:]: t for n, t in after.items() if n.startswith("layer1.se.")})
    assert_same(se.squeeze.weight, before["layer1.se.fc.0.weight"], dtype=torch.float32)
    whole = {"layer*.se": "squeeze_excitation", "neck": "EMSA(32, 32, 32, 8, ratio=2)"}
    again = compat.convert(before, whole)
    assert again.keys() == after.keys()
    assert again["stem.weight"] is before["stem.weight"]


@pytest.mark.parametrize(
    ("places", "error"),
    [
        ({"layer3.se": "SEAttention"}, "the state dict has no entries under 'layer3.se'"),
        (
            {"neck": "EMSA(32)"},
            "neck: EMSA needs the argument d_k and d_v and h; it takes (d_model, d_k",
        ),
        (
            {"neck": "cbam"},
            "neck: CBAM: the state does not fit: excite.weight is missing",
        ),
        (
            {"neck": "BAMBlock"},
            "xmu-xiaoma666/External-Attention-pytorch:BAMBlock is not bam: it dilates without",
        ),
        ({"neck": "polarized"}, "polarized may mean ParallelPolarizedSelfAttention or Sequential"),
        ({"neck": "highway"}, f"highway: no class of {SOURCE} is this mechanism"),
        ({"neck": "CoAtNet"}, "CoAtNet: a whole network"),
        (
            {"neck": "EMSA(d_model"},
            "expected a name or a call as SEAttention(64), got 'EMSA(d_model'",
        ),
        ({"layer1.se": "se", "layer*.se": "se"}, "'layer1.se' is converted twice"),
        ({"layer1": "se", "layer1.se": "se"}, "'layer1.se' is converted twice"),
    ],
)
def test_what_cannot_be_converted_says_why(
    tmp_path: Path, places: dict[str, str], error: str
) -> None:
    state = torch.load(saved(tmp_path))["model"]
    with pytest.raises((ValueError, TypeError), match=re.escape(error)):
        compat.convert(state, places)


def test_other_sources_are_converted_too() -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("seresnet50")
    new = compat.convert(
        theirs.state_dict(), {"layer*.*.se": "squeeze_excitation"}, source="timm:SEModule"
    )
    for name, block in theirs.named_modules():
        if name.endswith(".se"):
            channels, hidden = block.fc1.in_channels, block.fc1.out_channels
            se = regard.SqueezeExcitation(channels, hidden_dim=hidden, bias=True)
            start = len(name) + 1
            se.load_state_dict({n[start:]: t for n, t in new.items() if n.startswith(f"{name}.")})
            x = torch.randn(2, channels, 5, 4)
            assert_same(se(x), block(x), dtype=torch.float32)
    assert not any(".fc1." in name for name in new)
    assert "fc.weight" in new


@pytest.mark.parametrize(
    ("what", "source", "error"),
    [
        ("se(32, 2, 3, 4)", "timm:SEModule", "SEModule(channels, rd_channels=None, bias=True)"),
        ("se", "timm", "se may mean SEModule or SqueezeExcite; name one"),
        ("se(gate_layer='tanh')", "timm:SEModule", "gate_layer must be 'sigmoid'"),
        ("se", "nobody/nothing", "no reference 'nobody/nothing' of any mechanism"),
    ],
)
def test_other_sources_are_refused(what: str, source: str, error: str) -> None:
    state = {"a.fc1.weight": torch.ones(4, 32, 1, 1), "a.fc2.weight": torch.ones(32, 4, 1, 1)}
    with pytest.raises((ValueError, TypeError), match=re.escape(error)):
        compat.convert(state, {"a": what}, source=source)


def test_pickles_are_read_as_weights_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code that a file holds is not run."""
    torch.save({"a": torch.ones(1), "b": Runs()}, tmp_path / "bad.pth")
    with pytest.raises(SystemExit, match="2"):
        command("convert", tmp_path / "bad.pth", tmp_path / "new.safetensors", "--map", "a=se")
    assert "contains objects other than weights, which are not read" in capsys.readouterr().err
    assert not RAN


RAN = []


class Runs:
    def __reduce__(self) -> tuple:
        return RAN.append, (1,)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["new.pth", "--map", "a=se"], "new.pth: expected a name that ends in .safetensors"),
        (["new.safetensors", "--map", "a"], '--map takes prefix=name, got "a"'),
        (["new.safetensors", "--map", "a=se", "--map", "a=eca"], 'has the prefix "a" twice'),
    ],
)
def test_the_command_refuses(
    given: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command("convert", tmp_path / "old.pth", *given)
    assert error in capsys.readouterr().err


def command(*words: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["regard", *map(str, words)])
        cli.main()


def blocks(path: Path) -> list[str]:
    """The Python code in one of the documents."""
    text = path.read_text("utf-8")
    if not text.startswith("{"):
        return re.findall(r"```python\n(.*?)```", text, re.S)
    found = re.findall(
        r"<pre[^>]*><code>(.*?)</code></pre>", json.loads(text)["content"]["rendered"], re.S
    )
    lines = [html.unescape(code.replace("<br>", "\n")).replace("\xa0", " ") for code in found]
    # The last two have lost their line breaks.
    starts = r"(?=import torch|from torch |from torch\.nn |input=|(?<=\))\w+ = |output=|print\()"
    return [code if "\n" in code else re.sub(starts, "\n", code) for code in lines]


def seed(number: str) -> list[str]:
    """The blocks of one document, or one that is like them where it is not at hand."""
    found = [code for path in SEEDS.glob(f"{number}_*") for code in blocks(path)]
    return found or [
        "from attention.SEAttention import SEAttention\nimport tensorflow as tf\n"
        "print(SEAttention(channel=512, reduction=8)(tf.ones((50, 7, 7, 512))).shape)\n"
    ]


def documented(code: str, *, channels_last: bool) -> tuple[int, ...]:
    """What a block should print."""
    [imported] = re.findall(r"from\s+attention\.(\w+)\s+import\s+(\w+)", code)
    shape = next(shape for where, name, _, _, shape in PRINTED if (where, name) == imported)
    b, *sizes = shape
    return (b, *sizes[1:], sizes[0]) if channels_last and len(sizes) == 3 else shape


def test_the_blocks_for_torch_run_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    found = [code for number in ("002", "003") for code in seed(number) if "torch" in code]
    assert len(found) == (11 if SEEDS.exists() else 0)
    for code in found:
        exec(code, {})
        want = torch.Size(documented(code, channels_last=False))
        assert capsys.readouterr().out == f"{want}\n", code


def test_the_blocks_for_tensorflow_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one script, which is found to be TensorFlow's by what it imports."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    found = [code for code in seed("002") if "tensorflow" in code]
    assert len(found) == (14 if SEEDS.exists() else 1)
    light = "import sys\nprint('torch' in sys.modules)\n"
    printed = script(tmp_path, "".join([*found, light]), "script.py").splitlines()
    assert "False" in printed  # it is not needed, and may not be there
    wanted = [str(documented(code, channels_last=True)) for code in found]
    assert [line for line in printed if line.startswith("(")] == wanted
