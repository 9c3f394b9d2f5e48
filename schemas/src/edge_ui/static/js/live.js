// What is shown stays at most two seconds old: a stream of changes says what to read again. Where there is no stream,
// everything is read every two seconds. Nothing is read while the page is hidden.
import { address, read, serverNow, session } from "./api.js";
import { Store, useEffect, useState } from "./lib.js";

const POLL_MS = 2000;
const LEAST_MS = 700; // between two reads of the same thing
const SILENT_MS = 5000; // a stream has an event each second: one that is silent for so long is broken
const REOPEN_MS = 5000;
// What the server knows is called stale from this age on. The relay proves each second that it is current, and a stream
// says so each second; lists that are read every two seconds may be older.
const LATE_MS = 3000;
const LATE_WITHOUT_STREAM_MS = 6000;
const VIEWS = ["workers", "sites", "queues", "jobs", "tokens", "audit"];

/** `since`: when the trouble began, or null; `kind`: relay, broker or behind; `text`: in the server's words. */
export const health = new Store({ since: null, kind: null, text: "", streaming: false });

const resources = new Set();
let lastGood = Date.now();
let asOf = 0;
let stream = null;
let lastEvent = 0;
let pulsing = false;
let closedAt = 0;

/** One thing that is read and shown. */
class Resource {
  constructor(path, views, show) {
    this.path = path;
    this.views = views;
    this.show = show;
    this.state = { path, data: null, error: null, loading: true };
    this.etag = null;
    this.reading = false;
    this.again = false;
    this.readAt = 0;
    this.timer = null;
    this.gone = new AbortController();
  }

  /** Soon, and only once for many requests. */
  request() {
    if (this.timer !== null) return;
    const wait = Math.max(0, this.readAt + LEAST_MS - Date.now());
    this.timer = setTimeout(() => {
      this.timer = null;
      // A page that is shown again reads everything.
      if (!document.hidden) this.load();
    }, wait);
  }

  async load() {
    if (this.reading) {
      this.again = true;
      return;
    }
    this.reading = true;
    this.readAt = Date.now();
    try {
      const answer = await read(this.path, { etag: this.etag, signal: this.gone.signal });
      if (answer === null) {
        noteGood(null);
        if (this.state.error) this.update({ error: null });
      } else {
        noteGood(answer.data.as_of);
        this.etag = answer.etag;
        this.update({ data: share(this.state.data, answer.data), error: null, loading: false });
      }
    } catch (error) {
      if (this.gone.signal.aborted) return;
      if (error.isOutage) noteFailure(error);
      this.update({ error, loading: false });
    } finally {
      this.reading = false;
    }
    if (this.again) {
      this.again = false;
      this.request();
    }
  }

  update(changes) {
    this.state = { ...this.state, ...changes };
    if (!this.gone.signal.aborted) this.show(this.state);
  }

  close() {
    clearTimeout(this.timer);
    this.gone.abort();
  }
}

/** The newer data, with each part that is equal to the older one's being the same object: its row is not rendered. */
export function share(older, newer) {
  if (!older || !Array.isArray(newer.items) || !Array.isArray(older.items)) return newer;
  const known = new Map(older.items.map((item) => [keyOf(item), item]));
  const items = newer.items.map((item) => {
    const before = known.get(keyOf(item));
    return before && JSON.stringify(before) === JSON.stringify(item) ? before : item;
  });
  return { ...newer, items };
}

function keyOf(item) {
  return JSON.stringify([item.worker && item.job ? item.job : item.worker, item.job, item.site, item.queue, item.team, item.id, item.sequence]);
}

/** Reads a path and keeps it current; `views` are the names of the changes that concern it. Null reads nothing. */
export function useResource(path, views) {
  const [state, setState] = useState({ path: null, data: null, error: null, loading: true });
  useEffect(() => {
    if (path === null) return undefined;
    const resource = new Resource(path, views, setState);
    resources.add(resource);
    resource.load();
    return () => {
      resources.delete(resource);
      resource.close();
    };
  }, [path]);
  if (state.path === path) return state;
  // The rows of the filter before stay until those of the new one are here: nothing jumps.
  const sameList = state.path !== null && path !== null && state.path.split("?")[0] === path.split("?")[0];
  return { path, data: sameList ? state.data : null, error: null, loading: true };
}

/** Reads again what concerns these views; all by default. */
export function refresh(views = VIEWS) {
  for (const resource of resources) {
    if (resource.views.some((view) => views.includes(view))) resource.request();
  }
}

/**
 * An answer came. `stamp`: how old what it shows is; null if it says nothing about that, as a 304. A list may be older
 * than what an open stream has said.
 */
function noteGood(stamp, fromStream = false) {
  lastGood = Date.now();
  if (stamp) {
    const at = Date.parse(stamp);
    asOf = fromStream || !isOpen() ? at : Math.max(asOf, at);
    judge(serverNow() - asOf > (isOpen() ? LATE_MS : LATE_WITHOUT_STREAM_MS));
  } else if (health.value.kind !== "behind") {
    judge(false);
  }
}

function noteFailure(error) {
  const kind = error.code === "broker_unavailable" ? "broker" : "relay";
  const { since, streaming } = health.value;
  health.set({ since: since ?? lastGood, kind, text: error.message, streaming });
}

function judge(behind) {
  const streaming = isOpen();
  const { since, kind } = health.value;
  if (behind && kind !== "behind") {
    health.set({ since: asOf - (serverNow() - Date.now()), kind: "behind", text: "", streaming });
  } else if (!behind && (since !== null || health.value.streaming !== streaming)) {
    health.set({ since: null, kind: null, text: "", streaming });
  }
}

function isOpen() {
  return stream !== null && stream.readyState === EventSource.OPEN;
}

/** Asks how old the relay's knowledge is where no stream says it: an unchanged list does not. */
async function pulse() {
  if (pulsing) return;
  pulsing = true;
  try {
    const { data } = await read("sites?limit=1");
    noteGood(data.as_of);
  } catch (error) {
    if (error.isOutage) noteFailure(error);
  } finally {
    pulsing = false;
  }
}

function openStream() {
  stream = new EventSource(address("changes"));
  const take = (event) => {
    lastEvent = Date.now();
    let change;
    try {
      change = JSON.parse(event.data);
    } catch {
      return; // an event of a later version
    }
    // An event does not end an outage that a read has met: the next read does.
    if (health.value.since === null || health.value.kind === "behind") noteGood(change.as_of, true);
    else refresh();
    if (change.views?.length) refresh(change.views);
  };
  stream.onopen = () => {
    lastEvent = Date.now();
    refresh();
  };
  stream.addEventListener("change", take);
  stream.addEventListener("alive", take);
  stream.onerror = () => {
    if (stream?.readyState === EventSource.CLOSED) closeStream();
  };
}

function closeStream() {
  stream?.close();
  stream = null;
  closedAt = Date.now();
}

function beat() {
  if (!session.value || document.hidden) return;
  if (stream === null && Date.now() - closedAt > REOPEN_MS) openStream();
  if (isOpen() && Date.now() - lastEvent > SILENT_MS) closeStream();
  if (isOpen()) return;
  refresh();
  pulse();
}

/** Begins; called once. */
export function startLive() {
  closedAt = 0;
  setInterval(beat, POLL_MS);
  session.subscribe((who) => {
    if (who) {
      lastGood = Date.now();
      if (!stream) openStream();
    } else {
      closeStream();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!session.value) return;
    if (document.hidden) {
      closeStream();
    } else {
      openStream();
      refresh();
    }
  });
}
