# shellcheck shell=bash
# What an image takes from the npm registry: packages that hold programs as they are, such as Node
# itself, which Debian has not got. Nothing of them is run to build the image. Sourced by
# scripts/build-image, after common.sh and with its variables.

# Packages by the SHA-512 of their contents.
NPM_PACKAGES=$LANEBOX_CACHE/npm

# npm_lock_lines FILE: "package version folder integrity", sorted; nothing for a missing file.
npm_lock_lines() {
  [ ! -f "$1" ] || sed '/^#/d; /^$/d' "$1" | sort
}

# take_npm_packages: every package of the definition's npm.lock is in the cache afterwards.
take_npm_packages() {
  local name version folder integrity file staging
  [ -f "$definition/npm.lock" ] || return 0
  ensure_node
  mkdir -p "$NPM_PACKAGES"
  while read -r name version folder integrity; do
    [[ $folder == /* && $integrity == sha512-* ]] ||
      die "images/$id/npm.lock: expected 'package version folder sha512-…', got '$name $version $folder $integrity'"
    file=$(npm_package_file "$integrity")
    [ ! -f "$file" ] || continue
    say "asking the npm registry for $name $version"
    staging=$(mktemp -d "$work/npm.XXXXXX")
    (cd "$staging" && quietly "$LANEBOX_CACHE/log/image-$id-npm.log" \
      stoppable npm pack --silent --ignore-scripts "$name@$version")
    [ "$(npm_integrity "$staging"/*.tgz)" = "$integrity" ] ||
      die "refusing $name $version: its contents are not those that images/$id/npm.lock names"
    mv "$staging"/*.tgz "$file"
    rmdir "$staging"
  done < <(npm_lock_lines "$definition/npm.lock")
}

# npm_package_file INTEGRITY: where the cache has the package with this digest.
npm_package_file() {
  printf '%s/%s.tgz' "$NPM_PACKAGES" "$(base64 -d <<<"${1#sha512-}" | od -An -v -tx1 | tr -d ' \n')"
}

# npm_integrity FILE: its digest as npm writes it.
npm_integrity() {
  node -e 'const hash = require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1]));
    console.log(`sha512-${hash.digest("base64")}`)' "$1"
}

# make_archive_of_npm TAR: the packages, each in its folder, root's, with the image's one time.
make_archive_of_npm() {
  local root=$work/build/npm folder integrity
  mkdir "$root"
  while read -r _ _ folder integrity; do
    mkdir -p "$root$folder"
    tar -xzf "$(npm_package_file "$integrity")" --no-same-owner --strip-components=1 -C "$root$folder"
  done < <(npm_lock_lines "$definition/npm.lock")
  # Names are sorted and nothing else of this machine is in it: the same packages give the same bytes.
  tar --create --file="$1" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$IMAGE_EPOCH" --mode='u=rwX,go=rX' -C "$root" usr
  rm -rf "$root"
}
