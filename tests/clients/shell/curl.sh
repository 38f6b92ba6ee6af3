#!/bin/sh
# curl, one process for each step.
. "$(dirname "$0")/say.sh"

while read -r step method urls; do
  set -- --silent --show-error --location --write-out '\n%{http_code}\n'
  if [ "$method" = POST ]; then
    set -- "$@" --data-binary "@$BODY"
  fi
  # Several URLs are words of one line.
  # shellcheck disable=SC2086
  if curl "$@" $urls >"$out" 2>"$err" </dev/null; then
    status=$(tail -n 1 "$out")
  else
    status=''
  fi
  say "$step" "$status" "$(sed '$d' "$out")$(cat "$err")"
done
