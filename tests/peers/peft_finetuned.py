#!/usr/bin/env python3
"""PEFT loads the adapters that the examples of integrations/candle trained, LoRA and those of a vision transformer among them.

    python3 -m venv venv && venv/bin/pip install torch peft "transformers<5" safetensors     # CPU builds do
    cargo build --release --features cli
    cd integrations/candle && cargo run --release --example finetune_images -- images
    cargo run --release --example finetune_text -- --quick --method lora --out text --merged text-merged
    ../../venv/bin/python ../../tests/peers/peft_finetuned.py --papilio ../../target/release/papilio \
        --base images/base images/*/ --base text/quick-bert --merged text-merged text/adapter

(transformers 5 gave new names to the modules of ViT, and PEFT does not translate those of adapters: hence an older one.)
Each adapter is loaded by PEFT on the model, and must change what comes out. It must come out as from a plain model: the one after `--merged`, if
there is one; else, for LoRA, W + alpha/rank·B·A as made here, and for rotations what `papilio merge` makes. Prints the largest relative
difference of the logits and fails above 2e-5 (single precision).
"""
import json, os, subprocess, sys, tempfile, warnings

import torch
from peft import PeftModel
from peft.tuners.boft import layer as boft
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification


class BlocksOnTheDiagonal:
    """PEFT has this for CUDA only, and uses one factor where there is none: `[N, D, b, b]` to N matrices with D blocks."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]


boft._FBD_CUDA = BlocksOnTheDiagonal()


def model(directory):
    with open(os.path.join(directory, "config.json")) as file:
        is_vision = json.load(file)["model_type"] == "vit"
    auto = AutoModelForImageClassification if is_vision else AutoModelForSequenceClassification
    return auto.from_pretrained(directory).eval()


def logits(of):
    torch.manual_seed(0)
    config, count = of.config, 16
    if config.model_type == "vit":
        return of(torch.randn(count, config.num_channels, config.image_size, config.image_size)).logits
    return of(torch.randint(0, config.vocab_size, (count, 12))).logits


def lora(base, directory, config):
    """W + alpha/rank·B·A, and what was trained as a whole."""
    plain, tensors = model(base), load_file(os.path.join(directory, "adapter_model.safetensors"))
    state, front = plain.state_dict(), "base_model.model."
    for name in [name.removeprefix(front) for name in tensors]:
        if name.endswith(".lora_A.weight"):
            a, b = (tensors[front + name.replace("lora_A", which)].double() for which in ("lora_A", "lora_B"))
            weight = state[name.replace(".lora_A", "")]
            weight.copy_(weight.double() + config["lora_alpha"] / config["r"] * b @ a)
        elif ".lora_" not in name:
            state[name].copy_(tensors[front + name])
    return plain


papilio, base, merged, seen = "target/release/papilio", None, None, 0
arguments = iter(sys.argv[1:])
for argument in arguments:
    if argument == "--papilio":
        papilio = next(arguments)
    elif argument == "--base":
        base = next(arguments)
    elif argument == "--merged":
        merged = next(arguments)
    elif os.path.exists(os.path.join(argument, "adapter_config.json")):
        with open(os.path.join(argument, "adapter_config.json")) as file:
            config = json.load(file)
        with torch.no_grad(), tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
            warnings.simplefilter("error")  # of keys that are missing
            warnings.simplefilter("ignore", category=FutureWarning)
            before, adapted = logits(model(base)), logits(PeftModel.from_pretrained(model(base), argument).eval())
            if merged:
                want = logits(model(merged))
            elif config["peft_type"] == "LORA":
                want = logits(lora(base, argument, config))
            else:
                out = os.path.join(work, "merged")
                command = [papilio, "merge", "--base", base, "--adapter", argument, "--out", out]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                want = logits(model(out))
        error = ((adapted - want).abs().max() / want.abs().max()).item()
        change = ((adapted - before).abs().max() / want.abs().max()).item()
        print(f"{config['peft_type']:5} {argument:32} difference {error:.1e}, change {change:.2f}")
        assert error < 2e-5 and change > 0.01, argument
        merged, seen = None, seen + 1
assert seen > 0, "no adapter given"
