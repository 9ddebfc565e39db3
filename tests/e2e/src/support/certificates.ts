/** A certificate authority for tests, made by openssl for this run alone. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Authority {
  /** The authority's certificate, PEM. */
  readonly root: string;
  /** A certificate for these names and its key, PEM. */
  issue(names: string[]): { cert: string; key: string };
}

/** Makes one. */
export function authority(): Authority {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-ca-"));
  const path = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const ca = ["-addext", "basicConstraints=critical,CA:TRUE", "-days", "2"];
  try {
    openssl(
      ...["req", "-x509", ...newKey, ...ca, "-subj", "/CN=Lanebox test authority"],
      ...["-keyout", path("ca.key"), "-out", path("ca.pem")],
    );
    const root = readFileSync(path("ca.pem"), "utf8");
    const caKey = readFileSync(path("ca.key"), "utf8");
    return { root, issue: (names) => issue(root, caKey, names) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function issue(root: string, caKey: string, names: string[]): { cert: string; key: string } {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-ca-"));
  const path = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  try {
    writeFileSync(path("ca.pem"), root);
    writeFileSync(path("ca.key"), caKey);
    writeFileSync(
      path("extensions"),
      `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}\nextendedKeyUsage=serverAuth\n`,
    );
    openssl(
      ...["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-subj", `/CN=${names[0]}`, "-keyout", path("key"), "-out", path("csr")],
    );
    openssl(
      ...["x509", "-req", "-in", path("csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key")],
      ...["-CAcreateserial", "-days", "2", "-extfile", path("extensions"), "-out", path("cert")],
    );
    return { cert: readFileSync(path("cert"), "utf8"), key: readFileSync(path("key"), "utf8") };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
