// The fields of an action's dialog.
import { instantOf, relative, zoned } from "../format.js";
import { html } from "../lib.js";

const SOON = [["1 hour", 1], ["8 hours", 8], ["1 day", 24], ["3 days", 72]];

export function Field({ field, value, set }) {
  if (field.ticked) return html`<${Ticked} field=${field} value=${value || { ticked: false, value: "" }} set=${set} />`;
  switch (field.type) {
    case "flag":
      return html`<label class="check"><input type="checkbox" checked=${Boolean(value)} onChange=${(event) => set(event.target.checked)} /> ${field.label}</label>`;
    case "choice":
      return html`<fieldset class="choices"><legend>${field.label}</legend>${field.options.map(
        ([key, label]) => html`<label key=${key} class="check"><input type="radio" name=${field.key} required checked=${value === key} onChange=${() => set(key)} /> ${label}</label>`,
      )}</fieldset>`;
    case "until":
      return html`<${Until} field=${field} value=${value || ""} set=${set} />`;
    default:
      return html`<div class="field wide"><label><span>${field.label}</span><${Input} field=${field} value=${value ?? ""} set=${set} /></label>
        ${field.hint && html`<small id=${`hint-${field.key}`}>${field.hint}</small>`}</div>`;
  }
}

function Input({ field, value, set, disabled = false }) {
  const isNumber = field.type === "number";
  return html`<input type=${isNumber ? "number" : "text"} min=${field.least} step=${isNumber ? 1 : undefined} value=${value} disabled=${disabled} onInput=${(event) => set(event.target.value)} aria-describedby=${field.hint ? `hint-${field.key}` : null} autocomplete="off" spellcheck=${false} />`;
}

function Ticked({ field, value, set }) {
  return html`<div class="ticked">
    <label class="check"><input type="checkbox" checked=${value.ticked} onChange=${(event) => set({ ...value, ticked: event.target.checked })} /> ${field.label}</label>
    <label><span class="hidden">${field.label}: new value</span><${Input} field=${field} value=${value.value} disabled=${!value.ticked} set=${(text) => set({ ...value, value: text })} /></label>
    ${field.hint && html`<small id=${`hint-${field.key}`}>${field.hint}</small>`}
  </div>`;
}

/** A time in the reader's zone, typed; or a click from now, whose instant is kept: the text may name two. */
function Until({ field, value, set }) {
  const inHours = (hours) => {
    // Whole minutes by arithmetic: setSeconds() would turn the second of two equal local times into the first.
    const instant = Math.ceil(Date.now() / 60_000 + hours * 60) * 60_000;
    const text = new Date(instant - new Date(instant).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
    return { text, instant };
  };
  const instant = instantOf(value);
  return html`<div class="field wide"><label><span>${field.label} <span class="faint">(optional)</span></span>
      <input type="datetime-local" value=${value.text ?? value} onInput=${(event) => set(event.target.value)} /></label>
    <span class="quick">${SOON.map(([label, hours]) => html`<button key=${hours} type="button" class="button plain" onClick=${() => set(inHours(hours))}>${label}</button>`)}</span>
    <small>${instant ? `It ends by itself ${relative((Date.now() - instant) / 1000)}: ${zoned(instant)}` : field.hint}</small></div>`;
}
