#!/usr/bin/env python3
"""Sweeps of block polar factors as one would write them in numpy, beside `examples/fit.rs`, one thread.

    python3 -m venv venv && venv/bin/pip install numpy                        # brings OpenBLAS
    taskset -c 1 venv/bin/python benches/sweeps_in_numpy.py
    taskset -c 1 cargo run --release --example fit -- 512 10

One Haar target of n = 512, BOFT(m, b) of rotations, from random blocks: the error e and the seconds of 150 sweeps (60 for b = 16), or fewer
where a sweep lowers e by less than 1e-5 of it. Prints a Markdown table.
"""
import argparse, os, time

for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"
import numpy as np  # noqa: E402 (after the environment is set)

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--n", type=int, default=512)
arguments.add_argument("--seed", type=int, default=0)
options = arguments.parse_args()
n, rng = options.n, np.random.default_rng(options.seed)


def rotations(m):
    """The nearest rotations of a stack of matrices."""
    u, _, v = np.linalg.svd(m)
    u[..., :, -1] *= np.sign(np.linalg.det(u @ v))[..., None]
    return u @ v


def wiring(m, b):
    """Coordinates of each block of each stage of BOFT(m, b): runs of b/2, radix 2, distance 2^k runs."""
    half, at = b // 2, np.arange(n)
    for k in range(m):
        runs = at.reshape(-1, 2, 2**k, half)  # group, radix, distance, run
        yield runs.transpose(0, 2, 1, 3).reshape(-1, b)


def left(blocks, index, z):
    out = z.copy()
    out[index.ravel()] = (blocks @ z[index.ravel()].reshape(len(index), -1, z.shape[1])).reshape(-1, z.shape[1])
    return out


def right(blocks, index, z):
    return left(blocks, index, z.T).T


def sweeps(q, m, b, most):
    stages = list(wiring(m, b))
    blocks = [rotations(rng.normal(size=(n // b, b, b))) for _ in stages]
    before = np.inf
    for sweep in range(1, most + 1):
        z = q  # of the stages below, none; of those above, all: Z = (F_m ... F_i)' Q (F_{i-1} ... F_1)'
        for index, block in zip(reversed(stages), reversed(blocks)):
            z = left(block.transpose(0, 2, 1), index, z)
        for i, index in enumerate(stages):
            z = left(blocks[i], index, z)
            blocks[i] = rotations(z[index[:, :, None], index[:, None, :]])
            z = right(blocks[i], index, z)
        e = 1 - np.trace(z) / n
        if before - e < 1e-5 * e:
            break
        before = e
    return sweep, e


q, _ = np.linalg.qr(rng.normal(size=(n, n)))
print("| wiring | sweeps | e | seconds |\n|---|---|---|---|")
for m, b in [(1, 2), (9, 2), (8, 4), (1, 16), (6, 16)]:
    start = time.perf_counter()
    sweep, e = sweeps(q, m, b, 60 if b == 16 else 150)
    print(f"| BOFT({m},{b}) | {sweep} | {e:.4f} | {time.perf_counter() - start:.2f} |", flush=True)
