#!/usr/bin/env bash
# Makes what the client programs need besides Debian's packages: prepare.sh FOLDER. What is there already and was made
# from the same sources is kept. A part that cannot be made leaves its reason in FOLDER/PART.failed: the tests say it.
# shellcheck disable=SC2317  # the parts are called by their names
set -uo pipefail
sources=$(dirname "$(readlink -f "$0")")
mkdir -p "$1"
made=$(readlink -f "$1")
jobs=${JOBS:-$(nproc)}

# The current releases: those of Debian are changed to trust the system's certificates.
make_python() {
  /usr/bin/python3 -m pip --disable-pip-version-check --no-input install --quiet --no-cache-dir \
    --root-user-action ignore --require-hashes --only-binary :all: --no-deps --target "$made/python" \
    --requirement "$sources/python/requirements.txt"
}

make_node() {
  mkdir -p "$made/node"
  cp "$sources"/node/package.json "$sources"/node/package-lock.json "$made/node"
  npm ci --prefix "$made/node" --cache "$made/node/cache" --ignore-scripts --no-audit --no-fund --loglevel error &&
    rm -rf "$made/node/cache"
}

# With the C library's resolver, and without: then it is one static file, with a resolver of Go's own. The server is one
# of the differential test.
make_go() {
  mkdir -p "$made/go"
  export CC=clang-19 GOCACHE=$made/go/cache GOPROXY=off GOTOOLCHAIN=local GOFLAGS=''
  CGO_ENABLED=1 /usr/bin/go build -tags netcgo -o "$made/go/dynamic" "$sources/go/client.go" &&
    CGO_ENABLED=0 /usr/bin/go build -o "$made/go/static" "$sources/go/client.go" &&
    CGO_ENABLED=0 /usr/bin/go build -o "$made/go/http2_server" "$sources/go/http2_server.go"
}

# The programs of a pinned module, as its authors wrote them: go.sum has what they must be.
go_programs() {
  local name=$1
  shift
  mkdir -p "$made/$name"
  (
    cd "$sources/$name" || exit
    export CGO_ENABLED=0 GOCACHE=$made/$name/cache GOMODCACHE=$made/$name/modules GOTOOLCHAIN=local
    export GOFLAGS='-mod=readonly -modcacherw -trimpath'
    /usr/bin/go build -o "$made/$name/" "$@"
  ) && rm -rf "${made:?}/$name/cache" "$made/$name/modules"
}

make_h2spec() { go_programs h2spec github.com/summerwind/h2spec/cmd/h2spec; }
make_grpc() { go_programs grpc google.golang.org/grpc/interop/client google.golang.org/grpc/interop/server; }

make_java() { javac -d "$made/java" "$sources/java/Client.java"; }

# cargo writes its lock beside the source, and finds Debian's crates through the file that is there.
make_rust() {
  mkdir -p "$made/rust"
  cp -R "$sources/rust/." "$made/rust"
  cd "$made/rust" || return
  env CARGO_HOME="$made/rust/home" RUSTC=/usr/bin/rustc /usr/bin/cargo build --quiet --offline --jobs "$jobs"
}

make_dotnet() {
  mkdir -p "$made/dotnet"
  mcs -nologo -r:System.Net.Http.dll -out:"$made/dotnet/client.exe" "$sources/dotnet/client.cs"
}

# The functions of test_frameworks_inbound.py and the frameworks that they are written with, in folders of their own: what
# the clients are made of may be another version.
make_functions() {
  mkdir -p "$made/functions/node"
  /usr/bin/python3 -m pip --disable-pip-version-check --no-input install --quiet --no-cache-dir \
    --root-user-action ignore --require-hashes --only-binary :all: --no-deps --target "$made/functions/python" \
    --requirement "$sources/functions/requirements.txt" &&
    cp "$sources"/functions/package.json "$sources"/functions/package-lock.json "$made/functions/node" &&
    npm ci --prefix "$made/functions/node" --cache "$made/functions/cache" --ignore-scripts --no-audit --no-fund \
      --loglevel error &&
    env CGO_ENABLED=0 GOCACHE="$made/functions/cache" GOPROXY=off GOTOOLCHAIN=local GOFLAGS='' \
      /usr/bin/go build -o "$made/functions/function" "$sources/functions/function.go" &&
    rm -rf "${made:?}/functions/cache"
}

for part in python node go java rust dotnet h2spec grpc functions; do
  stamp=$made/$part.made
  sum=$(find "$sources/$part" "$sources/prepare.sh" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  [[ $(cat "$stamp" 2>/dev/null) != "$sum" ]] || continue
  rm -rf "${made:?}/$part" "$stamp" "$made/$part.failed"
  printf 'dev: making the clients for %s\n' "$part" >&2
  if (make_"$part") >"$made/$part.log" 2>&1 </dev/null; then
    printf '%s\n' "$sum" >"$stamp"
  else
    { printf 'prepare.sh could not make it: '; tail -n 3 "$made/$part.log" | tr '\n' ' '; } >"$made/$part.failed"
    printf 'dev: no clients for %s: their tests fail in CI and are skipped elsewhere: %s\n' "$part" \
      "$(cat "$made/$part.failed")" >&2
  fi
done
exit 0
