#!/usr/bin/env bash
# Everything that needs a GPU, in one go, on a machine that has no Rust.
#
#     tests/gpu.sh build FOLDER     where Rust is: test and benchmark programs, stripped and packed, into FOLDER (minutes)
#     tests/gpu.sh run FOLDER OUT   where the GPU is: runs them, compute-sanitizer and the peers; logs into OUT (under 10 minutes)
#
# FOLDER's programs need glibc of the building machine or newer, the driver, and NVRTC and cuBLAS of a CUDA toolkit or of PyTorch.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

build() {
    local folder=$1 program
    mkdir -p "$folder"
    export CARGO_INCREMENTAL=0 CUDARC_CUDA_VERSION=13000 # whatever nvcc is here
    for program in '--test cuda' '--example cuda_bench'; do
        local name=${program##*[ -]} path
        local command=build
        [[ $program == --example* ]] || command='test --no-run'
        path=$(cargo $command --release --features cuda $program --message-format=json |
            sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
        [[ -n $path ]] || { echo "$program did not build" >&2; exit 1; }
        strip -o "$folder/$name" "$path"
        gzip --force "$folder/$name" # what is carried to a machine should be small
    done
    du -sh "$folder"
}

libraries() { # NVRTC and cuBLAS, of the toolkit or of PyTorch
    local found
    # `stubs` hold a libcuda that knows no device, which would be found before the driver.
    found=$(find -L /usr/local/cuda*/lib64 "$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/nvidia" \
        -not -path '*/stubs*' \( -name 'libnvrtc.so*' -o -name 'libcublas.so*' \) -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
    export LD_LIBRARY_PATH=$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    echo "libraries: $LD_LIBRARY_PATH"
}

step() { # step SECONDS NAME COMMAND…
    local seconds=$1 name=$2 from=$SECONDS
    shift 2
    timeout -k 5 "$seconds" "$@" >"$OUT/$name.log" 2>&1
    local rc=$?
    ((rc == 0)) || failed+=("$name ($rc)")
    echo "$name: rc $rc, $((SECONDS - from)) s"
    tail -5 "$OUT/$name.log" | cut -c 1-300 | sed 's/^/    /'
}

run() {
    local programs=$1
    OUT=$2
    mkdir -p "$OUT"
    failed=()
    local name unpacked
    unpacked=$(mktemp -d)
    for name in cuda cuda_bench; do
        gzip --decompress --stdout "$programs/$name.gz" >"$unpacked/$name" || exit 1
        chmod +x "$unpacked/$name"
    done
    programs=$unpacked
    libraries
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv
    timeout 60 "$programs/cuda" --exact what_does_not_fit_is_refused --nocapture >"$OUT/first.log" 2>&1 || failed+=(first)
    if grep -q 'skipped, no GPU' "$OUT/first.log"; then
        cat "$OUT/first.log"
        echo 'no GPU is seen: nothing else is run'
        return 1
    fi
    # PEFT compiles its kernel when it is first imported; its architecture is the GPU's own.
    TORCH_CUDA_ARCH_LIST=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1)
    export TORCH_CUDA_ARCH_LIST
    timeout 150 python3 -c 'from peft.tuners.boft.layer import get_fbd_cuda; get_fbd_cuda()' >/dev/null 2>&1 &
    local peft=$!
    # Each test in a process of its own: an address that is none breaks the context for all that follow.
    step 180 tests bash -c 'rc=0
        for test in $("$0" --list | sed -n "s/: test$//p"); do timeout 90 "$0" --exact "$test" --nocapture || rc=1; done
        exit $rc' "$programs/cuda"
    wait "$peft"
    step 120 peers python3 tests/peers/time_peft_cuda.py --seconds 5
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck; do
            PAPILIO_SMALL=1 step 60 "$tool" compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 9 "$programs/cuda" --test-threads=1
        done
    else
        echo 'skipped: no compute-sanitizer here'
    fi
    step 120 bench "$programs/cuda_bench"
    step 90 tune "$programs/cuda_bench" --tune
    if ((${#failed[@]})); then
        echo "failed: ${failed[*]}"
        return 1
    fi
    echo "everything passed in $SECONDS s"
}

case ${1:-} in
build) [[ $# == 2 ]] || usage; build "$2" ;;
run) [[ $# == 3 ]] || usage; run "$2" "$3" ;;
*) usage ;;
esac
