#!/usr/bin/env python3
"""One training step through a BOFT rotation on one CPU thread: PEFT, a careful version in torch, and papilio.

    python3 -m venv venv && venv/bin/pip install torch peft
    cargo build --release --features cli
    venv/bin/python benches/against_peft.py --papilio target/release/papilio          # minutes: PEFT is slow

The rotation part alone is compared: blocks from parameters, the rotated batch, and the gradients of the batch and of the
parameters.

* PEFT forms the d x d rotation as a product of dense factors. Its part is the time of an adapted frozen linear layer less
  that of the same layer without adapter. On a CPU PEFT has no code for more than one factor (it falls back to one), so its
  CUDA copy of blocks into a block-diagonal matrix is replaced by `torch.block_diag`, which costs next to nothing here.
* The careful version rotates the activations: one batched product of small blocks for each factor, between permutations. With
  tokens in rows, as layers hand them on, and with tokens in columns, which torch copies less often. That both are PEFT's map
  is checked first, at a small size.
* papilio's part is `realize` + `apply` + `vjp` + `realize_vjp` of `papilio bench --json`.
"""
import argparse, gc, json, os, statistics, subprocess, time, warnings

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--papilio", default="target/release/papilio", help="the command, built with --release")
arguments.add_argument("--d", type=int, default=4096)
arguments.add_argument("--tokens", type=int, default=256)
arguments.add_argument("--block", type=int, default=8)
arguments.add_argument("--stages", type=int, default=4)
arguments.add_argument("--repeats", type=int, default=3, help="of PEFT; others run ten times as often")
arguments.add_argument("--skip-peft", action="store_true")
arguments.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
options = arguments.parse_args()

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
warnings.simplefilter("ignore")
import torch  # noqa: E402 (after the environment is set)
from torch import nn  # noqa: E402

torch.set_num_threads(1)


class BlockDiagonal:
    """What PEFT's CUDA extension computes: blocks [z, n, b, b] on the diagonals of z matrices."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*of_one) for of_one in blocks])]

    @staticmethod
    def backward(gradient, blocks):
        n, b = blocks.shape[1:3]
        diagonal = gradient.view(-1, n, b, n, b).diagonal(dim1=1, dim2=3)  # [z, b, b, n]
        return [diagonal.permute(0, 3, 1, 2).contiguous()]


def peft_layer(d, block, stages):
    from peft import BOFTConfig, get_peft_model
    from peft.tuners.boft import layer

    layer._FBD_CUDA = BlockDiagonal()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(d, d)

        def forward(self, x):
            return self.linear(x)

    config = BOFTConfig(boft_block_size=block, boft_n_butterfly_factor=stages, target_modules=["linear"])
    return get_peft_model(Net(), config)


class OnActivations(nn.Module):
    """x R for the rows of x, factor by factor; `weights` has PEFT's shape [stages, d / block, block, block]."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights.clone())

    def blocks(self):
        skew = 0.5 * (self.weights - self.weights.transpose(-1, -2))
        eye = torch.eye(skew.shape[-1])
        return torch.linalg.solve(eye + skew, eye - skew, left=False)

    def factors(self):
        """Number k and blocks of each factor: the last stands on the left of R, so it meets the row vectors first."""
        return reversed(list(enumerate(self.blocks())))


