"""Collect programs as those of `shipped:cpu_one_core`, part by part; a part that was begun goes on.

That data set was measured with TVM's pool on one thread, whatever the target said; since 2026-11-28
the same commands run two. `shipped:cpu` has these programs on two threads, by
`costmodels collect --programs-of shipped:cpu_one_core`.

Test and validation networks get random programs only, so that judging on them is fair; the kernels
of the others get programs near their best as well. The split was fixed before anything was trained:
test is every EfficientNet, ConvNeXt and GPT-2, validation every RegNet.

The part "more drawn" is not in the data set that ships.

Parts may be measured on different machines, one after the other: the target `host` names the
processor, so that tasks of two kinds of machine stay apart, and the same part of another kind of
machine is measured anew.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark_results import ROOT

HASWELL = "llvm -mcpu=haswell -num-cores=1"
SSE = "llvm -mcpu=x86-64 -num-cores=1"
TEST = ("hf:EfficientNet*", "hf:ConvNext*", "hf:GPT2*")
VALIDATION = ("hf:RegNet*",)
ONLY_RANDOM = "random=1"

TRAINING_NETWORKS = (
    "zoo:resnet18",
    "zoo:resnet18,batch=4,image=160",
    "zoo:resnet50",
    "zoo:mobilenet_v2",
    "zoo:mobilenet_v2,image=160",
    "zoo:mixer_s32",
    "zoo:mlp",
    "zoo:vit_tiny",
    "zoo:bert_tiny",
    "hf:MobileNetV1Config",
    "hf:MobileNetV1Config,image_size=128,batch=4",
    "hf:SwinConfig,depths=[2,2,2,2]",
    "hf:ViTConfig,num_hidden_layers=1",
    "hf:BertConfig,num_hidden_layers=1,sequence=64",
    "hf:BertConfig,num_hidden_layers=1,sequence=384",
    "hf:BertConfig,num_hidden_layers=1,batch=4,sequence=128",
)
MORE_NETWORKS = (
    "hf:PoolFormerConfig,depths=[1,1,1,1]",
    "hf:SegformerConfig,depths=[1,1,1,1]",
    "hf:PvtV2Config,depths=[1,1,1,1]",
    "hf:PvtConfig,depths=[1,1,1,1]",
    "hf:LevitConfig,depths=[1,1,1]",
    "hf:MobileViTConfig",
    "hf:MobileNetV2Config,image_size=192",
    "hf:FocalNetConfig,depths=[1,1,1,1]",
    "hf:BitConfig,depths=[1,1,1,1]",
    "hf:ResNetConfig,depths=[1,1,1,1],image=128",
    "hf:SwiftFormerConfig,depths=[1,1,1,1]",
    "hf:HGNetV2Config",
    "hf:Swinv2Config,depths=[1,1,1,1]",
    "hf:Dinov2Config,num_hidden_layers=1",
    "hf:HieraConfig,depths=[1,1,1,1]",
    "hf:BeitConfig,num_hidden_layers=1",
    "hf:OPTConfig,num_hidden_layers=1,sequence=64",
    "hf:LlamaConfig,num_hidden_layers=1,hidden_size=512,intermediate_size=1376,"
    "num_attention_heads=8,sequence=128",
    "hf:GPTNeoXConfig,num_hidden_layers=1,hidden_size=512,intermediate_size=2048,"
    "num_attention_heads=8,sequence=96",
    "hf:Qwen2Config,num_hidden_layers=1,hidden_size=448,intermediate_size=1216,"
    "num_attention_heads=7,num_key_value_heads=1,sequence=160",
    "hf:T5Config,num_layers=1,sequence=128",
    "hf:Wav2Vec2Config,num_hidden_layers=1,samples=8000",
    "hf:SqueezeBertConfig,num_hidden_layers=1,sequence=128",
    "hf:MobileBertConfig,num_hidden_layers=1,sequence=128",
)
HELD_OUT_NETWORKS = (
    "hf:EfficientNetConfig,image_size=224,width_coefficient=1.0,depth_coefficient=1.0,"
    "hidden_dim=1280",
    "hf:ConvNextConfig",
    "hf:GPT2Config,n_layer=1,sequence=128",
    "hf:GPT2Config,n_layer=1,sequence=512",
    "hf:RegNetConfig,embedding_size=32,hidden_sizes=[32,64,160,384],depths=[1,2,7,12],"
    "groups_width=16",
)
FIVE_NETWORKS = (
    "zoo:resnet18",
    "zoo:mobilenet_v2",
    "zoo:bert_tiny",
    "zoo:vit_tiny",
    "hf:GPT2Config,n_layer=1,sequence=128",
)


@dataclass(frozen=True)
class Part:
    """Some tasks, how many programs of each, and how many of them at a time."""

    sources: Sequence[str]
    per_task: int
    batch: int = 16
    target: str = "host"
    mixture: str | None = None

    def arguments(self, out: Path) -> list[str]:
        """Of `costmodels collect`."""
        mixture = [] if self.mixture is None else ["--mixture", self.mixture]
        return [
            *("collect", *self.sources, "--out", str(out), "--target", self.target),
            *("--per-task", str(self.per_task), "--batch", str(self.batch), *mixture),
        ]


SPLITS = "splits"
PARTS = {
    "held-out": Part(HELD_OUT_NETWORKS, 65, 33, mixture=ONLY_RANDOM),
    "training": Part(TRAINING_NETWORKS, 17, 9),
    "more training": Part(MORE_NETWORKS, 12, 6),
    "drawn": Part(("drawn:274",), 12, 12),
    "more drawn": Part(("drawn:300,seed=1",), 12, 12),
    "drawn int8": Part(("drawn:50,dtype=int8",), 12, 12),
    "drawn float16": Part(("drawn:40,dtype=float16",), 12, 12),
    "host again": Part(FIVE_NETWORKS, 42, 21),
    "haswell": Part(FIVE_NETWORKS, 42, 21, target=HASWELL),
    "sse": Part(FIVE_NETWORKS, 42, 21, target=SSE),
}


def run(arguments: Sequence[str]) -> None:
    """Run `costmodels`; its progress is printed."""
    done = subprocess.run([sys.executable, "-m", "tvm_integration.cli", *arguments], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def main() -> None:
    """Collect what is missing, then save the splits, unless only some parts are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "work/cpu")
    parser.add_argument("--minutes", type=float, help="end after this many")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, SPLITS], default=[*PARTS, SPLITS])
    options = parser.parse_args()
    start = time.monotonic()
    for name in options.parts:
        print(f"== {name}", flush=True)
        if name == SPLITS:
            save_splits(options.out)
            continue
        limit = []
        if options.minutes is not None:
            left = options.minutes - (time.monotonic() - start) / 60
            limit = ["--minutes", f"{max(left, 0.01):.2f}"]
        run([*PARTS[name].arguments(options.out), *limit])
        if options.minutes is not None and time.monotonic() - start > 60 * options.minutes:
            print("time is up: the same command goes on from here")
            return


def save_splits(out: Path) -> None:
    """Save who is judged on what, and print what there is."""
    held_out = [("--test", pattern) for pattern in TEST]
    held_out += [("--validation", pattern) for pattern in VALIDATION]
    flat = [word for pair in held_out for word in pair]
    run(["dataset", "split", str(out), "--name", "networks", "--by", "network", *flat])
    run(["dataset", "split", str(out), "--name", "tasks", "--by", "task"])
    run(["dataset", "describe", str(out)])


if __name__ == "__main__":
    main()
