// The fleet in one look; for an empty installation, the next steps.
import { count } from "../format.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Copyable, Spark, State } from "../parts/marks.js";
import { Panel } from "../parts/panel.js";
import { Heading } from "../parts/shell.js";
import { Loaded } from "../parts/states.js";
import { Age, Ago } from "../parts/time.js";
import { link } from "../route.js";

const WORKER_STATES = ["online", "unhealthy", "paused", "draining", "offline", "conflict", "never seen", "revoked"];
const SITE_STATES = ["online", "degraded", "offline", "empty"];
const TONES = { critical: "bad", error: "bad", warning: "warn", info: "info" };

export function Overview() {
  const resource = useResource("overview", ["workers", "sites", "queues", "jobs"]);
  return html`<${Heading} title="Overview" />
    <${Loaded} resource=${resource} what="The overview" rows=${8}>${(data) => html`<${Detail} data=${data} />`}<//>`;
}

function Detail({ data }) {
  return html`
    ${data.next_steps.length > 0 && html`<${NextSteps} steps=${data.next_steps} />`}
    <div class="figures">
      <${Figure} label="Running" value=${data.running} note=${`of ${count(data.slots)} slots`} href=${link("jobs", null, { state: "running" })} />
      <${Figure} label="Waiting" value=${data.waiting} note=${`${count(data.held_back)} held back`} href=${link("jobs", null, { state: "waiting" })} />
      <${Figure} label="Oldest waits" value=${data.oldest_at ? html`<${Age} at=${data.oldest_at} />` : "–"} note="in any queue" href=${link("jobs", null, { state: "waiting", sort: "waits_since" })} />
      <${Figure} label="Dead letters" value=${data.dead} note="parked jobs" tone=${data.dead ? "bad" : ""} href=${link("dead")} />
      <div class="figure"><span class="label">In</span><${Spark} values=${data.in_per_minute} label="jobs that came in" /><span class="note">last 10 minutes</span></div>
      <div class="figure"><span class="label">Out</span><${Spark} values=${data.out_per_minute} label="jobs that ended" tone="out" /><span class="note">last 10 minutes</span></div>
    </div>
    <div class="panels">
      <${Panel} title="Needs attention" wide><${Attention} items=${data.attention} /><//>
      <${Panel} title="Workers" aside=${html`<a href=${link("workers")}>All workers</a>`}><${Counts} view="workers" counts=${data.workers} states=${WORKER_STATES} /><//>
      <${Panel} title="Sites" aside=${html`<a href=${link("sites")}>All sites</a>`}><${Counts} view="sites" counts=${data.sites} states=${SITE_STATES} /><//>
    </div>`;
}

function Figure({ label, value, note, href, tone = "" }) {
  return html`<a class=${`figure ${tone}`} href=${href}><span class="label">${label}</span><span class="value num">${typeof value === "number" ? count(value) : value}</span><span class="note">${note}</span></a>`;
}

function Counts({ view, counts, states }) {
  return html`<ul class="counts">${states.map((state) => html`<li key=${state} class=${counts[state] ? "" : "none"}>
    <a href=${link(view, null, { state })}><${State} value=${state} /><span class="num">${count(counts[state] || 0)}</span></a></li>`)}</ul>`;
}

function Attention({ items }) {
  if (!items.length) return html`<p class="calm"><${State} value="Nothing needs attention" tone="good" /></p>`;
  return html`<ul class="attention">${items.map((item) => html`<li key=${`${item.code} ${item.view} ${item.text}`}>
    <${State} value=${item.severity} tone=${TONES[item.severity] || "idle"} />
    <a href=${`#/${item.view.replace(/^\/+/, "")}`}>${item.text}</a>
    <span class="when faint"><${Ago} at=${item.since} none="" /></span></li>`)}</ul>`;
}

function NextSteps({ steps }) {
  return html`<${Panel} title="Next steps" tone="lead" wide><ol class="steps">${steps.map((step) => html`<li key=${step.code}>
    <p>${step.text}</p>
    ${step.command && html`<${Copyable} text=${step.command} label="command" />`}
    ${step.view && html`<p><a href=${`#/${step.view.replace(/^\/+/, "")}`}>Open ${step.view.split(/[?/]/)[0]}</a></p>`}
  </li>`)}</ol><//>`;
}
