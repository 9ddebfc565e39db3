# shellcheck shell=bash
# Cargo subcommands that a script needs, at the one version that the project uses.
# Sourced after common.sh.

# ensure_cargo_tool NAME VERSION: `cargo NAME` of that version or, when the machine has another
# one already, that one. Built once a user, into the cache.
ensure_cargo_tool() {
  local name=$1 version=$2 root=$LANEBOX_CACHE/tools/cargo-$1-$2
  if [ ! -x "$root/bin/cargo-$name" ] && cargo "$name" --version >/dev/null 2>&1; then return 0; fi
  if [ ! -x "$root/bin/cargo-$name" ]; then
    say "building cargo-$name $version (once; some minutes)"
    local staging
    mkdir -p "$LANEBOX_CACHE/tools"
    staging=$(mktemp -d "$LANEBOX_CACHE/tools/.staging.XXXXXX")
    quietly "$LANEBOX_CACHE/log/cargo-$name.log" env CARGO_TARGET_DIR="$staging/target" \
      cargo install --locked --version "$version" --root "$staging/root" "cargo-$name"
    publish_directory "$staging/root" "$root"
    rm -rf "$staging"
  fi
  PATH=$root/bin:$PATH
  export PATH
}

readonly PJDFSTEST_VERSION=0.2.2

# ensure_pjdfstest: prints the folder of the POSIX test suite, linked statically so that it runs in
# any guest. Built once a user, into the cache.
ensure_pjdfstest() {
  local root=$LANEBOX_CACHE/tools/pjdfstest-$PJDFSTEST_VERSION staging
  if [ ! -x "$root/bin/pjdfstest" ]; then
    say "building pjdfstest $PJDFSTEST_VERSION (once)"
    mkdir -p "$LANEBOX_CACHE/tools"
    staging=$(mktemp -d "$LANEBOX_CACHE/tools/.staging.XXXXXX")
    quietly "$LANEBOX_CACHE/log/pjdfstest.log" env CARGO_TARGET_DIR="$staging/target" \
      RUSTFLAGS="-C target-feature=+crt-static" cargo install --locked --version "$PJDFSTEST_VERSION" \
      --target "$(uname -m)-unknown-linux-gnu" --root "$staging/root" pjdfstest
    publish_directory "$staging/root" "$root"
    rm -rf "$staging"
  fi
  printf '%s\n' "$root/bin"
}

readonly MITMPROXY_VERSION=11.0.2

# ensure_mitmproxy: prints the Python that has mitmproxy. Installed once a user, into the cache.
ensure_mitmproxy() {
  local root=$LANEBOX_CACHE/tools/mitmproxy-$MITMPROXY_VERSION staging
  if [ ! -d "$root" ]; then
    say "installing mitmproxy $MITMPROXY_VERSION (once)"
    mkdir -p "$LANEBOX_CACHE/tools"
    staging=$(mktemp -d "$LANEBOX_CACHE/tools/.staging.XXXXXX")
    python3 -m venv "$staging/root"
    quietly "$LANEBOX_CACHE/log/mitmproxy.log" \
      "$staging/root/bin/pip" install --disable-pip-version-check "mitmproxy==$MITMPROXY_VERSION"
    publish_directory "$staging/root" "$root"
    rm -rf "$staging"
  fi
  printf '%s\n' "$root/bin/python"
}
