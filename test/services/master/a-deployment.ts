// A deployment for tests of the stored desired state. No test starts it.
import type { Deployment } from '../../../services/mesh/mod.ts';
import { deploymentFor } from '../../kit/mesh/deployments.ts';

export function aDeployment(change: Partial<Deployment> = {}): Deployment {
  return deploymentFor({
    service: 'Search',
    count: 2,
    command: ['/bin/search', '--listen', '{listen}'],
    cwd: '/srv/search',
    env: { MODEL: 'small' },
    queueMax: 256,
    ...change,
  });
}
