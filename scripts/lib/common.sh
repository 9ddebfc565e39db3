# shellcheck shell=bash
# What every script shares: where things are, how progress is told, how a missing tool is got.
# Sourced, never run.
set -euo pipefail

LANEBOX_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Slow artefacts, keyed by a hash of their inputs; shared by all checkouts of this user.
LANEBOX_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/lanebox
# What the client's artifact lookup finds in a checkout: one folder a package, see README.md.
LANEBOX_ARTIFACT_DIR=$LANEBOX_ROOT/artifacts
export LANEBOX_ROOT LANEBOX_CACHE LANEBOX_ARTIFACT_DIR
LANEBOX_STARTED_AT=${LANEBOX_STARTED_AT:-$(date +%s%N)}
export LANEBOX_STARTED_AT
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

# say TEXT…: one line of progress with the time since the outermost script began.
say() {
  local ms=$((($(date +%s%N) - LANEBOX_STARTED_AT) / 1000000))
  printf '[%4d.%01ds] %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*" >&2
}

# die TEXT…: say what is wrong and end with status 1.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# quietly LOG COMMAND…: run with output into LOG; on failure show the log's end and die.
quietly() {
  local log=$1 status=0
  shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 60 "$log" >&2
    die "'$*' failed with status $status; the whole log is $log"
  fi
}

# ensure_packages NAME…: Debian packages that must be installed. Root installs what is missing;
# anyone else is told the one line that does.
ensure_packages() {
  local missing=() name
  for name in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "these Debian packages are needed: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    die "missing packages; run: sudo apt-get install --no-install-recommends ${missing[*]}"
  fi
  say "installing Debian packages: ${missing[*]}"
  quietly "$LANEBOX_CACHE/log/apt-update.log" apt-get update -q
  quietly "$LANEBOX_CACHE/log/apt-install.log" \
    apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# ensure_rust: cargo with the toolchain that rust-toolchain.toml names.
ensure_rust() {
  local want
  [ -d "$HOME/.cargo/bin" ] && PATH=$HOME/.cargo/bin:$PATH && export PATH
  want=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$LANEBOX_ROOT/rust-toolchain.toml")
  command -v cargo >/dev/null || die "cargo is not installed; install Rust $want with rustup, then run this again"
  (cd "$LANEBOX_ROOT" && cargo --version >/dev/null 2>&1) ||
    die "Rust $want is not installed; run: rustup toolchain install $want --component rustfmt,clippy"
}

# ensure_node: Node 20 or newer with npm.
ensure_node() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    die "Node 20 or newer with npm is needed and was not found"
  fi
  node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' ||
    die "Node 20 or newer is needed; this is $(node --version)"
}

# input_hash PATH…: one SHA-256 over the names and contents of files (folders are walked), short form.
input_hash() {
  (cd "$LANEBOX_ROOT" && find "$@" -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-32
}

# publish_directory FROM TO: make the finished folder FROM appear at TO in one step; an equal one
# that another process finished first is kept.
publish_directory() {
  mkdir -p "$(dirname "$2")"
  mv -T "$1" "$2" 2>/dev/null || { [ -d "$2" ] && rm -rf "$1"; }
}

# link_artifact TARGET NAME: point artifacts/NAME at TARGET, atomically.
link_artifact() {
  local path=$LANEBOX_ARTIFACT_DIR/$2
  mkdir -p "$(dirname "$path")"
  ln -sfn "$1" "$path.new.$$"
  mv -fT "$path.new.$$" "$path"
}

# npm_install FOLDER: the packages of its lockfile, unless they are there already.
npm_install() {
  if [ ! -f "$1/node_modules/.package-lock.json" ] ||
    [ "$1/package-lock.json" -nt "$1/node_modules/.package-lock.json" ]; then
    say "installing npm packages in ${1#"$LANEBOX_ROOT/"}"
    (cd "$1" && quietly "$LANEBOX_CACHE/log/npm-ci.log" npm ci && touch node_modules/.package-lock.json)
  fi
}
