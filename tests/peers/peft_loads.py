#!/usr/bin/env python3
"""PEFT loads what papilio writes, and computes with it what papilio does.

    python3 -m venv venv && venv/bin/pip install torch peft safetensors      # CPU builds do
    cargo build --release --features cli
    venv/bin/python tests/peers/peft_loads.py [--papilio target/release/papilio]

A small network gets an OFT adapter by PEFT itself. Then, each time loaded by PEFT and compared with what it should be:
  merge     papilio's merged weights are those that PEFT merges
  convert   to BOFT of one factor, and back to OFT: the same outputs
  convert   to LoRA of full rank: the same outputs
  save      written again by papilio (to BOFT): the same tensors
  extract   from base and merged weights, OFT and BOFT: the same outputs
Prints the largest relative difference of each and fails above 1e-4 (single precision).
"""
import argparse, os, subprocess, tempfile

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--papilio", default="target/release/papilio")
options = arguments.parse_args()

import torch
from peft import OFTConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 48)
        self.second = nn.Linear(48, 16)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def papilio(*command):
    subprocess.run([options.papilio, *command], check=True, stdout=subprocess.DEVNULL)


def compare(name, got, want):
    error = (got - want).abs().max().item() / want.abs().max().item()
    print(f"{name:32} {error:.1e}")
    assert error < 1e-4, name


with tempfile.TemporaryDirectory() as work:
    at = lambda name: os.path.join(work, name)
    net, x = Net(), torch.randn(64, 32)
    save_file(net.state_dict(), at("base.safetensors"))
    fresh = lambda: load_into(Net(), at("base.safetensors"))

    def load_into(model, file):
        model.load_state_dict(load_file(file))
        return model

    config = OFTConfig(oft_block_size=8, use_cayley_neumann=False, target_modules=["first", "second"])
    tuned = get_peft_model(fresh(), config)
    for name, parameter in tuned.named_parameters():
        if "oft_R" in name:
            parameter.data = 0.2 * torch.randn_like(parameter)
    tuned.eval()
    tuned.save_pretrained(at("oft"))
    with torch.no_grad():
        want = tuned(x)

        def loaded(name):
            model = PeftModel.from_pretrained(fresh(), at(name)).eval()
            return model(x)

        base = ["--base", at("base.safetensors")]
        papilio("merge", *base, "--adapter", at("oft"), "--out", at("merged.safetensors"))
        compare("merge", load_into(Net(), at("merged.safetensors"))(x), want)
        papilio("convert", *base, "--adapter", at("oft"), "--to", "peft-boft", "--out", at("boft"))
        compare("convert to BOFT", loaded("boft"), want)
        papilio("convert", *base, "--adapter", at("boft"), "--to", "peft-oft", "--out", at("oft-again"))
        compare("convert back to OFT", loaded("oft-again"), want)
        papilio("convert", *base, "--adapter", at("oft"), "--to", "lora", "--rank", "48", "--out", at("lora"))
        compare("convert to LoRA of full rank", loaded("lora"), want)
        papilio("convert", *base, "--adapter", at("boft"), "--to", "peft-boft", "--out", at("boft-again"))
        compare("BOFT written again", loaded("boft-again"), want)
        for stages, extra in (("oft", []), ("boft", ["--scale"])):
            name = f"extracted-{stages}"
            both = [*base, "--tuned", at("merged.safetensors"), "--out", at(name)]
            papilio("extract", *both, "--block", "8", "--stages", "1", *extra)
            compare(f"extract {stages}", loaded(name), want)
print("PEFT agrees")
