// The control interfaces of idl/chassis.thrift: `katamari.Chassis`, which every chassis serves, and `katamari.Mesh`,
// which the mesh serves to a chassis.

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
}

/** Returns the interface of the control service `katamari.Chassis`. idl/chassis.thrift is read once. */
export function chassisInterface(): Interface {
  return controlIdl().Chassis;
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
let control: { Mesh: Interface; Chassis: Interface } | undefined;
