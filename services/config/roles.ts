// The roles that a process can have in a mesh.

export type Role = 'master' | 'manager' | 'faceplate';
export const ROLES: readonly Role[] = ['master', 'manager', 'faceplate'];
