// The door of the web faceplate.

export { startWebFaceplate, type WebFaceplate, type WebFaceplateOptions } from './server.ts';
export type { Site } from './site.ts';
