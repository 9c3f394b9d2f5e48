// Creating a token, which is shown once, and revoking one.
import { send } from "../api.js";
import { local } from "../format.js";
import { html, useState } from "../lib.js";
import { Dialog } from "../parts/dialog.js";
import { Copyable } from "../parts/marks.js";

const HOURS = [["1", "1 hour"], ["24", "1 day"], ["168", "7 days"], ["720", "30 days"], ["2160", "90 days"], ["8760", "1 year"]];
const list = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);

function TextField({ label, note, ...rest }) {
  const id = note && `note-${label.replace(/\W+/g, "-")}`;
  return html`<div class="field wide"><label><span>${label}</span><input type="text" autocomplete="off" spellcheck=${false} aria-describedby=${id} ...${rest} /></label>${note && html`<small id=${id}>${note}</small>`}</div>`;
}

/** A form that sends a request and shows the secret of the answer. */
function Create({ title, path, body, ready, made, setMade, close, children, shown }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      setMade(await send("POST", path, body()));
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  if (made) return html`<${Dialog} title=${title} close=${close}><div class="dialog-form">
      <p class="message hold"><strong>Copy it now.</strong> It is shown once: only its hash is kept.</p>
      ${shown(made)}
      <footer><button type="button" class="button primary" onClick=${close}>Done</button></footer></div><//>`;
  return html`<${Dialog} title=${title} close=${close} locked=${busy}><form class="dialog-form" onSubmit=${submit}>
      ${children}
      ${error && html`<p class="message bad" role="alert">${error.message}. ${error.isOutage ? "If a token was created all the same, it is in the list: revoke it." : ""}</p>`}
      <footer><button type="button" class="button" disabled=${busy} onClick=${close}>Close</button>
        <button type="submit" class="button primary" disabled=${busy || !ready}>${busy ? "Creating …" : "Create"}</button></footer>
    </form><//>`;
}

export function CreateEnroll({ made, setMade, close }) {
  const [site, setSite] = useState("");
  const [queues, setQueues] = useState("");
  const [team, setTeam] = useState("");
  const [uses, setUses] = useState("1");
  const [hours, setHours] = useState("1");
  const body = () => ({ site: site.trim(), queues: list(queues), team: team.trim() || null, uses: Number(uses), ttl_s: Number(hours) * 3600 });
  const shown = (token) => html`
    <p>For ${token.uses === 1 ? "one worker" : `${token.uses} workers`} at ${token.site}, until ${local(new Date(token.expires_at))}.</p>
    <${Copyable} text=${token.token} label="token" />
    <p>On the worker's machine, this enrols with it:</p>
    <${Copyable} text=${token.command} label="command" />
    <${CaHint} command=${token.command} />`;
  return html`<${Create} title="Create an enrolment token" path="enroll-tokens" body=${body} ready=${site.trim() && list(queues).length} made=${made} setMade=${setMade} close=${close} shown=${shown}>
    <p class="faint">A worker that enrols with it gets this site and these queues.</p>
    <${TextField} label="Site" required value=${site} onInput=${(event) => setSite(event.target.value)} note="Lower-case letters, digits and hyphens." autofocus />
    <${TextField} label="Queues" required value=${queues} onInput=${(event) => setQueues(event.target.value)} note="Names, separated by commas." />
    <${TextField} label="Team (optional)" value=${team} onInput=${(event) => setTeam(event.target.value)} />
    <div class="pair"><label class="field"><span>Workers</span><input type="number" min="1" max="5000" required value=${uses} onInput=${(event) => setUses(event.target.value)} /></label>
      <${Valid} hours=${hours} setHours=${setHours} /></div>
  <//>`;
}

