// Buttons of actions, and the dialog of one: reason, end time, what will change, and afterwards what happened.
import { KINDS, requestOf } from "../actions.js";
import { may, send } from "../api.js";
import { plural } from "../format.js";
import { html, Store, useEffect, useRef, useState, useStore } from "../lib.js";
import { refresh } from "../live.js";
import { Dialog } from "./dialog.js";
import { Field } from "./fields.js";

const PREVIEW_MS = 300;
const RETRY_MS = 2000;
const MOST_SHOWN = 50;

/** The action that is asked about, or null. Its dialog outlives the list that it was opened from. */
const asked = new Store(null);

/**
 * The actions that the person may carry out, as buttons; those beyond the first `most` in a menu. `choice`: {names} or
 * {where}, {all}; `row` hides actions that make no sense for it, `only` names those that are offered.
 */
export function Actions({ kind, choice, label, row = null, only = null, most = Infinity }) {
  const possible = KINDS[kind].actions.filter(
    (action) => may(action.role) && (!only || only.includes(action.do)) && (!row || !action.when || action.when(row)),
  );
  if (!possible.length) return null;
  const ask = (action, opener) => asked.set({ kind, action, choice, label, opener });
  const others = possible.slice(most);
  return html`<div class="actions" role="group" aria-label=${`Actions on ${label}`}>
    ${possible.slice(0, most).map((action) => html`<button key=${action.do} type="button" class=${`button ${action.danger ? "danger" : ""}`} onClick=${(event) => ask(action, event.currentTarget)}>${action.label}</button>`)}
    ${others.length > 0 && html`<${More} actions=${others} ask=${ask} />`}
  </div>`;
}

function More({ actions, ask }) {
  const choose = (event) => {
    const menu = event.currentTarget;
    const chosen = actions.find((action) => action.do === menu.value);
    menu.value = "";
    if (chosen) ask(chosen, menu);
  };
  return html`<select aria-label="More actions" onChange=${choose}>
    <option value="">More …</option>
    ${actions.map((action) => html`<option key=${action.do} value=${action.do}>${action.label}</option>`)}
  </select>`;
}

/** Where the dialog is; once in the page. */
export function ActionPlace() {
  const open = useStore(asked);
  return open && html`<${ActionDialog} ...${open} close=${() => asked.set(null)} />`;
}

function ActionDialog({ kind, action, choice, label, opener, close }) {
  const [values, setValues] = useState({});
  const [reason, setReason] = useState("");
  const [phase, setPhase] = useState("ask");
  const [outcome, setOutcome] = useState(null);
  const [error, setError] = useState(null);
  const preview = usePreview(kind, action, choice, values);
  const submit = async (event) => {
    event.preventDefault();
    setPhase("send");
    setError(null);
    try {
      const body = requestOf(kind, action, choice, values, reason.trim(), false);
      setOutcome(await send("POST", KINDS[kind].path, body));
      setPhase("done");
    } catch (failure) {
      setError(failure);
      setPhase("ask");
    }
    refresh();
  };
  const title = `${action.label}: ${label}`;
  if (phase === "done") return html`<${Dialog} title=${title} opener=${opener} close=${close}><${Outcome} kind=${kind} action=${action} outcome=${outcome} close=${close} /><//>`;
  const nothing = preview.result && preview.result.changed_count === 0;
  return html`<${Dialog} title=${title} opener=${opener} close=${close} locked=${phase === "send"}>
    <form class="dialog-form" onSubmit=${submit}>
      <p>${action.text}</p>
      ${(action.fields || []).map((field) => html`<${Field} key=${field.key} field=${field} value=${values[field.key]} set=${(value) => setValues({ ...values, [field.key]: value })} />`)}
      <label class="field wide"><span>Reason <span class="faint">(required; kept in the audit)</span></span>
        <textarea rows="2" required maxlength="500" value=${reason} onInput=${(event) => setReason(event.target.value)} autofocus></textarea>
      </label>
      <${Preview} kind=${kind} preview=${preview} />
      ${error && html`<p class="message bad" role="alert"><strong>Nothing is confirmed:</strong> ${error.message}. ${error.isOutage ? "The action may be repeated: a repeat changes nothing." : ""}</p>`}
      <footer>
        <button type="button" class="button" disabled=${phase === "send"} onClick=${close}>Close</button>
        <button type="submit" class=${`button ${action.danger ? "danger filled" : "primary"}`} disabled=${phase === "send" || !reason.trim() || nothing || Boolean(preview.error)}>
          ${phase === "send" ? "Working …" : buttonText(kind, action, preview)}
        </button>
      </footer>
    </form>
  <//>`;
}

