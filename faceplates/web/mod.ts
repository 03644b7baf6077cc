// The door of faceplates/web: what other rooms may import.

export { startWebFaceplate } from './server.ts';
export type { Site } from './site.ts';
