// What `lanebox --help` prints.
import { DEFAULT_IMAGE } from "./arguments.js";

export const HELP = `usage:
  lanebox run [OPTION…] -- COMMAND [ARGUMENT…]   run a command in a microVM of its own
  lanebox shell [OPTION…] [-- COMMAND…]          an interactive shell in a microVM of its own
  lanebox cp [OPTION…] guest:/PATH PATH          copy a file or tree of an image to this machine
  lanebox cp --persistent FILE [OPTION…] PATH guest:/PATH
                                                 copy one into a root that is kept
  lanebox doctor [--json] [--isolation KIND]     tell what this machine can run
  lanebox doctor --verify [--json] [--manifest FILE]
                                                 compare what is installed with the release's manifest
  lanebox setup-macos                            macOS: sign the helper for this machine
  lanebox images [--json]                        list the images that are installed
  lanebox image info [OPTION…] IMAGE             tell what an image is and how large
  lanebox image flatten [OPTION…] IMAGE DEST     write it, with what lies over it, as one QCOW2 file
  lanebox image pull [OPTION…] REFERENCE         get an image of an OCI registry, for --image and
                                                 rootfs.builtIn
  lanebox --help | --version

options of run and shell (cp: --image, --persistent and --isolation):
  --image NAME       image to boot, by name and version   (default: ${DEFAULT_IMAGE})
  --persistent FILE  keep what the guest changes of its root in FILE, which is made when it is not
                     there; one VM at a time; without it the root is read-only
  --cpus N           virtual processors, 1 to 64          (default: 1)
  --memory MIB       memory, 128 to 1048576 MiB           (default: 512)
  -e, --env K=V      a variable of the command; may be given several times
  --mount SRC:DST[:ro]
                     a directory of this machine, at the absolute path DST; with :ro the command
                     cannot change it; may be given several times
  -p, --publish [[HOST:]HOSTPORT:]GUESTPORT
                     lead a TCP port of this machine to one of the guest; HOST is 127.0.0.1 and ::1
                     unless it is given; without HOSTPORT, or with 0, any free port is taken, and
                     told on stderr; may be given several times
  --allow-host NAME  let the guest look up this host (or *.NAME: all below it) and speak HTTP and TLS
                     to it, at ports 80 and 443; may be given several times. Without --allow-host
                     and --publish the guest has no network device
  --timeout S        end the command after S seconds with exit status 124 (run only)
  --isolation KIND   weakest isolation that is accepted: hardware or emulated
                     (default: LANEBOX_MIN_ISOLATION, else hardware)

options of image info and flatten (IMAGE is a name and version, or a file, told by a slash in it
and no version after it):
  --format FORMAT    how the file is laid out: qcow2 or raw   (default: by its ending)
  --persistent FILE  also what a persistent root keeps in FILE; no VM may use it meanwhile
  --json             info for programs: what rootfs.image() takes, and the sizes (info only)
  --cluster-size N   bytes of a cluster, 4096 to 2097152      (default: 65536; flatten only)
  --no-compress      clusters as they are                     (flatten only)

options of image pull (REFERENCE is REGISTRY/NAME[:TAG]@sha256:DIGEST; a tag alone is refused):
  --name NAME        name and version that the image is found by
                     (default: REGISTRY/NAME:TAG, or the digest where there is no tag)
  --insecure-registry HOST:PORT
                     speak to it without TLS, as to loopback always; may be given several times
  --max-layer-mib N  largest layer that is taken, uncompressed       (default: 8192)
  --max-image-mib N  the most that all layers may hold, uncompressed (default: 16384)
  --json             print what rootfs.image() takes

run passes stdin, stdout, stderr and the exit status through. Its own exit statuses:
  2 wrong arguments; 125 the VM failed; 126 the command cannot be executed; 127 it does not exist;
  128+n signal n ended it; 130, 143, 129 after Ctrl-C, SIGTERM, SIGHUP (a second one kills at once).
shell needs a terminal, which it puts into raw mode: Ctrl-C goes to the guest.
doctor ends with 0 when a VM can be booted here, else with 1 and what to do about it; with --verify,
with 0 when all that is installed is what release.json, of this package or FILE, says.

environment:
  LANEBOX_MIN_ISOLATION   hardware or emulated
  LANEBOX_ARTIFACTS       directory to look for kernel, helper and images in first
  LANEBOX_LOG             log of the helper on stderr, such as debug
`;
