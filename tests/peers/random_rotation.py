"""Random rotations after the definition in the documentation of papilio::random, in numpy and independent of papilio.

    python tests/peers/random_rotation.py > tests/random/golden.rs       hashes of rotated vectors, which tests/random.rs compares
    python tests/peers/random_rotation.py --energies                     how evenly one-hot vectors are spread, for docs/random.md

Needs numpy.
"""
import sys

import numpy as np

WORD = (1 << 64) - 1


class Generator:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed & WORD

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & WORD
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        return z ^ (z >> 31)

    def below(self, bound):
        while True:
            wide = self.next() * bound
            if wide & WORD >= (1 << 64) % bound:
                return wide >> 64

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]

    def signs(self, count):
        words = np.array([self.next() for _ in range(-(-count // 64))], "<u8")
        return 1.0 - 2.0 * np.unpackbits(words.view(np.uint8), bitorder="little")[:count]

    def uniform(self):
        return (self.next() >> 11) / (1 << 53)


def shape(n):
    """Block, unit, units of a block, blocks."""
    p = min(256, 1 << (n.bit_length() - 1))
    if n == 384:
        p = 128
    if n > 1280 and n % 256:
        p = 512
    while n > 4096 and p * (p // 16) < n:
        p *= 2
    w = min(max(p // 8, 1), 16)
    return p, w, p // w, -(-n // p)


def blocks(n, number):
    """Where the units of each block of a round start."""
    p, w, units, m = shape(n)
    kind = number % 3

    def run(count, width, i):
        last = n - width * w
        if i == count - 1:
            return last
        return w * min(-(-i * last // ((count - 1) * w)), max(last // w + i + 1 - count, 0))

    if m == 1:
        return [[u * w for u in range(units)]]
    if kind == 0 or n < p + w or (kind == 2 and m < 6):
        return [[run(m, units, b) + u * w for u in range(units)] for b in range(m)]
    d = [0 if kind == 1 else m * ((units // 2 - 1) * u % units) // units for u in range(units)]
    return [[run(units, m, u) + (b + d[u]) % m * w for u in range(units)] for b in range(m)]


def coordinates(starts, w):
    """Of a block: one row for each unit."""
    return np.array(starts)[:, None] + np.arange(w)


def add(x, distance, factors=None):
    """(a, b) <- (a + b, a - b) along the last axis; (f a + b, a - f b) with factors."""
    y = x.reshape(x.shape[:-1] + (-1, 2, distance))
    a, b = y[..., 0, :].copy(), y[..., 1, :].copy()
    if factors is None:
        y[..., 0, :], y[..., 1, :] = a + b, a - b
    else:
        f = factors.reshape(-1, 1)
        y[..., 0, :], y[..., 1, :] = f * a + b, a - f * b


def distances(start, end):
    while start < end:
        yield start
        start *= 2


class Rotation:
    def __init__(self, n, seed, rounds=3):
        p, w, units, m = shape(n)
        self.w, self.blocks = w, []
        generator = Generator(Generator(seed).next() ^ n)
        for number in range(rounds):
            for starts in blocks(n, number):
                if m > 1:
                    generator.shuffle(starts)
                signs = generator.signs(p)
                kind = number % 3
                between = generator.signs(p // 2 if (kind == 0 and w > 1) or (kind == 2 and units > 1) else 0)
                self.blocks.append((kind, coordinates(starts, w).ravel(), signs, between))

    def stages(self, kind, signs, between, dtype):
        """What a block does, as functions on vectors of its coordinates, each with its inverse."""
        p, w = len(signs), self.w
        levels = (p // w if kind == 1 else p).bit_length() - 1
        scale = dtype(2.0 ** -(levels // 2))
        if levels % 2:
            scale = scale * np.sqrt(dtype(0.5))
        signs, between = signs.astype(dtype) * scale, between.astype(dtype)

        def multiply(x, by):
            x *= by

        def odd(x):
            x.reshape(x.shape[:-1] + (-1, 2, w))[..., 1, :] *= between.reshape(-1, w)

        def plain(distance):
            return lambda x: add(x, distance)

        across = [plain(d) for d in distances(w, p)]
        within = [plain(d) for d in distances(1, w)]
        if kind == 0 and w > 1:
            within[0] = lambda x: add(x, 1, between)
        first = [lambda x: multiply(x, signs)]
        if kind == 0:
            return first + across[::-1] + within
        if kind == 1:
            return first + across
        return first + within + ([odd] if len(between) else []) + across

    def turn(self, x, back=False):
        """In place, for the vectors of the last axis."""
        for kind, places, signs, between in self.blocks[:: -1 if back else 1]:
            y = x[..., places]
            for stage in self.stages(kind, signs, between, x.dtype.type)[:: -1 if back else 1]:
                stage(y)
            x[..., places] = y


def fnv(x):
    h = 0xCBF29CE484222325
    for byte in x.tobytes():
        h = ((h ^ byte) * 0x100000001B3) & WORD
    return h


CASES = [(n, 3, 42) for n in [1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 64, 100, 128, 143, 200, 256, 257, 384, 385, 500, 768, 960,
         1000, 1024, 1281, 1536, 2000, 3000, 3072, 3840, 4096, 4097, 4200, 8192, 10007, 20000]]
CASES += [(300, 1, 0), (1000, 2, 1), (1024, 4, 7), (96, 5, WORD), (128, 8, 1 << 63), (1600, 16, 3), (5000, 6, 12345678901234567890)]


def golden():
    print('''//! Hashes of rotated vectors from an independent program, `tests/peers/random_rotation.py`, written after the definition in
//! `papilio::random`.

/// n, rounds, seed; FNV-1a of Qx in f32, of the inverse of that, and both in f64, for coordinates from Generator::new(9), uniform
/// less a half. A number that changes here breaks what users have stored.
#[rustfmt::skip]''')
    print(f"pub(crate) const HASHES: [(usize, usize, u64, [u64; 4]); {len(CASES)}] = [")
    for n, rounds, seed in CASES:
        generator, hashes = Generator(9), []
        start = np.array([generator.uniform() - 0.5 for _ in range(n)])
        rotation = Rotation(n, seed, rounds)
        for dtype in (np.float32, np.float64):
            x = start.astype(dtype)
            rotation.turn(x)
            hashes.append(fnv(x))
            if dtype == np.float64:
                assert abs(np.linalg.norm(x) / np.linalg.norm(start) - 1) < 1e-14
            rotation.turn(x, back=True)
            hashes.append(fnv(x))
            assert abs(x - start).max() < 64 * np.finfo(dtype).eps
        print(f"    ({n}, {rounds}, {seed:#x}, [{', '.join(f'{h:#018x}' for h in hashes)}]),")
    print("];")


def energies(n):
    """n times the mean square of each coordinate, over all signs, for one-hot vectors: a transform gives each of its coordinates the
    mean of their energies. One input for each set of blocks that a coordinate is in at first."""
    p, w, _, m = shape(n)
    inside = np.zeros((m, n), bool)
    for b, starts in enumerate(blocks(n, 0)):
        inside[b, coordinates(starts, w).ravel()] = True
    inputs = np.unique(inside, axis=1, return_index=True)[1]
    energy = np.zeros((n, len(inputs)))
    energy[inputs, range(len(inputs))] = n
    for number in range(3):
        for starts in blocks(n, number):
            places = coordinates(starts, w)
            energy[places] = energy[places].mean(axis=0 if number == 1 else (0, 1), keepdims=True)
    return energy.min(), energy.max()


if __name__ == "__main__":
    if sys.argv[1:] == ["--energies"]:
        ends = [1, 8, 16, 64, 257, 384, 513, 1025, 1281, 2049, 3073, 4097, 4201]
        for first, end in zip(ends, ends[1:]):
            found = [(*energies(n), n) for n in range(first, end)]
            low, high = min(found), max(found, key=lambda f: f[1])
            print(f"{first:5} to {end - 1:5}: {low[0]:.4f} (n = {low[2]}) to {high[1]:.4f} (n = {high[2]})", flush=True)
        for n in (96, 129, 160, 384, 768, 960, 1000, 1024, 1536, 1792, 2560, 3000, 3072, 3584, 3840, 4096, 11008):
            print(n, "{:.4f} {:.4f}".format(*energies(n)), flush=True)
    else:
        golden()
