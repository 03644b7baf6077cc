// The chassis of the matrix: the Mirror in five languages with their kits, and in three languages as a stock server.
// Each runs alone in its own mesh.

import path from 'node:path';
import { cppPrograms, generatedCode, javaChassis } from './build.ts';
import { MATRIX, MIRROR_IDL } from './calls.ts';
import { startTestMesh, type DeploymentText, type TestMesh } from '../mesh/mesh.ts';
import { scriptCommand } from '../../../core/mod.ts';
import { REPOSITORY } from '../tools/repository.ts';
import { toolPath } from '../tools/tools.ts';

/** With the kit of the language. */
const KITS = ['TypeScript', 'Python', 'Ruby', 'C++', 'Java'] as const;
const STOCK = ['Python, stock server', 'Ruby, stock server', 'C++, stock server'] as const;
export type ChassisLanguage = (typeof KITS)[number] | (typeof STOCK)[number];
export const CHASSIS: readonly ChassisLanguage[] = [...KITS, ...STOCK];

export async function startMatrixMesh(language: ChassisLanguage): Promise<TestMesh> {
  const mesh = await startTestMesh([await deployment(language)], { timeout: '10s' });
  await mesh.mesh.whenReady;
  return mesh;
}

export function thriftPort(mesh: TestMesh): number {
  return Number(mesh.mesh.addresses.thrift.split(':').at(-1));
}

async function deployment(language: ChassisLanguage): Promise<DeploymentText> {
  const common = { service: 'Mirror', version: '1.0.0', count: 1 };
  const server = (name: string): string => path.join(MATRIX, 'servers', name);
  const kit = (name: string): string => path.join(REPOSITORY, 'chassis-sdk', name);
  switch (language) {
    case 'TypeScript':
      return { ...common, command: scriptCommand(server('mirror.ts')) };
    case 'Python': {
      const env = { PYTHONPATH: `${kit('python')}:${path.join(await generatedCode(), 'gen-py')}` };
      return { ...common, command: ['/usr/bin/python3', server('kit.py')], env };
    }
    case 'Ruby': {
      const generated = path.join(await generatedCode(), 'gen-rb');
      const command = [toolPath('ruby'), '-W0', '-I', path.join(kit('ruby'), 'lib'), '-I', generated, server('kit.rb')];
      return { ...common, command };
    }
    case 'C++':
      return { ...common, command: [(await cppPrograms()).chassis, MIRROR_IDL] };
    case 'Java':
      return { ...common, command: await javaChassis() };
    case 'Python, stock server':
      return {
        ...stock(common),
        command: ['/usr/bin/python3', server('plain.py'), '{port}'],
        env: { PYTHONPATH: path.join(await generatedCode(), 'gen-py') },
      };
    case 'Ruby, stock server': {
      const generated = path.join(await generatedCode(), 'gen-rb');
      return { ...stock(common), command: [toolPath('ruby'), '-W0', '-I', generated, server('plain.rb'), '{port}'] };
    }
    case 'C++, stock server':
      return { ...stock(common), command: [(await cppPrograms()).server, '{port}'] };
  }
}

/** Without a kit: Thrift's own simple server, framed, binary, one connection. */
function stock<Common extends object>(common: Common): Common & Readonly<Record<string, unknown>> {
  return { ...common, kit: 'none', idl: MIRROR_IDL, listen: 'tcp' };
}
