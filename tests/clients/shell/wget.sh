#!/bin/sh
# wget, one process for each step, trying once.
. "$(dirname "$0")/say.sh"

while read -r step method urls; do
  set -- --no-verbose --server-response --content-on-error --tries=1 --output-document="$out"
  if [ "$method" = POST ]; then
    set -- "$@" --post-file="$BODY"
  fi
  # Several URLs are words of one line.
  # shellcheck disable=SC2086
  wget "$@" $urls 2>"$err" </dev/null
  rc=$?
  status=$(sed -n 's/^ *HTTP\/[0-9.]* \([0-9]*\).*/\1/p' "$err" | tail -n 1)
  # 8 is an answer that is an error; the codes below it are failures to get one, also after a redirect.
  if [ $rc != 0 ] && [ $rc != 8 ]; then
    status=''
  fi
  say "$step" "$status" "$(cat "$out")$(grep '^wget:' "$err")"
done
