# The walkthrough that `make run` and `make demo` show: deploy, start, kill -9 in the middle, relive, account.
# Sourced after lib.sh. Talks to the host through the CLI alone.
# shellcheck shell=bash disable=SC2154

# Milliseconds since some moment.
millis() { python3 -c 'import time; print(time.monotonic_ns() // 1000000)'; }

# From a copy in the data directory: the activities' ledger is the data directory's, and goes with it.
deploy_examples() {
    local data=$1 example folder
    step "deploying the examples: hello, order"
    for example in hello order; do
        folder="$data/examples/$example"
        mkdir -p "$folder/ledger"
        cp "$guests/$example"/relive.toml "$guests/$example"/*.wasm "$folder/"
        "$relive" deploy "$folder" || fail "could not deploy $example" "See $data/host.log"
    done
}

# $1 the data directory, $2 the host's address. Kills that host and starts it again; sets `order`.
tell_story() {
    local data=$1 address=$2 process before
    export RELIVE_SERVER="http://$address"
    deploy_examples "$data"

    order="order-$(date +%Y%m%d-%H%M%S)-$$"
    step "starting workflow 'order' as $order: reserve, charge, ship, then email and sms at once, a durable pause before each"
    "$relive" start order --id "$order" --input \
        "{\"order_id\": \"$order\", \"sku\": \"tea\", \"quantity\": 2, \"card\": \"4242\", \"cents\": 1299, \"pause_ms\": 800}" ||
        fail "could not start $order"
    python3 "$root/scripts/account.py" wait "$relive" "$order" reserve ||
        fail "the step 'reserve' of $order did not complete in time" "Look: $relive show $order"

    process="$(host_status "$address" pid)"
    step "'reserve' is done, 'charge' is next. Killing the host now: kill -9 $process"
    kill -9 "$process"
    gone "$process" 10 || fail "process $process cannot be killed"
    say "         it is gone; no byte of the workflow's memory is left. Starting the host again"
    before="$(millis)"
    start_host "$data" "${address##*:}" >/dev/null
    say "         it answers after $(($(millis) - before)) ms (process $(host_status "$address" pid))"

    step "waiting for $order to end"
    "$relive" result "$order" --wait || fail "$order did not end well" "Look: $relive show $order"

    step "the account"
    python3 "$root/scripts/account.py" account "$relive" "$order" "$data/examples/order"
}
