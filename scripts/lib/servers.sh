# Sourced by the scripts that run programs against a server: a folder for their files, and processes that end with the script.

work=$(mktemp -d)
running=()
end() {
    [ ${#running[@]} -eq 0 ] || { kill "${running[@]}" && wait "${running[@]}"; } 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT

# Runs the command $2… with its output in the file $1 of the folder, until the script ends.
run() {
    local log=$work/$1
    shift
    "$@" >"$log" 2>&1 &
    running+=($!)
}

# The address that follows $2 in the file $1 of the folder, once the process that writes it has printed it.
printed() {
    local address
    for _ in $(seq 600); do
        address=$(sed -n "s|.*$2\"\{0,1\}\(http://127\.0\.0\.1:[0-9]*[a-z0-9/]*\).*|\1|;T;p;q" "$work/$1")
        [ -z "$address" ] || { echo "$address" && return; }
        sleep 0.1
    done
    echo "no address was printed within 60 s, but:" >&2
    cat "$work/$1" >&2
    exit 1
}
