// The web faceplate: plain HTTP for browsers, with static files and services that answer HTTP requests. Other modules
// import only from here.

export { startWebFaceplate } from './server.ts';
export type { Site } from './site.ts';
