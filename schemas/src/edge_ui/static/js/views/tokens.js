// Tokens: of enrolment, with which workers enrol, and of access, with which people and programs call the operators' API.
import { may, send, serverNow } from "../api.js";
import { count } from "../format.js";
import { html, Store, useState, useStore } from "../lib.js";
import { refresh, useResource } from "../live.js";
import { Names, State } from "../parts/marks.js";
import { Panel } from "../parts/panel.js";
import { Heading } from "../parts/shell.js";
import { Empty, Loaded } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { link, setParams } from "../route.js";
import { CreateAccess, CreateEnroll, Revoke } from "./token_dialogs.js";

const MOST = 1000;

/** The token that the dialog asks about: {path, words}. Not in the address: a link must not name what is revoked. */
const revoking = new Store(null);

function stateOf(row) {
  if (row.revoked_at) return "revoked";
  if (row.expires_at && Date.parse(row.expires_at) < serverNow()) return "expired";
  return row.uses !== undefined && row.used >= row.uses ? "used up" : "valid";
}

const stateCell = (row) => html`<${State} value=${stateOf(row)} tone=${stateOf(row) === "valid" ? "good" : "idle"} />`;

function scopeOf({ sites, queues }) {
  const parts = [sites && `sites ${sites.join(", ")}`, queues && `queues ${queues.join(", ")}`].filter(Boolean);
  return parts.length ? parts.join("; ") : "everything";
}

const revokeCell = (path, words) => (row) =>
  may("admin") && stateOf(row) === "valid" ? html`<button type="button" class="button danger" onClick=${() => revoking.set({ path: `${path}/${encodeURIComponent(row.id)}`, words: words(row) })}>Revoke<span class="hidden"> ${words(row)}</span></button>` : html`<span class="faint">–</span>`;

const ENROLL = [
  { key: "site", label: "Site", name: true, cell: (row) => html`<a href=${link("workers", null, { site: row.site })}>${row.site}</a>${row.team && html`<small>team ${row.team}</small>`}` },
  { key: "state", label: "State", cell: stateCell },
  { key: "queues", label: "Queues", cell: (row) => html`<${Names} names=${row.queues} />` },
  { key: "used", label: "Used", numeric: true, cell: (row) => html`<span class="num">${count(row.used)}/${count(row.uses)}</span>` },
  { key: "workers", label: "Workers", cell: (row) => html`<${Names} names=${row.workers} most=${2} view=${(worker) => link("workers", worker)} />` },
  { key: "expires", label: "Expires", cell: (row) => html`<${Ago} at=${row.expires_at} />` },
  { key: "id", label: "Id", cell: (row) => html`<code>${row.id}</code>` },
  { key: "revoke", label: "Action", cell: revokeCell("enroll-tokens", (row) => `the enrolment token of ${row.site}`) },
];
const ACCESS = [
  { key: "name", label: "Name", name: true, cell: (row) => html`${row.name}${row.for_airflow && html`<small>for an Airflow api-server</small>`}` },
  { key: "state", label: "State", cell: stateCell },
  { key: "role", label: "Role", cell: (row) => row.role },
  { key: "scope", label: "Limited to", cell: (row) => scopeOf(row.scope) },
  { key: "used", label: "Last use", cell: (row) => html`<${Ago} at=${row.last_used_at} none="never" />` },
  { key: "created", label: "Created", cell: (row) => html`<${Ago} at=${row.created_at} />` },
  { key: "expires", label: "Expires", cell: (row) => html`<${Ago} at=${row.expires_at} none="never" />` },
  { key: "id", label: "Id", cell: (row) => html`<code>${row.id}</code>` },
  { key: "revoke", label: "Action", cell: revokeCell("access-tokens", (row) => `the access token ${row.name}`) },
];
const keyOf = (row) => row.id;

export function Tokens({ params }) {
  if (!may("admin")) {
    return html`<${Heading} title="Tokens" /><${Empty} title="Tokens are for administrators"><p>Your role is not “admin”. Ask an administrator to create a token for you.</p><//>`;
  }
  return html`<${Heading} title="Tokens" /><${Lists} params=${params} />`;
}

function Lists({ params }) {
  const enroll = useResource(`enroll-tokens?limit=${MOST}`, ["tokens"]);
  const access = useResource(`access-tokens?limit=${MOST}`, ["tokens"]);
  const [made, setMade] = useState(null);
  const create = params.get("create");
  const revoke = useStore(revoking);
  const close = () => {
    setMade(null);
    revoking.set(null);
    setParams({ create: null });
    refresh(["tokens"]);
  };
  const revoked = async (path, reason) => {
    await send("DELETE", `${path}?reason=${encodeURIComponent(reason)}`);
    refresh(["tokens"]);
  };
  return html`
    <${Panel} title="Enrolment tokens" wide aside=${html`<button type="button" class="button primary" onClick=${() => setParams({ create: "enroll" })}>Create an enrolment token</button>`}>
      <${Loaded} resource=${enroll} what="The list of enrolment tokens" rows=${3}>${(page) => (page.items.length ? html`<${Table} label="Enrolment tokens" columns=${ENROLL} page=${page} keyOf=${keyOf} sort="" />${page.next && html`<p class="faint">The first ${count(MOST)} are shown; <code>edge-relay tokens list</code> lists all.</p>`}` : html`<p class="faint">None. Create one to enrol a worker.</p>`)}<//>
    <//>
    <${Panel} title="Access tokens" wide aside=${html`<button type="button" class="button primary" onClick=${() => setParams({ create: "access" })}>Create an access token</button>`}>
      <${Loaded} resource=${access} what="The list of access tokens" rows=${3}>${(page) => (page.items.length ? html`<${Table} label="Access tokens" columns=${ACCESS} page=${page} keyOf=${keyOf} sort="" />${page.next && html`<p class="faint">The first ${count(MOST)} are shown; <code>edge-relay tokens list</code> lists all.</p>`}` : html`<p class="faint">None.</p>`)}<//>
    <//>
    ${create === "enroll" && html`<${CreateEnroll} made=${made} setMade=${setMade} close=${close} />`}
    ${create === "access" && html`<${CreateAccess} made=${made} setMade=${setMade} close=${close} />`}
    ${revoke && html`<${Revoke} words=${revoke.words} path=${revoke.path} revoked=${revoked} close=${close} />`}`;
}
