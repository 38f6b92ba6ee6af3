#!/usr/bin/env bash
# Installs the peers that Debian does not have: prepare.sh FOLDER. What is there already and was made from the same
# list is kept. One that cannot be had is left out and said: `./dev bench` measures the others.
set -uo pipefail
sources=$(dirname "$(readlink -f "$0")")
mkdir -p "$1"
made=$(readlink -f "$1")

for peer in envoy mitmproxy; do
  stamp=$made/$peer.made
  sum=$(cat "$sources/$peer.txt" "$sources/prepare.sh" | sha256sum)
  [[ $(cat "$stamp" 2>/dev/null) != "$sum" ]] || continue
  rm -rf "${made:?}/$peer" "$stamp"
  printf 'dev: installing %s for the benchmark\n' "$peer" >&2
  if /usr/bin/python3 -m pip --disable-pip-version-check --no-input install --quiet --no-cache-dir \
    --root-user-action ignore --require-hashes --only-binary :all: --no-deps --target "$made/$peer" \
    --requirement "$sources/$peer.txt" >"$made/$peer.log" 2>&1 </dev/null; then
    printf '%s\n' "$sum" >"$stamp"
  else
    printf 'dev: %s could not be installed: %s\n' "$peer" "$(tail -n 1 "$made/$peer.log")" >&2
  fi
done
exit 0
