// Exports of services/config; other modules import only from here.

export type { AddedFaceplate } from './added-faceplate.ts';
export { isDataDirectory, prepareDirectories } from './directories.ts';
export { compareConfigs, type ConfigChanges } from './changes.ts';
export { portsOf } from './check.ts';
export {
  type Config,
  type EffectiveSetting,
  loadConfig,
  type LoadedConfig,
  type MoreSettings,
  type TlsFiles,
} from './config.ts';
export { type ConfiguredDeployment, desiredDeployment } from './deployment.ts';
export { ExitError, EXIT, type ExitCode } from './exit-error.ts';
export { CONFIG_FILE_NAMES, describeValue, keyText } from './file.ts';
export { httpAccessOf } from './http-access.ts';
export type { FlagValue } from './layers.ts';
export {
  advertisedHost,
  consulTokensOf,
  createSecrets,
  linkSecurityOf,
  portTlsOf,
  type TlsPort,
} from './credentials.ts';
export { type Role, ROLES } from './roles.ts';
export { readRouteFile } from './route-file.ts';
export { ensureSecretFile, readSecretFile, whyWeakSecret } from './secret-file.ts';
export { didYouMean } from './suggest.ts';
export { VERSION } from './version.ts';
