// The control interfaces of idl/chassis.thrift: the service that every chassis answers, and the one that the mesh
// answers to a chassis.

import { parseIdl, readIdlFile } from '../idl/mod.ts';
import { KatamariError } from '../mod.ts';
import type { Interface } from '../thrift/mod.ts';

// The control interfaces of idl/chassis.thrift: what every chassis answers, and what the mesh answers to a chassis.

/** The interface of `katamari.Mesh`, read from idl/chassis.thrift once. */
export function meshInterface(): Interface {
  return controlIdl().Mesh;
}

/** What a chassis says of itself: ChassisDetails of idl/chassis.thrift, decoded. */
export interface ChassisDetails {
  readonly serviceName: string;
  readonly version: string;
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  readonly more: Readonly<Record<string, string>>;
  readonly idlMain: string;
  readonly idlFiles: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** Absent for none. */
  readonly ahead?: number;
  readonly sdk: string;
}

/** The interface of the control service `katamari.Chassis`. */
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

/** Parsed when first needed: a chassis that calls nobody and is only described once pays once. */
let control: { Mesh: Interface; Chassis: Interface } | undefined;
