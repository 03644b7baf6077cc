// Exports of services/consul; other modules import only from here.

export { type Announcement, announceService } from './announce.ts';
export { changeValue, setUnlessChanged, UNCHANGED, type ValueChange } from './change-value.ts';
export { ConsulClient, consulClient, type ConsulEntry, ConsulError, type TransactionStep } from './client.ts';
export { consulOptionsOf, type DocumentSigner, type OpenedDocument } from './options.ts';
export { pause, within } from './pause.ts';
export { ConsulSession, type SessionStats } from './session.ts';
export { type ChangeFacts, type ConsulWatch, type WatchedEntries, watchPrefix, type WatchStats } from './watch.ts';
