# shellcheck shell=bash
# From packages to one tar archive, without privileges. Sourced by scripts/build-image, after
# common.sh and with its variables.

# ensure_archive_tools: what the image's method needs, and for mmdebstrap, into $mode, how it may
# work for this user on this host.
ensure_archive_tools() {
  local packages=(apt dpkg debian-archive-keyring)
  if [ "$IMAGE_METHOD" = bootstrap ]; then
    packages+=(mmdebstrap)
    if [ "$(id -u)" -eq 0 ]; then
      # Namespaces keep its mounts to itself; where none are allowed it makes no mounts.
      mode=(--mode=unshare)
      unshare --mount --pid --uts --ipc --fork true 2>/dev/null || mode=(--mode=root --skip=chroot/mount)
    elif grep -qs "^$(id -un):" /etc/subuid && grep -qs "^$(id -un):" /etc/subgid &&
      unshare --user --map-root-user true 2>/dev/null; then
      packages+=(uidmap)
      mode=(--mode=unshare)
    else
      packages+=(fakechroot fakeroot)
      mode=(--mode=fakechroot)
    fi
  fi
  ensure_packages "${packages[@]}"
}

# make_archive_by_unpack TAR: what one package holds, and a link for each applet it names.
make_archive_by_unpack() {
  local program
  dpkg-deb --fsys-tarfile "$work"/packages/*.deb >"$1"
  program=$work/build/busybox
  tar -xOf "$1" ./bin/busybox >"$program"
  chmod 0755 "$program"
  "$program" --list-full | grep -vx bin/busybox | sort |
    sed 's,.*,symlink /& /bin/busybox,' >"$work/build/tree"
}

# make_archive_by_bootstrap TAR: an installed system, by mmdebstrap from exactly $work/packages.
make_archive_by_bootstrap() {
  local repository=$work/build/repository
  make_repository "$repository"
  write_default_sources "$work/build"
  # mmdebstrap's user may not be let into the checkout.
  cp "$definition/customize" "$definition/files/etc/dpkg/dpkg.cfg.d/sandbox" "$work/build"
  say "installing $(wc -l <"$work/packages.lock") packages (mmdebstrap ${mode[*]})"
  TMPDIR=$work/build SOURCE_DATE_EPOCH=$IMAGE_EPOCH \
    quietly "$LANEBOX_CACHE/log/image-$id-mmdebstrap.log" \
    stoppable mmdebstrap "${mode[@]}" --variant=minbase --architectures=amd64 --format=tar \
    --include="apt,${IMAGE_PACKAGES// /,}" \
    --dpkgopt="$work/build/sandbox" --aptopt='Acquire::Languages "none"' \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --skip=output/dev,output/mknod \
    --customize-hook="$work/build/customize \"\$1\"" \
    '' "$1" "deb [trusted=yes] copy:$repository ./"
  check_installed "$1"
}

# check_installed TAR: what was installed is what the lock says, no more and no less.
check_installed() {
  local difference
  difference=$(diff <(cut -d' ' -f1-3 "$work/packages.lock") \
    <(tar -xOf "$1" ./var/lib/dpkg/status |
      awk '$1 == "Package:" { name = $2 } $1 == "Architecture:" { architecture = $2 }
        $1 == "Version:" { version = $2 } $0 == "" { print name, version, architecture }' | sort)) ||
    die "the installed packages are not those of the lock:
$difference"
}

# write_default_sources FOLDER: a tree with the sources.list that Debian's apt suggests, so that
# images are the same whatever mirror the host takes its packages from.
write_default_sources() {
  local list=$1/files/etc/apt/sources.list
  mkdir -p "$(dirname "$list")"
  dpkg-deb --fsys-tarfile "$work"/packages/apt_*.deb |
    tar -xO ./usr/share/doc/apt/examples/sources.list | sed -n 's/^\(deb .* main\) .*/\1/p' >"$list"
  [ -s "$list" ] || die "apt suggests no sources for $IMAGE_NAME"
  echo "file /etc/apt/sources.list 0644 0 0" >"$1/tree"
}

# make_repository FOLDER: a package archive of $work/packages that needs no network.
make_repository() {
  local deb
  mkdir "$1"
  for deb in "$work"/packages/*.deb; do
    cp "$deb" "$1/"
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$(basename "$deb")" \
      "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d' ' -f1)"
  done >"$1/Packages"
}
