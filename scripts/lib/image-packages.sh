# shellcheck shell=bash
# The packages of an image: what its lock names, what the archive has, and getting them.
# Sourced by scripts/build-image, after common.sh and with its variables.

# prepare_packages: the .deb files in $work/packages and their lock in $work/packages.lock,
# from the cache when it has exactly what the lock names, else from the archive.
prepare_packages() {
  if [ "$refresh" = no ] && [ -f "$committed" ] && take_cached_packages; then
    lock_lines "$committed" >"$work/packages.lock"
    return
  fi
  rm -f "$work"/packages/*.deb
  ask_archive
  if [ "$update_lock" = yes ]; then
    refuse_other_contents "$work/packages.lock"
    write_lock "$work/packages.lock" "$committed"
    say "recorded in images/$id/packages.lock"
  else
    report_changes "$work/packages.lock"
  fi
}

take_cached_packages() {
  local package version architecture hash
  while read -r package version architecture hash; do
    [ -f "$DEBS/$hash.deb" ] || return 1
    cp "$DEBS/$hash.deb" "$work/packages/${package}_${version//:/%3a}_$architecture.deb" || return 1
  done < <(lock_lines "$committed")
  # The cache is only believed where it agrees with the lock in every respect.
  cmp -s <(describe_packages) <(lock_lines "$committed") || return 1
  say "packages of the lock are at hand"
}

# describe_packages: a lock of the packages in $work/packages.
describe_packages() {
  local deb
  for deb in "$work"/packages/*.deb; do
    # shellcheck disable=SC2016 # dpkg's own variables
    printf '%s %s\n' "$(dpkg-deb -W --showformat='${Package} ${Version} ${Architecture}' "$deb")" \
      "$(sha256sum <"$deb" | cut -d' ' -f1)"
  done | sort
}

# ask_archive: resolve the image's packages as on an empty machine, and get them.
ask_archive() {
  local apt=$work/apt uri file hash names=()
  mkdir -p "$apt"/{lists/partial,cache,etc/apt/parts} "$work/packages/partial"
  : >"$apt/status"
  package_sources >"$apt/sources.list"
  cat >"$apt/apt.conf" <<TEXT
Dir "$apt";
Dir::Etc { main "/dev/null"; parts "parts"; sourcelist "$apt/sources.list"; sourceparts "/dev/null"; preferencesparts "/dev/null"; };
Dir::State { "$apt"; status "$apt/status"; lists "$apt/lists"; extended_states "$apt/extended_states"; };
Dir::Cache { "$apt/cache"; archives "$work/packages/"; };
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Update::Post-Invoke-Success "";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
TEXT
  export APT_CONFIG=$apt/apt.conf
  say "asking the package archive"
  quietly "$LANEBOX_CACHE/log/image-$id-apt-update.log" stoppable apt-get update -q
  read -ra names <<<"$IMAGE_PACKAGES"
  if [ "$IMAGE_METHOD" = bootstrap ]; then
    names+=(apt '?essential' '?priority(required)')
  fi
  local get=(env -C "$work/packages" apt-get -q -y -o Debug::NoLocking=1)
  if [ "$IMAGE_METHOD" = bootstrap ]; then
    get+=(install --download-only)
  else
    # A package that is only unpacked comes without what it depends on.
    get+=(download)
  fi
  "${get[@]}" --print-uris "${names[@]}" >"$work/uris" ||
    die "the archive does not have these packages: ${names[*]}"
  while read -r uri file _ hash; do
    [[ $uri == \'* && $hash == SHA256:* ]] || continue
    [ ! -f "$DEBS/${hash#SHA256:}.deb" ] || cp "$DEBS/${hash#SHA256:}.deb" "$work/packages/$file"
  done <"$work/uris"
  quietly "$LANEBOX_CACHE/log/image-$id-apt-get.log" stoppable "${get[@]}" "${names[@]}"
  unset APT_CONFIG
  rm -rf "$work/packages/partial" "$work/packages/lock"
  record_packages
}

# package_sources: where this image's packages come from, as sources.list lines.
package_sources() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg uri release mirror sources=()
  for mirror in ${mirrors[@]+"${mirrors[@]}"}; do
    read -r uri release <<<"$mirror"
    sources+=("$uri ${release:-$IMAGE_SUITE}")
  done
  if [ ${#sources[@]} -eq 0 ]; then
    mapfile -t sources < <(host_sources)
  fi
  if [ ${#sources[@]} -eq 0 ]; then
    # Origins are known from the archives' indexes, which this machine has not fetched.
    host_lists=$work/host-lists
    mkdir -p "$host_lists/partial"
    apt-get -o Dir::State::lists="$host_lists" update >"$work/host-update.log" 2>&1 || true
    mapfile -t sources < <(host_sources)
  fi
  [ ${#sources[@]} -gt 0 ] || die "apt on this machine knows no Debian archive; name one with --mirror"
  for mirror in "${sources[@]}"; do
    printf 'deb [signed-by=%s] %s main\n' "$keyring" "$mirror"
  done
}

# host_sources: "URI SUITE" for each Debian archive that apt on this machine is set up with; if
# none is of the image's release, the same archives are taken to hold that one too.
host_sources() {
  local found
  # shellcheck disable=SC2016 # apt's own variables
  found=$(apt-get ${host_lists:+-o Dir::State::lists="$host_lists"} indextargets \
    --format '$(REPO_URI) $(RELEASE) $(ORIGIN)' 'Created-By: Packages' 'Component: main' |
    awk '$3 == "Debian" { print $1, $2 }' | sort -u)
  if grep -q " $IMAGE_SUITE\$" <<<"$found"; then
    grep -E " $IMAGE_SUITE(-updates|-security)?\$" <<<"$found"
  else
    sed -nE "s/ [a-z]+(-updates|-security)?\$/ $IMAGE_SUITE\1/p" <<<"$found" | sort -u
  fi
}

# record_packages: write the lock of what was downloaded, and keep it for later builds.
record_packages() {
  local package hash deb
  describe_packages >"$work/packages.lock"
  while read -r package _ _ hash; do
    grep -q "SHA256:$hash" "$work/uris" || die "$package is not what the archive's index says"
  done <"$work/packages.lock"
  for deb in "$work"/packages/*.deb; do
    hash=$(sha256sum <"$deb" | cut -d' ' -f1)
    cp "$deb" "$DEBS/.$hash.$$"
    mv "$DEBS/.$hash.$$" "$DEBS/$hash.deb"
  done
}

# lock_lines FILE: "package version architecture sha256", sorted; nothing for a missing file.
lock_lines() {
  [ ! -f "$1" ] || sed '/^#/d; /^$/d' "$1" | sort
}

# changes LOCK: how LOCK differs from the committed one, a line a package.
changes() {
  join -a1 -a2 -e none -o 0,1.2,1.4,2.2,2.4 <(lock_lines "$committed") <(lock_lines "$1") |
    while read -r package old old_hash new new_hash; do
      if [ "$old" != "$new" ]; then
        printf 'version %s %s → %s\n' "$package" "$old" "$new"
      elif [ "$old_hash" != "$new_hash" ]; then
        printf 'contents %s %s\n' "$package" "$new"
      fi
    done
}

# refuse_other_contents LOCK: one version of a package has one content, whoever asks.
refuse_other_contents() {
  local other
  other=$(changes "$1" | sed -n 's/^contents //p')
  [ -z "$other" ] || die "refusing packages whose contents are not those of the same version in images/$id/packages.lock:
$other"
}

# report_changes LOCK: tell what the archive has in place of the locked packages; fail if the
# lock is binding.
report_changes() {
  refuse_other_contents "$1"
  local newer
  newer=$(changes "$1" | sed -n 's/^version //p')
  [ -n "$newer" ] || return 0
  [ "$locked" = no ] || die "the archive no longer has what images/$id/packages.lock names:
$newer"
  say "the archive has moved on since images/$id/packages.lock was written; this build takes:"
  printf '          %s\n' "${newer//$'\n'/$'\n          '}" >&2
  say "to record that: scripts/build-image $id --update-lock"
}

write_lock() {
  {
    echo "# package version architecture sha256; scripts/build-image $id --update-lock writes this"
    lock_lines "$1"
  } >"$2.new.$$"
  mv "$2.new.$$" "$2"
}
