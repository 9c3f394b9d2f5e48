// Every action on workers, sites, queues and jobs: who may do it, what it asks for, and what it will do, in words.
// The requests are those of the operators' API: edge_schemas/admin/actions.py.

import { instantOf } from "./format.js";

const UNTIL = { key: "until", label: "Until", type: "until", hint: "It ends by itself then. Empty: until an operator ends it." };

const AVAILABILITY = [
  { do: "pause", label: "Pause", past: "paused", role: "operator", fields: [UNTIL], text: "No new jobs start. Jobs that run go on." },
  { do: "resume", label: "Resume", past: "resumed", role: "operator", text: "Ends a pause, a drain or a stop." },
];
const ENDING = [
  { do: "drain", label: "Drain", past: "drained", role: "operator", fields: [UNTIL], text: "No new jobs start. The agent exits when the jobs that run have ended." },
  { do: "stop", label: "Stop", past: "stopped", role: "operator", danger: true, fields: [UNTIL], text: "No new jobs start. Jobs that run are stopped, then the agent exits." },
];

const QUEUE_LIST = { type: "names", hint: "Names, separated by commas." };

const WORKER = [
  ...AVAILABILITY,
  ...ENDING,
  {
    do: "set-queues",
    label: "Change queues",
    past: "given other queues",
    role: "operator",
    text: "At least one queue must be left. Jobs that run go on.",
    fields: [
      { key: "add", label: "Add", ...QUEUE_LIST },
      { key: "remove", label: "Remove", ...QUEUE_LIST },
      { key: "queues", label: "Or replace all by", ...QUEUE_LIST, optional: true },
      { key: "as_enrolled", label: "Back to the queues of the enrolment", type: "flag" },
    ],
  },
  {
    do: "set-slots",
    label: "Change slots",
    past: "given other slots",
    role: "operator",
    text: "How many jobs run at once. Jobs that run beyond it go on.",
    fields: [{ key: "slots", label: "Slots", type: "number", least: 0, hint: "Empty: the worker's own setting." }],
  },
  {
    do: "set-labels",
    label: "Change labels",
    past: "labelled",
    role: "operator",
    text: "Labels are for filters and for people; they decide nothing.",
    fields: [
      { key: "set", label: "Set", type: "labels", hint: "line=3, vendor=acme" },
      { key: "remove", label: "Remove", type: "names", hint: "Keys, separated by commas." },
    ],
  },
  {
    do: "resolve",
    label: "Resolve conflict",
    past: "resolved",
    role: "operator",
    text: "Two agents use one credential. One of them is the worker; the other one gets no more work.",
    fields: [{ key: "keep", label: "Which agent is the worker", type: "choice", options: [["older", "the older agent"], ["newer", "the newer agent"]] }],
    when: (row) => row.state === "conflict",
  },
  { do: "rotate", label: "Rotate credential", past: "told to rotate the credential", role: "admin", text: "The worker makes a new secret at its next poll. The older one is valid until the new one is first used." },
  { do: "revoke", label: "Revoke", past: "revoked", role: "admin", danger: true, text: "Ends the credential for good. The worker must enrol again." },
  { do: "remove", label: "Remove", past: "removed", role: "admin", danger: true, text: "Removes a revoked worker from all lists. Its name becomes free.", when: (row) => row.state === "revoked" },
];

const QUEUE = [
  { do: "pause", label: "Pause", past: "paused", role: "operator", fields: [UNTIL], text: "No job of the queue is granted. Jobs that run go on." },
  { do: "resume", label: "Resume", past: "resumed", role: "operator", text: "Ends the pause." },
  {
    do: "set",
    label: "Settings",
    verb: "Change settings",
    past: "changed",
    role: "admin",
    text: "Only what you tick is changed. An empty value returns to the default.",
    fields: [
      { key: "tolerance_s", label: "Offline tolerance (seconds)", type: "number", least: 1, ticked: true, hint: "For jobs that are dispatched from now on." },
      { key: "timeout_s", label: "Queue time-out (seconds)", type: "number", least: 1, ticked: true, hint: "How long a job may wait." },
      { key: "max_running", label: "Most jobs that run at once", type: "number", least: 1, ticked: true },
      { key: "kinds", label: "Accepted kinds", type: "names", ticked: true, hint: "task, callback, connection_test" },
    ],
  },
];

const JOB = [
  { do: "cancel", label: "Cancel", past: "cancelled", role: "operator", danger: true, text: "Ends the jobs in any state. Airflow sees their tasks fail." },
  { do: "redrive", label: "Redrive", past: "redriven", role: "operator", text: "Publishes parked jobs again, with five new tries to start.", when: (row) => Boolean(row.parked) },
  { do: "purge", label: "Purge", past: "purged", role: "operator", danger: true, text: "Ends parked jobs and removes their history. Airflow sees their tasks fail.", when: (row) => Boolean(row.parked) },
];

/** By kind of target: the path of the action, the field with the targets, the words, and the actions. */
export const KINDS = {
  worker: { path: "worker-actions", targets: "workers", one: "worker", many: "workers", actions: WORKER },
  site: { path: "site-actions", targets: "sites", one: "site", many: "sites", actions: [...AVAILABILITY, ...ENDING] },
  queue: { path: "queue-actions", targets: "queues", one: "queue", many: "queues", actions: QUEUE },
  job: { path: "job-actions", targets: "jobs", one: "job", many: "jobs", actions: JOB },
};

/** The request of an action. `choice` is {names}, {where} or {all}; `values` are those of the fields. */
export function requestOf(kind, action, choice, values, reason, dryRun) {
  const parts = { do: action.do };
  for (const field of action.fields || []) {
    const value = values[field.key];
    if (field.ticked) {
      if (value?.ticked) parts[field.key] = valueOf(field, value.value);
    } else {
      const sent = valueOf(field, value);
      const isLeftOut = sent === undefined || (field.type === "names" && field.optional && sent === null);
      if (!isLeftOut) parts[field.key] = sent ?? (field.type === "names" ? [] : null);
    }
  }
  const body = { action: parts, reason, dry_run: dryRun };
  if (choice.all) body.all = true;
  else if (choice.where) body.where = choice.where;
  else body[KINDS[kind].targets] = choice.names;
  return body;
}

function valueOf(field, value) {
  const text = typeof value === "string" ? value.trim() : value;
  switch (field.type) {
    case "until":
      return instantOf(value)?.toISOString();
    case "number":
      return text === "" || text == null ? null : Number(text);
    case "names": {
      const names = (text || "").split(",").map((name) => name.trim()).filter(Boolean);
      return names.length ? names : null;
    }
    case "labels":
      return Object.fromEntries((text || "").split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
        const [key, ...rest] = part.split("=");
        return [key.trim(), rest.join("=").trim()];
      }));
    case "flag":
      return Boolean(value);
    default:
      return text || undefined;
  }
}
