// What users see. Nothing else of this package is public.
export type { Architecture, ImageFact } from "./artifact-descriptor.js";
export type { ConsoleCallback } from "./console.js";
export type { CopyOptions, CopyProgress, CopyResult } from "./copy-options.js";
export type { BytesOptions } from "./disk-bytes.js";
export { SandboxError, type SandboxErrorCode, type SandboxErrorDetails } from "./errors.js";
export type { ClosedReason, MountProblem, StoreOperation, VmEvent, VmState } from "./events.js";
export type { ExecOptions, ExecResult } from "./exec-options.js";
export type { EnvironmentFact } from "./facts/fact.js";
export type { FlattenOptions, FlattenProgress } from "./flatten.js";
export { fs } from "./fs.js";
export type { Confinement } from "./grants.js";
export type { GuestFileStat, GuestFileType } from "./guest-file-stat.js";
export type {
  GuestDirectoryEntry,
  GuestFileOptions,
  GuestFiles,
  GuestPath,
  ReadFileOptions,
  ReadOptions,
  WriteOptions,
} from "./guest-files.js";
export type { ProcessExit } from "./guest-process.js";
export type { MemoryFile, MemoryOptions } from "./memory/create.js";
export type { MemoryFileSystem, WriteFileOptions } from "./memory/memory-file-system.js";
export type { MemoryEntry, MemorySizes, MemoryStat } from "./memory/stat.js";
export type { VmMetrics } from "./metrics.js";
export type {
  DirectoryEntry,
  FileStat,
  FileSystem,
  FileSystemSizes,
  FileTimes,
  FileType,
  OnChange,
  ReadRequest,
  RenameFlag,
  WriteRequest,
} from "./mounts/file-system.js";
export type {
  BindMount,
  BindOptions,
  Mount,
  VirtualMount,
  VirtualOptions,
} from "./mounts/mount.js";
export type { PathLike } from "./mounts/names.js";
export type { FileSystemPromises, PromisesOptions } from "./mounts/promises.js";
export type {
  DnsOutcome,
  FlowAddress,
  FlowDenial,
  FlowEnd,
  HttpRefusal,
  NetworkAuditRecord,
  NetworkFlow,
  NetworkVmEvent,
} from "./network/audit.js";
export type {
  DnsMatch,
  FlowMatch,
  HttpMatchResult,
  NetworkConnection,
  NetworkTransport,
} from "./network/connection.js";
export type { Network, NetworkPart } from "./network/definition.js";
export type { NetworkEndpoint } from "./network/endpoint.js";
export type { HeadersInit, HttpHeaders } from "./network/headers.js";
export type { AddressMatch, HttpMatch, NamedEndpoint } from "./network/match.js";
export type {
  NetworkPolicy,
  NetworkRules,
  NetworkSecrets,
  PolicyCallback,
  PolicyOptions,
  TrustOptions,
} from "./network/policy.js";
export type { Ports } from "./network/ports.js";
export type { PublishedPort, PublishOptions } from "./network/published.js";
export type {
  HttpDestination,
  HttpMiddleware,
  HttpResponseInit,
  InterceptedRequest,
  TlsInfo,
} from "./network/request.js";
export type { NetworkRule } from "./network/rules.js";
export type { SecretOptions } from "./network/secrets.js";
export { network } from "./network.js";
export type { BootOptions, IsolationMinimum, SandboxOptions } from "./options.js";
export type { PtyProcess } from "./pty.js";
export { rootfs } from "./rootfs.js";
export type { RootfsImage, RootfsImageOptions } from "./rootfs-image.js";
export { defineSandbox, type Sandbox } from "./sandbox.js";
export type { SpawnedProcess } from "./spawn.js";
export type {
  PtyOptions,
  ResourceLimit,
  ResourceName,
  SpawnOptions,
  TerminalSize,
} from "./spawn-options.js";
export type { StdinSource } from "./stdin.js";
export type {
  SandboxBlockChunk,
  SandboxBlockContext,
  SandboxBlockRange,
  SandboxBlockStore,
} from "./stores/block-store.js";
export type { Isolation, Vm, VmEnd } from "./vm.js";
export type {
  ComposeOptions,
  CowOptions,
  CowSourceOptions,
  EphemeralOptions,
  PersistentOptions,
  Rootfs,
  WritableOptions,
  WritableRootfs,
} from "./writable-rootfs.js";
