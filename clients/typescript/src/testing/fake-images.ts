// The stand-in's ImageService: a disk with a hole in it.
import { writeFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ErrorCode } from "../gen/lanebox/v1/error_pb.js";
import { type ImageService, ReadDiskResponseSchema } from "../gen/lanebox/v1/image_pb.js";
import type { RootDisk } from "../gen/lanebox/v1/sandbox_pb.js";
import { type Fake, failure, later } from "./fake-helper.js";

/** Bytes of the disk's three pieces. */
export const FAKE_DISK = { data: 1000, hole: 5000, end: 24 } as const;
const size = FAKE_DISK.data + FAKE_DISK.hole + FAKE_DISK.end;

/** Serves images. */
export function fakeImages({ scenario, note }: Fake): Partial<ServiceImpl<typeof ImageService>> {
  const open = (source: RootDisk | undefined) => {
    const store = source?.overlay?.store;
    note(`disk ${source?.path} ${store?.case === "file" ? store.value.path : "plain"}`);
    if (scenario.images === "refuse") {
      throw failure(ErrorCode.DISK_IN_USE, { message: "The store is in use" });
    }
  };
  return {
    inspectDisk: ({ source }) => {
      open(source);
      return { sizeBytes: BigInt(size), dataBytes: 1024n, overlayBytes: 4096n };
    },
    readDisk: async function* ({ source }, context: HandlerContext) {
      open(source);
      context.signal.addEventListener("abort", () => note("read ended"));
      const piece = (value: Uint8Array | bigint) =>
        create(ReadDiskResponseSchema, {
          piece:
            typeof value === "bigint"
              ? { case: "zeroBytes", value }
              : { case: "data", value: value as Uint8Array<ArrayBuffer> },
        });
      yield piece(new Uint8Array(FAKE_DISK.data).fill(1));
      if (scenario.images === "hang") await later(600_000);
      yield piece(BigInt(FAKE_DISK.hole));
      yield piece(new Uint8Array(FAKE_DISK.end).fill(2));
    },
    flatten: async function* ({ source, destination, clusterBytes, compress }) {
      open(source);
      note(`flatten ${clusterBytes} ${compress}`);
      yield { positionBytes: 10n, sizeBytes: BigInt(size) };
      if (scenario.images === "hang") await later(600_000);
      writeFileSync(destination, "flat");
      yield { positionBytes: BigInt(size), sizeBytes: BigInt(size) };
    },
  };
}
