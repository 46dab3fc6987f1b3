#!/usr/bin/env bash
# Everything that needs a GPU, in one go, on a machine that has no Rust.
#
#     tests/gpu.sh build FOLDER             where Rust is: test and benchmark programs, stripped and packed, into FOLDER (minutes)
#     tests/gpu.sh run FOLDER OUT [STEP…]   where the GPU is: runs them, the peers, compute-sanitizer and ncu (at most 280 s)
#
# Steps, in this order: tests bench peers memcheck racecheck synccheck tune ncu; all, unless some are named. Each has a log in OUT.
# FOLDER's programs need glibc of the building machine or newer, the driver, and NVRTC and cuBLAS of a CUDA toolkit or of PyTorch.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
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
    local seconds=$1 name=$2 from=$SECONDS left=$((END - SECONDS))
    shift 2
    if ((left < 5)); then
        failed+=("$name (no time left)")
        echo "$name: no time left"
        return
    fi
    timeout -k 3 $((seconds < left ? seconds : left)) "$@" >"$OUT/$name.log" 2>&1
    local rc=$?
    ((rc == 0)) || failed+=("$name ($rc)")
    echo "$name: rc $rc, $((SECONDS - from)) s"
    tail -5 "$OUT/$name.log" | cut -c 1-300 | sed 's/^/    /'
}

wants() { # whether a step is to be run
    [[ " $steps " == *" $1 "* ]]
}

# Each test in a process of its own: an address that is none breaks the context for all that follow. What they print comes as it is
# printed, behind the test's name.
all_tests() {
    local program=$1 test rc=0 running=()
    for test in $("$program" --list | sed -n 's/: test$//p'); do
        { "$program" --exact "$test" --nocapture 2>&1 | sed -u "s/^/$test: /"; } &
        running+=($!)
    done
    for test in "${running[@]}"; do wait "$test" || rc=1; done
    return $rc
}

# With few vectors and small plans; a race is looked for ten times as long as a wrong address, so plan by plan, of each kind one.
# Races are those in shared memory; what stays in registers has none, but threads of a warp that must be together (synccheck).
memcheck() {
    PAPILIO_SMALL=1 compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9 "$1" --test-threads=1
}
synccheck() {
    PAPILIO_SMALL=1 compute-sanitizer --tool synccheck --report-api-errors no --error-exitcode 9 "$1" --test-threads=1
}
racecheck() {
    local test plan rc=0
    export PAPILIO_SMALL=1 PAPILIO_PLAN
    for plan in 'classic 1024' 'boft 2, 32 of 256' 'boft 3, 16' 'boft 3, 4' 'blocks of 64' 'any 1009' 'not orthogonal'; do
        for test in apply_has_the_bits_of_the_cpu gradients_are_those_of_the_cpu gradients_of_half_precision; do
            PAPILIO_PLAN=$plan
            echo "== $test: $plan"
            compute-sanitizer --tool racecheck --report-api-errors no --error-exitcode 9 "$1" --exact "$test" --nocapture || rc=1
        done
    done
    return $rc
}
export -f memcheck racecheck synccheck
sanitize() { # sanitize TOOL
    local seconds=60
    [[ $1 != racecheck ]] || seconds=150
    if command -v compute-sanitizer >/dev/null; then
        step "$seconds" "$1" bash -c "$1 \"\$0\"" "$programs/cuda"
    else
        echo "$1: skipped, no compute-sanitizer here"
    fi
}

# A run for each case, since ncu prints at the end; of a run the first three launches only compile, the next are one of each kernel.
profile() {
    local program=$1 case rc=0
    for case in 'b = 2, n = 4096' 'b = 2, n = 1024' 'b = 8, n = 4096' 'b = 32'; do
        ncu --clock-control none --kernel-name 'regex:^apply' --launch-skip 3 --launch-count 3 \
            --section SpeedOfLight --section MemoryWorkloadAnalysis --section WarpStateStats --section SchedulerStats \
            --section Occupancy --section LaunchStats "$program" --once --case "$case" || rc=1
    done
    return $rc
}
export -f all_tests profile

run() {
    local programs=$1 all='tests bench peers memcheck racecheck synccheck tune ncu'
    OUT=$2
    shift 2
    steps=${*:-$all}
    END=${PAPILIO_GPU_SECONDS:-275} # seconds; what is killed may take three more
    failed=()
    local name unpacked peft=
    for name in $steps; do
        [[ " $all " == *" $name "* ]] || { echo "no step $name; there are: $all" >&2; exit 2; }
    done
    mkdir -p "$OUT"
    unpacked=$(mktemp -d)
    trap "rm -rf '$unpacked'" EXIT
    for name in cuda cuda_bench; do
        gzip --decompress --stdout "$programs/$name.gz" >"$unpacked/$name" || exit 1
        chmod +x "$unpacked/$name"
    done
    programs=$unpacked
    libraries
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv
    step 30 first "$programs/cuda" --exact what_does_not_fit_is_refused --nocapture
    if grep -q 'skipped, no GPU' "$OUT/first.log"; then
        echo 'no GPU is seen: nothing else is run'
        return 1
    fi
    # PEFT compiles its kernel when it is first imported; its architecture is the GPU's own.
    if wants peers; then
        TORCH_CUDA_ARCH_LIST=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1)
        export TORCH_CUDA_ARCH_LIST
        timeout 100 python3 -c 'from peft.tuners.boft.layer import get_fbd_cuda; get_fbd_cuda()' >/dev/null 2>&1 &
        peft=$!
    fi
    if wants tests; then step 75 tests bash -o pipefail -c 'all_tests "$0"' "$programs/cuda"; fi
    # While that compiles nothing is timed, but what is not timed can run.
    for name in memcheck racecheck; do
        if [[ -n $peft ]] && kill -0 "$peft" 2>/dev/null && wants $name; then
            sanitize $name
            steps=" $steps "
            steps=${steps/ $name / }
        fi
    done
    [[ -z $peft ]] || wait "$peft"
    if wants bench; then step 80 bench "$programs/cuda_bench"; fi
    if wants peers; then step 45 peers python3 tests/peers/time_peft_cuda.py --seconds 2; fi
    for name in memcheck racecheck synccheck; do
        if wants $name; then sanitize $name; fi
    done
    if wants tune; then step 60 tune "$programs/cuda_bench" --tune; fi
    if ! command -v ncu >/dev/null; then
        echo 'ncu: skipped, none here'
    elif wants ncu; then
        step 40 ncu bash -c 'profile "$0"' "$programs/cuda_bench"
    fi
    if ((${#failed[@]})); then
        printf -v failed '%s, ' "${failed[@]}"
        echo "failed: ${failed%, }"
        return 1
    fi
    echo "everything passed in $SECONDS s"
}

case ${1:-} in
build) [[ $# == 2 ]] || usage; build "$2" ;;
run) (($# >= 3)) || usage; run "${@:2}" ;;
*) usage ;;
esac
