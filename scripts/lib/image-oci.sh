# shellcheck shell=bash
# Images of OCI registries: image-builder gets and merges them. Sourced by scripts/build-image,
# after common.sh and with its variables.

# read_reference REFERENCE: an image that is named by its reference alone, as IMAGE_… variables.
# Its id is made of the digest; what is not given here, the builder finds out.
read_reference() {
  IMAGE_METHOD=oci IMAGE_REFERENCE=${1#oci://} IMAGE_NAME='' IMAGE_EPOCH='' IMAGE_SIZE_MIB='' IMAGE_JOURNAL_MIB=''
  id=oci-$(sed -n 's/^.*@sha256:\([0-9a-f]\{12\}\)[0-9a-f]\{52\}$/\1/p' <<<"$IMAGE_REFERENCE")
  # The builder says what is wrong with any other reference.
  [ "$id" != oci- ] || id=oci-unknown
}

build_oci_image() {
  [ "$locked$update_lock" = nono ] && [ ${#mirrors[@]} -eq 0 ] ||
    die "--locked, --update-lock and --mirror are about Debian packages; this image is pinned by its digest"
  use_built_image && return
  wait_for_other_builds
  use_built_image && return
  make_work_folders
  image=$CACHE/$id-$(image_key "$committed")
  make_builder
  if [ "$check" = yes ]; then
    check_reproducible
  elif [ ! -d "$image" ]; then
    build_image "$staging"
    publish_directory "$staging" "$image"
  fi
  finish "$image"
}

# run_oci_builder FOLDER: the image and its descriptor.
run_oci_builder() {
  local options=(--oci "$IMAGE_REFERENCE" --id "$id" --output "$1")
  [ -z "$IMAGE_NAME" ] || options+=(--name "$IMAGE_NAME")
  [ -z "$IMAGE_EPOCH" ] || options+=(--epoch "$IMAGE_EPOCH")
  [ -z "$IMAGE_SIZE_MIB" ] || options+=(--size-mib "$IMAGE_SIZE_MIB")
  [ -z "$IMAGE_JOURNAL_MIB" ] || options+=(--journal-mib "$IMAGE_JOURNAL_MIB")
  [ ! -f "$definition/tree" ] || options+=(--tree "$definition/tree")
  say "building ${IMAGE_NAME:-$IMAGE_REFERENCE}"
  TMPDIR=$work stoppable "$builder" "${options[@]}" "${oci_options[@]}"
}

# oci_image_name FOLDER: what users call an image that was built.
oci_image_name() {
  sed -n 's/^  "name": "\(.*\)",$/\1/p' "$1/image.json"
}
