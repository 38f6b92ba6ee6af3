# What the command-line clients share; sourced. The contract is in tests/support/clients.py.

# say STEP STATUS TEXT: one line of JSON; an empty status is none.
say() {
  printf '{"step": "%s", "status": %s, "text": "%s"}\n' "$1" "${2:-null}" \
    "$(printf %s "$3" | sed 's/\\/\\\\/g; s/"/\\"/g' | tr '\n\t\r' '   ')"
}

out=$(mktemp)
err=$(mktemp)
trap 'rm -f "$out" "$err"' EXIT
