#!/bin/sh
# git over https. The URL is a repository; clones go to a folder of the step's name.
. "$(dirname "$0")/say.sh"

export GIT_TERMINAL_PROMPT=0 GIT_AUTHOR_NAME=tester GIT_AUTHOR_EMAIL=tester@example.com
export GIT_COMMITTER_NAME=tester GIT_COMMITTER_EMAIL=tester@example.com

act() {
  case $1 in
    CLONE) git clone --quiet "$3" "$2" && git -C "$2" rev-parse HEAD ;;
    PUSH)
      git clone --quiet "$3" "$2" && cp "$BODY" "$2/body" && git -C "$2" add body &&
        git -C "$2" commit --quiet --message 'Add the body' && git -C "$2" push --quiet && git -C "$2" rev-parse HEAD
      ;;
  esac
}

while read -r step action url; do
  if act "$action" "$step" "$url" >"$out" 2>"$err" </dev/null; then
    say "$step" 200 "$(cat "$out")"
  else
    say "$step" "" "$(cat "$err")"
  fi
done
