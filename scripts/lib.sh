# What the scripts share: paths, messages, tools that cargo installs, and one host process. Sourced, never run.
# Knows nothing of workflows.
# shellcheck shell=bash disable=SC2034

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"
case "$target" in /*) ;; *) target="$root/$target" ;; esac
export CARGO_TARGET_DIR="$target"
relive="$target/debug/relive"
guests="$target/guests/out"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
# A proxy for the world is none for this machine's own hosts.
export NO_PROXY="${NO_PROXY:+$NO_PROXY,}127.0.0.1,localhost"
export no_proxy="$NO_PROXY"

# Versions of the tools, so that everybody's machine says the same. All build with the toolchain of rust-toolchain.toml.
nextest_version=0.9.143
deny_version=0.20.2
llvm_cov_version=0.9.1

began=$SECONDS

say() { printf '%s\n' "$*"; }

# A line for each thing that is begun, with the time since the script began.
step() { printf '\n[%3d s] %s\n' "$((SECONDS - began))" "$*"; }

fail() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}

# Installs a cargo tool if it is missing. Unoptimised: the tools run for seconds and would build for minutes.
# $1 what cargo calls it (`nextest`), $2 its crate, $3 its version, the rest options of `cargo install`.
# A program of the distribution that tests need: installed by root, asked for otherwise.
need_package() {
    local program=$1 package=$2
    if ! command -v "$program" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        step "installing $package"
        apt-get update -qq && apt-get install -y --no-install-recommends "$package" >&2 || true
    fi
    command -v "$program" >/dev/null || fail "$program is missing" "Type: sudo apt-get install -y $package"
}

need_cargo_tool() {
    local name=$1 crate=$2 version=$3
    shift 3
    if (cd "$root" && cargo "$name" --version >/dev/null 2>&1); then
        return
    fi
    step "installing $crate $version (once a machine; 2 to 5 minutes)"
    (cd "$root" && cargo install --locked --debug --target-dir "$target/tools" "$crate@$version" "$@") ||
        fail "could not install $crate" "Type: cargo install --locked $crate@$version"
    rm -rf "$target/tools"
    (cd "$root" && cargo "$name" --version >/dev/null 2>&1) ||
        fail "$crate was installed, but 'cargo $name' is not found" \
            "Add cargo's programs to the path: export PATH=\"\${CARGO_HOME:-\$HOME/.cargo}/bin:\$PATH\""
}

# Cargo on the host's workspace. Where lints and tests follow each other (.ci/run), clippy's compiler builds what the tests
# run, so that there is one build and not two: RELIVE_LINTING_BUILD=1. Guests are never built so.
host_cargo() {
    if [ -n "${RELIVE_LINTING_BUILD:-}" ]; then
        RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__ "$@"
    else
        "$@"
    fi
}

# The host program and all guests. `--workspace` so that the tests use the same build of every dependency.
build_all() {
    step "building the host (the first time takes about 10 minutes on 2 cores)"
    (cd "$root" && host_cargo cargo build --locked --workspace --bin relive) || fail "the host does not build (see above)"
    step "building the example guests"
    "$root/scripts/guests" || fail "the guests do not build (see above)"
}

# Whether something listens on a port of this machine.
port_taken() {
    python3 - "$1" <<'PY'
import socket, sys
probe = socket.socket()
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    probe.bind(("127.0.0.1", int(sys.argv[1])))
except OSError:
    sys.exit(0)
sys.exit(1)
PY
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# A field of the status of the host at $1 (`host:port`); fails if nobody answers.
host_status() {
    python3 - "$1" "$2" <<'PY'
import json, sys, urllib.request
try:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{sys.argv[1]}/v1/status", timeout=2) as answer:
        print(json.load(answer)[sys.argv[2]])
except Exception:
    sys.exit(1)
PY
}

# The address of the live host of a data directory, or failure.
live_host() {
    local data=$1 address
    [ -f "$data/address" ] || return 1
    address="$(sed -e 's|^http://||' -e 's|/*$||' "$data/address" | head -n 1)"
    [ -n "$address" ] && host_status "$address" pid >/dev/null && owns "$data" "$(host_status "$address" pid)" || return 1
    printf '%s\n' "$address"
}

# Whether process $2 has its files in data directory $1: an old address may be another host's by now.
owns() {
    local data process=$2 file
    data="$(cd "$1" && pwd -P)" || return 1
    if [ -d "/proc/$process/fd" ]; then
        for file in "/proc/$process/fd"/*; do
            case "$(readlink "$file" 2>/dev/null)" in "$data"/*) return 0 ;; esac
        done
        return 1
    else
        ps -o args= -p "$process" | grep -qF -- "$data"
    fi
}

# Waits until the host at $1 answers, for $3 seconds at most and only while its process $2 lives.
await_answer() {
    python3 - "$@" <<'PY'
import os, sys, time, urllib.request
address, process, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
end = time.monotonic() + patience
while time.monotonic() < end:
    try:
        opener.open(f"http://{address}/v1/status", timeout=2).read()
        sys.exit(0)
    except OSError:
        time.sleep(0.01)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        break
sys.exit(1)
PY
}

# Starts `relive dev` on a data directory and a port, apart from this script, and waits until it answers. Prints its
# address. What it says goes to DATA/host.log.
start_host() {
    local data=$1 process address="127.0.0.1:$2"
    mkdir -p "$data"
    if command -v setsid >/dev/null; then
        setsid "$relive" dev --data "$data" --listen "$address" </dev/null >>"$data/host.log" 2>&1 &
    else
        nohup "$relive" dev --data "$data" --listen "$address" </dev/null >>"$data/host.log" 2>&1 &
    fi
    process=$!
    disown "$process"
    printf '%s\n' "$process" >"$data/host.pid"
    if await_answer "$address" "$process" 30; then
        [ -f "$data/address" ] || printf '%s\n' "$address" >"$data/address"
        printf '%s\n' "$address"
        return
    fi
    if ! kill -0 "$process" 2>/dev/null; then
        tail -n 20 "$data/host.log" >&2
        fail "the host ended at once" "Its last words are above; all of them are in $data/host.log"
    fi
    kill -9 "$process" 2>/dev/null || true
    fail "the host does not answer on $address after 30 s" "See $data/host.log"
}

# Waits until a process is gone; fails after $2 seconds.
gone() {
    local tries
    for ((tries = 0; tries < $2 * 20; tries++)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.05
    done
    return 1
}

# The process of a data directory's host, also of one that does not answer.
host_process() {
    local data=$1 address process
    if address="$(live_host "$data")"; then
        host_status "$address" pid
        return
    fi
    # The host writes the first once it listens, `start_host` the second before.
    while read -r process; do
        if kill -0 "$process" 2>/dev/null && owns "$data" "$process"; then
            printf '%s\n' "$process"
            return
        fi
    done < <(cat "$data/relive.pid" "$data/host.pid" 2>/dev/null)
    return 1
}

# Ends the host of a data directory, gracefully if it can. Says nothing if there is none.
stop_host() {
    local data=$1 process
    process="$(host_process "$data")" || return 0
    kill -TERM "$process" 2>/dev/null || return 0
    if ! gone "$process" 30; then
        say "the host (process $process) did not stop within 30 s: killing it. Nothing that was acknowledged is lost."
        kill -9 "$process" 2>/dev/null || true
        gone "$process" 10 || fail "process $process cannot be ended"
    fi
}