class TokensInRows(OnActivations):
    name = "torch, tokens in rows"

    def forward(self, x):
        tokens, d = x.shape
        count, b = self.weights.shape[1:3]
        for k, blocks in self.factors():
            x = x.reshape(tokens, d // (b << k), 2, 1 << k, b // 2).transpose(2, 3).reshape(tokens, count, b)
            x = torch.bmm(x.transpose(0, 1), blocks).transpose(0, 1)
            x = x.reshape(tokens, d // (b << k), 1 << k, 2, b // 2).transpose(2, 3).reshape(tokens, d)
        return x


class TokensInColumns(OnActivations):
    name = "torch, tokens in columns"

    def forward(self, x):
        tokens, d = x.shape
        count, b = self.weights.shape[1:3]
        x = x.t()
        for k, blocks in self.factors():
            x = x.reshape(d // (b << k), 2, 1 << k, b // 2, tokens).transpose(1, 2).reshape(count, b, tokens)
            x = torch.bmm(blocks.transpose(1, 2), x)
            x = x.reshape(d // (b << k), 1 << k, 2, b // 2, tokens).transpose(1, 2).reshape(d, tokens)
        return x.t()


def step(module, x, gradient):
    """Forward and backward, with the gradient of the input."""
    for parameter in module.parameters():
        parameter.grad = None
    x.grad = None
    module(x).backward(gradient)


def resident(field):
    """Megabytes of this process, where the system tells; the peak is that since the last reset."""
    try:
        lines = open("/proc/self/status").read().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


def timed(work, repeats):
    """Median seconds, and megabytes added at the peak."""
    gc.collect()
    try:
        open("/proc/self/clear_refs", "w").write("5")
    except OSError:
        pass
    before, times = resident("VmRSS"), []
    for _ in range(repeats + (repeats > 1)):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[repeats > 1:]), resident("VmHWM") - before


def agree():
    """The careful versions compute what PEFT computes."""
    d, block, stages = 64, 8, 3
    net = peft_layer(d, block, stages)
    adapted = net.base_model.model.linear
    weights = adapted.boft_R["default"]
    nn.init.normal_(weights, std=0.5)
    with torch.no_grad():
        adapted.base_layer.weight.copy_(torch.eye(d))
        adapted.base_layer.bias.zero_()
        x = torch.randn(5, d)
        for version in (TokensInRows, TokensInColumns):
            gap = (net(x) - version(weights.detach())(x)).abs().max().item()
            assert gap < 1e-5, f"{version.__name__} differs from PEFT by {gap}"


def ours():
    command = [options.papilio, "bench", "--json", "--no-dense", "--seconds", "3", "--threads", "1"]
    sizes = {"--n": options.d, "--batch": options.tokens, "--block": options.block, "--stages": options.stages}
    for name, value in sizes.items():
        command += [name, str(value)]
    case = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["cases"][0]
    if "does_not_fit" in case:
        raise SystemExit(case["does_not_fit"])
    return case["seconds"]


torch.manual_seed(0)
seconds = ours()
verbs = ("realize", "apply", "vjp", "realize_vjp")
result = {"papilio": {"seconds": sum(seconds[verb] for verb in verbs), **{verb: seconds[verb] for verb in verbs}}}

d, tokens = options.d, options.tokens
gradient, x = torch.randn(tokens, d), torch.randn(tokens, d, requires_grad=True)
if not options.skip_peft:
    agree()
weights = 0.1 * torch.randn(options.stages, d // options.block, options.block, options.block)
for version in (TokensInRows, TokensInColumns):
    careful = version(weights)
    seconds_of_it, memory = timed(lambda: step(careful, x, gradient), 10 * options.repeats)
    result[version.name] = {"seconds": seconds_of_it, "added_mb": memory}

if not options.skip_peft:
    frozen = nn.Linear(d, d)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    time_frozen, _ = timed(lambda: step(frozen, x, gradient), 10 * options.repeats)
    net = peft_layer(d, options.block, options.stages)
    time_net, memory = timed(lambda: step(net, x, gradient), options.repeats)
    result["PEFT"] = {"seconds": time_net - time_frozen, "added_mb": memory, "frozen_layer": time_frozen}

result["sizes"] = vars(options) | {"torch": torch.__version__}
if options.json:
    print(json.dumps(result))
else:
    print(f"d = {d}, {tokens} tokens, b = {options.block}, m = {options.stages}, one thread\n")
    print("| rotation, forward and backward | ms | relative to papilio | memory added at the peak, MB |")
    print("|---|--:|--:|--:|")
    for name, one in result.items():
        if "seconds" in one:
            relative = one["seconds"] / result["papilio"]["seconds"]
            added = f"{one['added_mb']:.0f}" if "added_mb" in one else "–"
            print(f"| {name} | {1e3 * one['seconds']:.2f} | {relative:.1f}× | {added} |")
    print("\npapilio in ms: " + ", ".join(f"{verb} {1e3 * seconds[verb]:.2f}" for verb in verbs))
