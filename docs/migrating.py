"""Rewrite the table of old classes in MIGRATING.md and its Chinese twin."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from regard.catalog import show
from regard.compat.legacy import ABSENT, LegacyClass, classes

ROOT = Path(__file__).parent.parent
BETWEEN = re.compile(r"(<!-- classes -->\n).*?(<!-- /classes -->)", re.S)
ENGLISH = {
    "headings": ("Old class", "New", "What changed", "Old weights"),
    "same": "–",
    "loaded": "yes",
    "with": "with `{}`",
    "refused": "no: they mean something else",
    "nothing": "nothing: {}",
}
CHINESE = {
    "headings": ("旧类", "新写法", "有何不同", "旧权重"),
    "same": "–",
    "loaded": "可加载",
    "with": "需 `{}`",
    "refused": "不可：含义不同",
    "nothing": "无：{}",
}
# Each sentence is keyed by the English one, so that a change there asks for one here.
CHINESE_TEXT = {
    "has neither a norm nor a ReLU in its hidden layer": "隐藏层既无归一化也无 ReLU",
    "adds its input to its output, and has no norm after its spatial kernel": (
        "输出又加上了输入，空间卷积之后没有归一化"
    ),
    "dilates without padding, so that it runs on 7 x 7 maps only and sees no position there, and "
    "has three hidden layers for one and three dilated convolutions for two": (
        "空洞卷积不补边，只能用于 7×7 且看不到任何位置；隐藏层三个而非一个，空洞卷积三个而非两个"
    ),
    "adds a bias to every score": "每个分数都加了偏置",
    "ignores its arguments, has neither the scale γ nor the residual, and mixes the positions by a "
    "matrix of fixed size": "忽略自己的参数，没有 γ 和残差，用固定大小的矩阵混合各位置",
    "does not register its layers, so that nothing of it is trained or saved, writes into its "
    "input, and gives each kernel a part of the channels": (
        "层没有注册，既不训练也不保存；改写输入；每个卷积核只见一部分通道"
    ),
    "replaces the weights of its kernels by their softmax at every call": (
        "每次调用（包括推理）都把各卷积核的权重替换为其 softmax"
    ),
    "takes both softmaxes over the images of the batch, so that one image has none": (
        "两个 softmax 都沿批次计算，单张图像等于没有"
    ),
    "averages each position's kernel, takes a softmax over the image and sees no neighbors": (
        "把每个位置的卷积核取平均，在整幅图上做 softmax，看不到邻域"
    ),
    "has no norms and activations after its convolutions, and no biases in its queries": (
        "卷积之后没有归一化与激活，查询没有偏置"
    ),
    "has no norm in its shortcut": "捷径上没有归一化",
    "has no ReLU on its values": "值上没有 ReLU",
    "masks the image and not what is around it, so that blocks average their values": (
        "遮住了图像而不是图像之外，各块只是对值取平均"
    ),
    "shifts in place, which smears the border over the image, and has 512 channels": (
        "原地平移，把边缘抹到整幅图上；只能用 512 通道"
    ),
    "a whole network, not a mechanism": "是整个网络，而不是一种机制",
    "a convolution without attention": "是不含注意力的卷积",
    **{
        f"a part of {whole}, which is here as a whole": f"是 {whole} 的一部分，这里以整体提供"
        for whole in ("BAMBlock", "DAModule", "MUSEAttention", "S2Attention")
    },
}


def generated() -> dict[Path, str]:
    """What each file should hold."""
    pages = {ROOT / "MIGRATING.md": ENGLISH, ROOT / "MIGRATING.zh-CN.md": CHINESE}
    return {path: page(path, words) for path, words in pages.items()}


def page(path: Path, words: dict) -> str:
    """A page with its table made new."""
    lines = [words["headings"], ("---",) * 4, *(row(old, words) for old in classes())]
    lines += [
        (f"`{module}.{name}`", words["nothing"].format(told(why, words)), "", "")
        for (module, name), why in ABSENT.items()
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return BETWEEN.sub(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", path.read_text("utf-8"))


def told(text: str, words: dict) -> str:
    """A sentence in the language of the page."""
    return text if words is ENGLISH else CHINESE_TEXT[text]


def row(old: LegacyClass, words: dict) -> tuple[str, ...]:
    """What became of a class."""
    differs = old.differs()
    if not old.record.loads:
        weights = words["refused"]
    else:
        weights = words["with"].format(old.before) if differs and old.before else words["loaded"]
    name = f"`{old.module}.{old.name}`"
    return name, f"`{call(old)}`", told(differs, words) if differs else words["same"], weights


def call(old: LegacyClass) -> str:
    """How the new class is made for the arguments that a script gives, less the defaults."""
    options = old.arguments()(**eval(f"dict({old.legacy.usage})"))
    entry = show(old.key)
    usual = {o.name: ast.literal_eval(o.default) for o in entry.options if o.default is not None}
    said = [
        f"{name}={value!r}"
        for name, value in options.items()
        if old.new != entry.name or name not in usual or usual[name] != value
    ]
    return f"regard.{old.new}({', '.join(said)})"


def main() -> None:
    """Write every file that is not as it should be."""
    for path, text in generated().items():
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"{path.name} rewritten")


if __name__ == "__main__":
    main()