function buttonText(kind, action, { result }) {
  const { one, many } = KINDS[kind];
  if (!result?.changed_count) return action.label;
  const words = action.verb || action.label;
  return `${words}${words.includes(" ") ? " of" : ""} ${plural(result.changed_count, one, many)}`;
}

/** What the action would do with these values, asked of the relay after each pause in typing. */
function usePreview(kind, action, choice, values) {
  const [state, setState] = useState({ result: null, error: null, asking: true });
  const asked = useRef(0);
  useEffect(() => {
    const mine = ++asked.current;
    setState((before) => ({ ...before, asking: true }));
    let timer = null;
    const ask = async () => {
      let next;
      try {
        const body = requestOf(kind, action, choice, values, "preview", true);
        next = { result: await send("POST", KINDS[kind].path, body), error: null, asking: false };
      } catch (error) {
        next = { result: null, error, asking: false };
      }
      if (asked.current !== mine) return;
      setState(next);
      if (next.error?.isOutage) timer = setTimeout(ask, RETRY_MS);
    };
    timer = setTimeout(ask, PREVIEW_MS);
    return () => {
      asked.current += 1;
      clearTimeout(timer);
    };
  }, [JSON.stringify(values)]);
  return state;
}

function Preview({ kind, preview: { result, error, asking } }) {
  const { one, many } = KINDS[kind];
  let text = "Asking the relay …";
  if (error) text = error.message;
  else if (result) {
    const parts = [result.changed_count ? `${plural(result.changed_count, one, many)} will change` : "Nothing will change"];
    if (result.unchanged_count) parts.push(`${result.unchanged_count} already as wanted`);
    if (result.failure_count) parts.push(`${result.failure_count} can't be changed: ${result.failures[0]?.detail ?? ""}`);
    if (result.absent?.length) parts.push(noSuchQueue(result));
    text = parts.join("; ");
  }
  return html`<p class=${`preview ${error ? "bad" : ""}`} role="status" aria-busy=${asking}>
    <span class="preview-label">Preview</span> ${text}
    ${result?.changed.length > 0 && html`<span class="faint clip"> ${result.changed.slice(0, 8).join(", ")}${result.changed_count > 8 ? " …" : ""}</span>`}
  </p>`;
}

const noSuchQueue = ({ absent }) => `no such queue yet: ${absent.slice(0, MOST_SHOWN).join(", ")} (is the name right?)`;

function Outcome({ kind, action, outcome, close }) {
  const { one, many } = KINDS[kind];
  const { changed_count: changed, unchanged_count: unchanged, failure_count: failed, failures } = outcome;
  const button = useRef(null);
  useEffect(() => button.current.focus(), []);
  return html`<div class="dialog-form">
    <p class="result" role="status">
      <strong>${plural(changed, one, many)} ${action.past}.</strong>
      ${unchanged > 0 && ` ${plural(unchanged, "was", "were")} already as wanted.`}
      ${failed > 0 && html` <strong class="bad">${failed} failed.</strong>`}
      ${outcome.absent?.length > 0 && html` <strong class="warn">Note: ${noSuchQueue(outcome)}.</strong>`}
    </p>
    ${kind === "worker" && changed > 0 && html`<p class="faint">Workers that are online apply it within two seconds; the list shows “not yet applied” until then. Workers that are offline apply it when they return.</p>`}
    ${failures.length > 0 && html`<div class="table-frame small"><table aria-label="What failed">
      <thead><tr><th scope="col">${one}</th><th scope="col">code</th><th scope="col">reason</th></tr></thead>
      <tbody>${failures.slice(0, MOST_SHOWN).map((failure) => html`<tr key=${failure.target}><td data-label=${one} class="name">${failure.target}</td><td data-label="code"><code>${failure.code}</code></td><td data-label="reason">${failure.detail}</td></tr>`)}</tbody>
    </table></div>`}
    ${failures.some(({ code }) => code === "broker_unavailable") && html`<p class="faint">Where the code is broker_unavailable, it is not known whether the change was made. Repeat the action: what was changed stays as it is.</p>`}
    ${failed > MOST_SHOWN && html`<p class="faint">and ${failed - MOST_SHOWN} more; the audit has all changes.</p>`}
    <footer><button ref=${button} type="button" class="button primary" onClick=${close}>Done</button></footer>
  </div>`;
}