/** What the command does about the relay's CA, or what to do where the relay does not know of one. */
function CaHint({ command }) {
  if (command.includes("EDGE_WORKER_CA_FILE")) {
    return html`<p class="faint">The command writes the relay's CA into <code>ca.pem</code>. Set <code>EDGE_WORKER_CA_FILE</code> for the agent as well: <code>edge-worker run</code> needs it, too.</p>`;
  }
  return html`<p class="faint">If a private CA has signed the relay's certificate, copy its PEM file to the machine, and add <code>--ca-file FILE</code> to this command and to <code>edge-worker run</code>. With <code>RELAY_PUBLIC_CA_FILE</code> set at the relay, the command contains the CA.</p>`;
}

export function CreateAccess({ made, setMade, close }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState("viewer");
  const [sites, setSites] = useState("");
  const [queues, setQueues] = useState("");
  const [hours, setHours] = useState("2160");
  const [reason, setReason] = useState("");
  const [airflow, setAirflow] = useState(false);
  const isProducer = role === "producer";
  const some = (text) => (list(text).length ? list(text) : null);
  const body = () => ({ name: name.trim(), role, sites: isProducer ? null : some(sites), queues: some(queues), ttl_s: hours === "never" ? null : Number(hours) * 3600, for_airflow: airflow && !isProducer, reason: reason.trim() });
  const shown = (token) => html`<p>For ${token.name}, role ${token.role}${token.expires_at ? `, until ${local(new Date(token.expires_at))}` : ", without an end"}.</p><${Copyable} text=${token.token} label="token" />`;
  return html`<${Create} title="Create an access token" path="access-tokens" body=${body} ready=${name.trim() && (!isProducer || list(queues).length)} made=${made} setMade=${setMade} close=${close} shown=${shown}>
    <${TextField} label="Name" required maxlength="120" value=${name} onInput=${(event) => setName(event.target.value)} note="Who or what it is for; it stands in the audit." autofocus />
    <div class="pair"><label class="field"><span>Role</span><select value=${role} onChange=${(event) => setRole(event.target.value)}>
        <option value="producer">producer: submits jobs to queues</option><option value="viewer">viewer: reads everything</option><option value="operator">operator: pauses, drains, cancels</option><option value="admin">admin: tokens and settings too</option></select></label>
      <${Valid} hours=${hours} setHours=${setHours} never /></div>
    ${!isProducer && html`<${TextField} label="Only these sites (optional)" value=${sites} onInput=${(event) => setSites(event.target.value)} note="Names, separated by commas. Empty: all." />`}
    <${TextField} label=${isProducer ? "Queues" : "Only these queues (optional)"} required=${isProducer} value=${queues} onInput=${(event) => setQueues(event.target.value)} note=${isProducer ? "Names, separated by commas." : undefined} />
    ${!isProducer && html`<label class="check"><input type="checkbox" checked=${airflow} onChange=${(event) => setAirflow(event.target.checked)} /> For an Airflow api-server, which calls for its users</label>`}
    <${TextField} label="Reason (optional)" maxlength="500" value=${reason} onInput=${(event) => setReason(event.target.value)} />
  <//>`;
}

function Valid({ hours, setHours, never = false }) {
  const options = never ? [...HOURS, ["never", "no end"]] : HOURS;
  return html`<label class="field"><span>Valid for</span><select value=${hours} onChange=${(event) => setHours(event.target.value)}>
    ${options.map(([value, label]) => html`<option key=${value} value=${value} selected=${value === hours}>${label}</option>`)}</select></label>`;
}

export function Revoke({ words, path, revoked, close }) {
  const [reason, setReason] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await revoked(path, reason.trim());
      close();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return html`<${Dialog} title="Revoke a token" close=${close} locked=${busy}><form class="dialog-form" onSubmit=${submit}>
    <p>This ends <strong>${words}</strong> for good. Workers that have enrolled keep their own credentials.</p>
    <${TextField} label="Reason" required maxlength="500" value=${reason} onInput=${(event) => setReason(event.target.value)} note="Kept in the audit." autofocus />
    ${error && html`<p class="message bad" role="alert">${error.message}.</p>`}
    <footer><button type="button" class="button" onClick=${close}>Close</button><button type="submit" class="button danger filled" disabled=${busy || !reason.trim()}>Revoke</button></footer>
  </form><//>`;
}
