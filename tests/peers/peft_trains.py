#!/usr/bin/env python3
"""PEFT trains what papilio trains, step by step the same.

    python3 -m venv venv && venv/bin/pip install torch peft transformers safetensors      # CPU builds do
    cargo run --manifest-path integrations/candle/Cargo.toml --example peft_steps -- peft_steps
    venv/bin/python tests/peers/peft_trains.py peft_steps      # [STEPS], 200 as in the example

The example has trained a tiny BERT and a tiny Llama, BOFT with three factors and OFT (the exact Cayley map), by plain gradient descent in
double precision, and left models, batches and losses. Here PEFT trains the same models on the same batches. Every loss must agree to
1e-10 in the first 20 steps and to 1e-6 after that, and the losses must fall. Then PEFT loads the adapter that the example saved: the same logits to 1e-10.
"""
import json, os, sys, warnings

import torch
import torch.nn.functional as F
import transformers
from peft import BOFTConfig, OFTConfig, PeftModel, get_peft_model
from peft.tuners.boft import layer as boft
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.models.llama import modeling_llama

warnings.filterwarnings("ignore", category=FutureWarning)
transformers.utils.logging.disable_progress_bar()
torch.set_default_dtype(torch.float64)
torch.use_deterministic_algorithms(True)


class BlocksOnTheDiagonal:
    """PEFT has this for CUDA only, and uses one factor where there is none: `[N, D, b, b]` to N matrices with D blocks."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]

    @staticmethod
    def backward(gradient, blocks):
        factors, count, size, _ = blocks.shape
        cut = gradient.reshape(factors, count, size, count, size)
        return [torch.stack([cut[:, i, :, i, :] for i in range(count)], dim=1)]


boft._FBD_CUDA = BlocksOnTheDiagonal()


# transformers computes these in single precision, whatever the model is stored in.
def rms_norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def rotary(self, x, position_ids):
    half = self.config.hidden_size // self.config.num_attention_heads // 2
    frequencies = ROPE_THETA ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = position_ids[..., None].double() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


ROPE_THETA = 10000.0
modeling_llama.LlamaRMSNorm.forward = rms_norm
modeling_llama.LlamaRotaryEmbedding.forward = rotary
single_softmax = F.softmax
F.softmax = lambda x, dim=None, dtype=None, **rest: single_softmax(x, dim=dim, **rest)


def read(*path):
    with open(os.path.join(*path)) as file:
        return json.load(file)


def base_model(kind, directory):
    auto = AutoModelForSequenceClassification if kind == "bert" else AutoModelForCausalLM
    model = auto.from_pretrained(directory, attn_implementation="eager", dtype=torch.float64)
    return model.double()


def logits_of(kind, model, examples, batch):
    tokens = [examples["tokens"][i] for i in batch]
    length = max(map(len, tokens))
    ids = torch.tensor([t + [0] * (length - len(t)) for t in tokens])
    mask = torch.tensor([[1] * len(t) + [0] * (length - len(t)) for t in tokens])
    return ids, model(input_ids=ids, attention_mask=mask if kind == "bert" else None).logits


def loss_of(kind, model, examples, batch):
    ids, logits = logits_of(kind, model, examples, batch)
    if kind == "bert":
        return F.cross_entropy(logits, torch.tensor([examples["classes"][i] for i in batch]))
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def mean(numbers):
    return sum(numbers) / len(numbers)


def agrees(name, differences, bound):
    """Every single one: the largest of numbers with a NaN among them may be any of them."""
    wrong = [(i, d) for i, d in enumerate(differences) if not d < bound]
    assert not wrong, f"{name}: expected differences below {bound}, got {wrong[0][1]} at {wrong[0][0]}"


def main(out, steps=200):
    assert steps >= 40, f"steps: expected at least 40, got {steps}"
    for kind in ("bert", "llama"):
        run = read(out, kind, "run.json")
        examples, batches = run["examples"], run["batches"]
        task = "SEQ_CLS" if kind == "bert" else "CAUSAL_LM"
        common = dict(target_modules=run["targets"], modules_to_save=run["whole"] or None, task_type=task)
        for name in ("boft", "oft"):
            if name == "boft":
                config = BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=3, **common)
            else:
                config = OFTConfig(oft_block_size=8, use_cayley_neumann=False, **common)
            model = get_peft_model(base_model(kind, os.path.join(out, kind, "base")), config).double()
            model.train()  # nothing is dropped: all rates are 0
            trained = [p for p in model.parameters() if p.requires_grad]
            assert all(p.dtype == torch.float64 for p in model.parameters())
            optimiser = torch.optim.SGD(trained, lr=run["rate"])
            ours, differences = read(out, kind, f"{name}.json"), []
            found = (len(batches), len(ours["losses"]))
            assert found == (steps, steps), f"{kind} {name}: expected {steps} batches and losses, got {found}"
            for batch, expected in zip(batches, ours["losses"], strict=True):
                loss = loss_of(kind, model, examples, batch)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                differences.append(abs(loss.item() - expected) / abs(expected))
            loaded = PeftModel.from_pretrained(
                base_model(kind, os.path.join(out, kind, "base")), os.path.join(out, kind, name), autocast_adapter_dtype=False
            )
            loaded = loaded.double().eval()
            with torch.no_grad():
                got = logits_of(kind, loaded, examples, ours["first_batch"])[1].flatten()
            want = torch.tensor(ours["logits"])
            assert got.shape == want.shape, f"{kind} {name}: expected logits {want.shape}, got {got.shape}"
            difference = ((got - want).abs().max() / want.abs().max()).item()
            count = sum(p.numel() for p in trained)
            print(
                f"{kind:5} {name:4} {count:6} parameters, loss {ours['losses'][0]:.4f} to {ours['losses'][-1]:.4f}: largest relative "
                f"difference {max(differences[:20]):.1e} in 20 steps, {max(differences):.1e} in {len(differences)}; loaded {difference:.1e}"
            )
            assert len(differences) == steps
            agrees(f"{kind} {name}, first steps", differences[:20], 1e-10)
            agrees(f"{kind} {name}", differences, 1e-6)
            agrees(f"{kind} {name}, loaded", [difference], 1e-10)
            first, last = mean(ours["losses"][:20]), mean(ours["losses"][-20:])
            assert last < 0.9 * first, f"{kind} {name}: expected the loss to fall, got {first} to {last}"
    print("PEFT agrees")


main(sys.argv[1], *map(int, sys.argv[2:3]))
