#!/usr/bin/env python3
"""Merging a model of billions of parameters: time against a plain copy, and the memory that it takes.

    cargo build --release --features cli
    python3 benches/merge_large.py DIRECTORY [--layers 16] [--outputs] [--keep]

Makes in DIRECTORY a synthetic model of the shapes of Llama 3 8B in bf16 (16 layers: 8 GB; 32: 16 GB), in shards of about 2 GB with their index, and a
BOFT adapter (m = 2, b = 8) of all seven projections of each layer: PEFT's, which rotates inputs, or with --outputs LyCORIS's, which rotates outputs.
Copies the model as it is, merges the adapter, and copies it again, each waiting until the disk has it; takes the largest anonymous memory of the merge
every 20 ms (Linux; mapped files do not count). --papilio may name several commands to compare, each of which merges in turn. Prints a Markdown table.
Needs three times the size of the model on disk.
"""
import argparse, json, os, shutil, struct, subprocess, threading, time

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("directory")
arguments.add_argument("--layers", type=int, default=16)
arguments.add_argument("--block", type=int, default=8)
arguments.add_argument("--stages", type=int, default=2)
arguments.add_argument("--outputs", action="store_true", help="rotate outputs")
arguments.add_argument("--papilio", action="append", help="the command [target/release/papilio]")
arguments.add_argument("--keep", action="store_true", help="leave the files")
options = arguments.parse_args()

PROJECTIONS = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}
SHARD = 2 << 30
PIECE = 16 << 20


def random_bf16():
    """Numbers of magnitude 2^-7 to 2^-4, either sign."""
    high = bytes([(0x3C, 0x3D, 0xBC, 0xBD)[i % 4] for i in range(256)])
    piece = bytearray(PIECE)
    piece[0::2] = os.urandom(PIECE // 2)
    piece[1::2] = os.urandom(PIECE // 2).translate(high)
    return bytes(piece)


def write(path, dtype, size, tensors, fill):
    """A safetensors file of (name, shape), its numbers from the bytes `fill`, over and over."""
    header, end = {}, 0
    for name, shape in tensors:
        length = size
        for extent in shape:
            length *= extent
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while end > 0:
            file.write(fill[: min(len(fill), end)])
            end -= min(len(fill), end)


base, copy, out, adapter = (os.path.join(options.directory, name) for name in ("base", "copy", "merged", "adapter"))
for directory in (base, adapter):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
modules = [(f"model.layers.{i}.{name}", shape) for i in range(options.layers) for name, shape in PROJECTIONS.items()]
tensors = [("model.embed_tokens.weight", [128256, 4096])] + [(f"{name}.weight", list(shape)) for name, shape in modules]
shards, sizes = [[]], [0]
for name, shape in tensors:
    length = 2 * shape[0] * shape[1]
    if sizes[-1] > 0 and sizes[-1] + length > SHARD:
        shards.append([]), sizes.append(0)
    shards[-1].append((name, shape))
    sizes[-1] += length
fill, weight_map = random_bf16(), {}
for k, shard in enumerate(shards):
    file = f"model-{k + 1:05}-of-{len(shards):05}.safetensors"
    weight_map.update({name: file for name, _ in shard})
    write(os.path.join(base, file), "BF16", 2, shard, fill)
with open(os.path.join(base, "model.safetensors.index.json"), "w") as file:
    json.dump({"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map}, file)
with open(os.path.join(base, "config.json"), "w") as file:
    json.dump({"model_type": "llama", "torch_dtype": "bfloat16"}, file)
b, m, parameters = options.block, options.stages, []
for name, (rows, n) in modules:
    if options.outputs:
        flat = "lycoris_" + name.replace(".", "_")
        parameters += [(f"{flat}.oft_blocks", [m, rows // b, b, b]), (f"{flat}.alpha", []), (f"{flat}.rescale", [rows, 1])]
    else:
        parameters += [(f"base_model.model.{name}.boft_R", [m, n // b, b, b]), (f"base_model.model.{name}.boft_s", [rows, 1])]
# Any numbers are skew after their symmetric part is taken away; as bf16 they are what the weights are.
write(os.path.join(adapter, "adapter_model.safetensors"), "BF16", 2, parameters, fill)
if not options.outputs:
    with open(os.path.join(adapter, "adapter_config.json"), "w") as file:
        json.dump({"peft_type": "BOFT", "boft_block_size": b, "boft_n_butterfly_factor": m}, file)
os.sync()


def copied():
    shutil.rmtree(copy, ignore_errors=True)
    start = time.time()
    os.makedirs(copy)
    for name in sorted(os.listdir(base)):
        shutil.copyfile(os.path.join(base, name), os.path.join(copy, name))
        with open(os.path.join(copy, name), "rb") as file:
            os.fsync(file.fileno())
    seconds = time.time() - start
    shutil.rmtree(copy)
    return seconds


def merged(papilio):
    shutil.rmtree(out, ignore_errors=True)
    command = [papilio, "merge", "--base", base, "--adapter", adapter, "--out", out, "--json"]
    start = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    peak = [0]

    def watch():
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as status:
                    lines = [line.split() for line in status]
                peak[0] = max([peak[0]] + [int(line[1]) for line in lines if line[0] == "RssAnon:"])
            except (OSError, ValueError):
                pass
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.communicate()
    seconds = time.time() - start
    watcher.join()
    shutil.rmtree(out, ignore_errors=True)
    if process.returncode:
        raise SystemExit(f"merge failed with {process.returncode}")
    return seconds, peak[0] * 1024


total = sum(sizes)
before = copied()
commands = options.papilio or ["target/release/papilio"]
found = [(papilio, *merged(papilio)) for papilio in commands]
after = copied()
largest = max(4 * shape[0] * shape[1] for _, shape in tensors)
print(f"{total / 1e9:.1f} GB in {len(shards)} shards, {len(modules)} layers adapted by BOFT(m = {m}, b = {b}) of the {'outputs' if options.outputs else 'inputs'}\n")
print("| | seconds | GB/s | times a copy | anonymous memory |\n|---|---|---|---|---|")
print(f"| copy, before | {before:.1f} | {total / 1e9 / before:.2f} | | |")
for papilio, seconds, peak in found:
    print(f"| {papilio} merge | {seconds:.1f} | {total / 1e9 / seconds:.2f} | {2 * seconds / (before + after):.2f} | {peak / 1e6:.0f} MB |")
print(f"| copy, after | {after:.1f} | {total / 1e9 / after:.2f} | | |")
print(f"\nThe largest tensor as f32: {largest / 1e6:.0f} MB.")
if not options.keep:
    for directory in (base, adapter):
        shutil.rmtree(directory)
