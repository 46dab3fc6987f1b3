#!/usr/bin/env python3
"""A training step of BOFT on a GPU: PEFT's layer, and the same rotation in plain torch on activations.

    python3 tests/peers/time_peft_cuda.py            # --d 4096 --tokens 2048 --b 8 --m 4; needs torch, and peft for its row
    cargo run --release --features cuda --example cuda_bench -- --quick    # papilio's row

Prints milliseconds (median of the runs that fit) and the peak of the memory that torch allocated; papilio's rotation is to be compared with
PEFT's layer less the linear layer that it is around, which has a row of its own. Where PEFT's kernel does not build, PEFT
falls back to one factor; then the function it would call is given to it in plain torch, as its own gradient function wants it.
"""
import argparse, statistics, time, warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")
parser = argparse.ArgumentParser()
for name, default in [("d", 4096), ("tokens", 2048), ("b", 8), ("m", 4), ("seconds", 20)]:
    parser.add_argument(f"--{name}", type=int, default=default)
a = parser.parse_args()
if not torch.cuda.is_available():
    raise SystemExit("skipped, no GPU")
device = torch.device("cuda")


class OnActivations(nn.Module):
    """x·R by one batched product for each factor; the blocks by torch's solver."""

    def __init__(self, d, b, m):
        super().__init__()
        self.d, self.b, self.m = d, b, m
        self.r = nn.Parameter(0.1 * torch.randn(m, d // b, b, b, device=device))

    def forward(self, x):
        d, b, half = self.d, self.b, self.b // 2
        skew = 0.5 * (self.r - self.r.transpose(-1, -2))
        eye = torch.eye(b, device=device)
        blocks = torch.linalg.solve(eye + skew, eye - skew, left=False)
        for i in reversed(range(self.m)):
            k = 2**i
            t = x.reshape(-1, d // (k * b), 2, k, half).transpose(2, 3).reshape(-1, d // b, b)
            t = torch.bmm(t.transpose(0, 1), blocks[i]).transpose(0, 1)
            x = t.reshape(-1, d // (k * b), k, 2, half).transpose(2, 3).reshape(-1, d)
        return x


class BlocksOnTheDiagonal:
    """What PEFT's kernel does, `[N, D, b, b]` to N matrices with D blocks on their diagonals, and its adjoint."""

    @staticmethod
    def forward(blocks):
        n, count, b, _ = blocks.shape
        out = torch.zeros(n, count, b, count, b, device=blocks.device, dtype=blocks.dtype)
        i = torch.arange(count, device=blocks.device)
        out[:, i, :, i, :] = blocks.transpose(0, 1)
        return [out.reshape(n, count * b, count * b)]

    @staticmethod
    def backward(gradient, blocks):
        n, count, b, _ = blocks.shape
        i = torch.arange(count, device=blocks.device)
        return [gradient.reshape(n, count, b, count, b)[:, i, :, i, :].transpose(0, 1)]


def row(name, build):
    """Prints a row and gives its numbers, or None."""
    try:
        torch.cuda.empty_cache()
        module = build()
        x = torch.randn(a.tokens, a.d, device=device, requires_grad=True)
        g = torch.randn(a.tokens, a.d, device=device)

        def step():
            module(x).backward(g)
            torch.cuda.synchronize()

        step()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        times, start = [], time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - start < a.seconds and len(times) < 50):
            t = time.perf_counter()
            step()
            times.append(time.perf_counter() - t)
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20
        milliseconds = 1e3 * statistics.median(times)
        print(f"| {name} | {milliseconds:.3f} | {peak:.0f} |", flush=True)
        return milliseconds, peak
    except Exception as error:  # what a peer cannot do is a result
        print(f"| {name} | {type(error).__name__}: {str(error)[:200]} | |", flush=True)


def peft_layer(b, m, ours):
    import peft
    from peft.tuners.boft import layer as boft

    if ours:
        boft._FBD_CUDA = BlocksOnTheDiagonal()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(a.d, a.d)

        def forward(self, x):
            return self.lin(x)

    config = peft.BOFTConfig(boft_block_size=b, boft_n_butterfly_factor=m, target_modules=["lin"])
    model = peft.get_peft_model(Net().to(device), config)
    factors = next(p for name, p in model.named_parameters() if "boft_R" in name).shape[0]
    print(f"<!-- PEFT {peft.__version__}: {factors} factors -->", flush=True)
    return model


print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; d = {a.d}, {a.tokens} tokens, b = {a.b}, m = {a.m}, float32\n")
print("| step, forward and backward | ms | peak MiB |\n|---|---|---|", flush=True)
torch.backends.cuda.matmul.allow_tf32 = False
row("torch, rotation of activations", lambda: OnActivations(a.d, a.b, a.m))
linear = lambda: nn.Linear(a.d, a.d, device=device).requires_grad_(False)
alone = row("frozen linear layer alone", linear)
row("torch, rotation of activations and linear layer", lambda: nn.Sequential(OnActivations(a.d, a.b, a.m), linear()))
for name, ours in [("PEFT's BOFT layer as it is", False), ("PEFT's BOFT layer, blocks placed by torch", True)]:
    layer = row(name, lambda: peft_layer(a.b, a.m, ours))
    if alone and layer:
        print(f"| {name}, less the frozen linear layer | {layer[0] - alone[0]:.3f} | {layer[1] - alone[1]:.0f} |", flush=True)
