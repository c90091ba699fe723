"""Rewrite the table of old classes in MIGRATING.md and its Chinese twin."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import regard
from regard.catalog import homes, show
from regard.compat.old import Old
from regard.compat.table import OLD, SOURCE

ROOT = Path(__file__).parent.parent
BETWEEN = re.compile(r"(<!-- classes -->\n).*?(<!-- /classes -->)", re.S)
ENGLISH = {
    "headings": ("Old class", "New", "What changed", "Old weights"),
    "same": "–",
    "loaded": "yes",
    "with": "with `{}`",
    "refused": "no: {}",
    "nothing": "nothing: {}",
}
CHINESE = {
    "headings": ("旧类", "新写法", "有何不同", "旧权重"),
    "same": "–",
    "loaded": "可加载",
    "with": "需 `{}`",
    "refused": "不可：{}",
    "nothing": "无：{}",
}
TOLD_IN_CHINESE = {
    "had neither a norm nor a ReLU in its hidden layer": "隐藏层既无归一化也无 ReLU",
    "added its input to its output, and had no norm behind its spatial kernel": (
        "输出又加上了输入，空间卷积之后没有归一化"
    ),
    "dilated without padding, so that it ran on 7 x 7 maps only and saw no position there, and had "
    "three hidden layers for one and three dilated convolutions for two": (
        "空洞卷积不补边，只能用于 7×7 且看不到任何位置；隐藏层三个而非一个，空洞卷积三个而非两个"
    ),
    "its branches are deeper, and dilate without padding for it, so that only 7 x 7 maps survive, "
    "and then as 1 x 1": "分支更深，空洞卷积不补边，只有 7×7 的图能通过且缩成 1×1",
    "added a bias to every score": "每个分数都加了偏置",
    "ignored its arguments, had neither the scale γ nor the residual, and mixed the positions by a "
    "matrix of fixed size": "忽略自己的参数，没有 γ 和残差，用固定大小的矩阵混合各位置",
    "it has 512 channels and 7 x 7 maps whatever it is told, no gamma nor residual, and an output "
    "layer over the positions": "无论参数如何都是 512 通道、7×7，没有 γ 和残差，位置上另有输出层",
    "did not register its layers, so that nothing of it was trained or saved, wrote into its "
    "input, and gave each kernel a part of the channels": (
        "层没有注册，既不训练也不保存；改写输入；每个卷积核只见一部分通道"
    ),
    "its convolutions, each of a part of the channels, are no parameters and write into its "
    "input": ("各卷积只见一部分通道，不是参数，并且改写输入"),
    "replaced the weights of its kernels by their softmax at every call, in evaluation too": (
        "每次调用（包括推理）都把各卷积核的权重替换为其 softmax"
    ),
    "took both softmaxes over the images of the batch, so that one image alone had none": (
        "两个 softmax 都沿批次计算，单张图像等于没有"
    ),
    "it takes both softmaxes over the images of the batch": "两个 softmax 都沿批次计算",
    "averaged each position's kernel, took a softmax over the image and saw no neighbours": (
        "把每个位置的卷积核取平均，在整幅图上做 softmax，看不到邻域"
    ),
    "it averages each position's kernel, takes a softmax over all positions and weighs no "
    "neighbours": "把每个位置的卷积核取平均，在所有位置上做 softmax，不对邻域加权",
    "had no norms and activations behind its convolutions, and no biases in its queries": (
        "卷积之后没有归一化与激活，查询没有偏置"
    ),
    "had no norm in its shortcut": "捷径上没有归一化",
    "had no ReLU on its values": "值上没有 ReLU",
    "masked the image and not what is around it, so that blocks averaged their values": (
        "遮住了图像而不是图像之外，各块只是对值取平均"
    ),
    "it masks the image and keeps the padding, so that blocks within the image average their "
    "values": "遮住图像而保留填充，图像内部的块只是对值取平均",
    "shifted in place, which smears the border over the image, and ran with 512 channels": (
        "原地平移，把边缘抹到整幅图上；只能用 512 通道"
    ),
    "it shifts in place, which smears the border over the image": "原地平移，把边缘抹到整幅图上",
    "a whole network, and no mechanism by itself": "是整个网络，本身不是一种机制",
    "a convolution without attention": "是不含注意力的卷积",
    **{
        f"a part of {whole}, which is here as a whole": f"是 {whole} 的一部分，这里以整体提供"
        for whole in ("CBAMBlock", "BAMBlock", "DAModule", "MUSEAttention", "S2Attention")
    },
}


def generated() -> dict[Path, str]:
    """What each file should hold."""
    pages = {ROOT / "MIGRATING.md": ENGLISH, ROOT / "MIGRATING.zh-CN.md": CHINESE}
    return {path: page(path, words) for path, words in pages.items()}


def page(path: Path, words: dict) -> str:
    """A page with its table made new."""
    lines = [words["headings"], ("---",) * 4, *(row(old, words) for old in OLD)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return BETWEEN.sub(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", path.read_text("utf-8"))


def row(old: Old, words: dict) -> tuple[str, ...]:
    """What became of a class."""

    def told(text: str) -> str:
        return text if words is ENGLISH else TOLD_IN_CHINESE[text]

    name = f"`{old.module}.{old.name}`"
    if old.refused:
        return name, words["nothing"].format(told(old.refused)), "", ""
    if refused := getattr(regard, old.new).refusal(f"{SOURCE}:{old.name}"):
        weights = words["refused"].format(told(refused[1]))
    else:
        weights = words["with"].format(old.as_it_was) if old.was and old.before else words["loaded"]
    return name, f"`{call(old)}`", told(old.was) if old.was else words["same"], weights


def call(old: Old) -> str:
    """How the new class is made for the arguments that a script gives, less the defaults."""
    options = old.arguments(**eval(f"dict({old.usage})"))
    entry = show(homes()[old.new])
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
