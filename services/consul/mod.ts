// Exports of services/consul; other modules import only from here.

export { type Announcement, announceService } from './announce.ts';
export { changeValue, setUnlessChanged, UNCHANGED, type ValueChange } from './change-value.ts';
export { ConsulClient, consulClient } from './client.ts';
export { consulOptionsOf, type DocumentSigner, type OpenedDocument } from './options.ts';
export { pause, within } from './pause.ts';
export { ConsulError } from './requests.ts';
export { ConsulSession, type SessionStats } from './session.ts';
export { type ConsulEntry, type TransactionStep } from './store.ts';
export { type ChangeFacts, type ConsulWatch, type WatchedEntries, watchPrefix, type WatchStats } from './watch.ts';
