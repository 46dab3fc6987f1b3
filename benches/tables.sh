#!/usr/bin/env bash
# Writes docs/benchmarks/tables.md and the pictures beside it:
#     cargo build --release --features cli && benches/tables.sh [SECONDS for each case, 1 by default]
# Takes minutes. `PAPILIO` names the command, if it is not target/release/papilio.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
papilio=${PAPILIO:-target/release/papilio}
seconds=${1:-1}
pictures=docs/benchmarks
tables=$pictures/tables.md
mkdir -p "$pictures"
unfinished=$(mktemp)
chmod a+r "$unfinished"
trap 'rm -f "$unfinished"' EXIT

machine() {
    local model
    model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)
    echo "${model:-$(uname -m)}, $("$papilio" --version), $(date +%F), $seconds s for each case"
}

section() { printf '\n### %s\n' "$1"; }

bench() { # its options; prints the command, then the table without the line that names the instruction set
    printf '\n`papilio bench %s`\n\n' "$*"
    "$papilio" bench --markdown --seconds "$seconds" "$@" | tail -n +3
}

everything() {
    printf '# Tables\n\nWritten by `benches/tables.sh`; [benchmarks.md](../benchmarks.md) tells how to read them.\n\n%s.\n' "$(machine)"

    section 'Full butterflies, b = 2'
    bench --n 64,128,256,1024,4096 --batch 1,16,512 --block 2 --verbs apply

    section 'Larger blocks'
    for of in '4 --stages 2' '8 --stages 4' '32 --stages 2'; do
        bench --n 256,1024,4096 --batch 1,16,512 --block $of --verbs apply
    done

    section 'Beyond the caches: 16 Mi coordinates, 64 MiB in single precision'
    for size in '128 --batch 131072' '1024 --batch 16384' '4096 --batch 4096'; do
        bench --n $size --block 2 --type f32,bf16,f16 --verbs apply --no-dense
    done

    section 'Arbitrary tables'
    bench --n 1024 --batch 1,16,512 --block 2 --stages 10 --topology random-pairings --verbs apply
    bench --n 1024 --batch 1,16,512 --block 2 --topology benes --verbs apply

    section 'Double precision and complex numbers'
    bench --n 256,1024,4096 --batch 1,512 --block 2 --type f64,c32 --verbs apply
    bench --n 256,1024,4096 --batch 1,512 --block 8 --stages 4 --type f64,c32 --verbs apply

    section 'Gradients and blocks, relative to apply of the same batch'
    for of in 2 '4 --stages 2' '8 --stages 4' '32 --stages 2'; do
        bench --n 256,1024,4096 --batch 256 --block $of --no-dense
    done
    bench --n 4096 --batch 256 --block 8 --stages 4 --chart Exponential --no-dense

    section 'Threads'
    bench --n 1024 --batch 256,1024,4096,32768 --block 2 --threads 1,2 --verbs apply --force --plot $pictures/threads.svg
    bench --n 1048576 --batch 1,16 --block 2 --threads 1,2 --verbs apply --no-dense

    section 'Without the instruction sets: the portable kernels beside a plain loop'
    bench --n 256,1024 --batch 512 --block 2 --isa portable --naive --no-dense --verbs apply
    bench --n 256,1024 --batch 512 --block 8 --stages 4 --isa portable --naive --no-dense --verbs apply
    bench --n 1024 --batch 512 --block 2 --isa avx2 --naive --no-dense --verbs apply

    section 'Pictures'
    bench --n 16,32,64,128,256,512,1024,2048,4096,8192 --batch 1,512 --block 2 --verbs apply --force --plot $pictures/sizes.svg
    bench --n 4096 --batch 1,16,512 --block 2,4,8,16,32 --stages 2 --verbs apply --no-dense --force --plot $pictures/blocks.svg
}

everything >"$unfinished"
cp "$unfinished" $tables
