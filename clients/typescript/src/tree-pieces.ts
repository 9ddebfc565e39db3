// Pieces of a tree on the wire: lanebox/v1/file.proto.
import { create } from "@bufbuild/protobuf";
import { type TreePiece, TreePieceSchema } from "./gen/lanebox/v1/file_pb.js";
import { FileStatSchema, FileTimeSchema, type FileType } from "./gen/lanebox/v1/filesystem_pb.js";

/** An entry with what a copy keeps. */
export function entryPiece(
  path: Uint8Array,
  type: FileType,
  found: { mode: bigint; size: bigint; mtimeNs: bigint },
  target: Uint8Array = new Uint8Array(),
): TreePiece {
  const billion = 1_000_000_000n;
  const nanos = ((found.mtimeNs % billion) + billion) % billion;
  const seconds = (found.mtimeNs - nanos) / billion;
  const stat = create(FileStatSchema, {
    type,
    size: found.size,
    mode: Number(found.mode & 0o7777n),
    modified: create(FileTimeSchema, { seconds, nanos: Number(nanos) }),
  });
  return create(TreePieceSchema, {
    piece: { case: "entry", value: { path, stat, target } as never },
  });
}

/** Content. */
export function dataPiece(value: Uint8Array): TreePiece {
  return create(TreePieceSchema, { piece: { case: "data", value } });
}

/** A hole. */
export function holePiece(length: number): TreePiece {
  return create(TreePieceSchema, { piece: { case: "hole", value: BigInt(length) } });
}
