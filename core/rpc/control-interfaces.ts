// The control interfaces of a chassis: `katamari.Chassis`, which every chassis serves, `katamari.Content`, which
// content servers serve, and `katamari.Mesh`, which the mesh serves to a chassis.

import { parseIdl, readIdlFile } from '../idl/mod.ts';
import { KatamariError } from '../mod.ts';
import type { Interface } from '../thrift/mod.ts';

/** Returns the interface of the control service `katamari.Mesh`. idl/chassis.thrift is read once. */
export function meshInterface(): Interface {
  return controlIdl().Mesh;
}

/** The description that a chassis gives of itself: ChassisDetails of idl/chassis.thrift, decoded. */
export interface ChassisDetails {
  readonly serviceName: string;
  readonly version: string;
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  readonly more: Readonly<Record<string, string>>;
  readonly idlMain: string;
  readonly idlFiles: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** Calls that the chassis accepts beyond `concurrency` (prefetch). Absent means none. */
  readonly ahead?: number;
  readonly sdk: string;
  /** Whether it serves `katamari.Content` too. Absent means no. */
  readonly holdsShards?: boolean;
}

/** Returns the interface of the control service `katamari.Chassis`. idl/chassis.thrift is read once. */
export function chassisInterface(): Interface {
  return controlIdl().Chassis;
}

/** Returns the interface of the control service `katamari.Content` of idl/content.thrift, which is read once. */
export function contentInterface(): Interface {
  content ??= parseIdl(readIdlFile(new URL('../../idl/content.thrift', import.meta.url))).services.get('Content');
  if (content === undefined) throw new KatamariError('internal', 'idl/content.thrift lacks service Content');
  return content;
}

function controlIdl(): { Mesh: Interface; Chassis: Interface } {
  control ??= readControlIdl();
  return control;
}

function readControlIdl(): { Mesh: Interface; Chassis: Interface } {
  const { services } = parseIdl(readIdlFile(new URL('../../idl/chassis.thrift', import.meta.url)));
  const [Mesh, Chassis] = [services.get('Mesh'), services.get('Chassis')];
  if (Mesh === undefined || Chassis === undefined)
    throw new KatamariError('internal', 'idl/chassis.thrift lacks service Mesh or Chassis');
  return { Mesh, Chassis };
}

/** Parsed on first use and cached. */
let content: Interface | undefined;
let control: { Mesh: Interface; Chassis: Interface } | undefined;
