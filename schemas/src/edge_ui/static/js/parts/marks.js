// Small things: states, sparklines, meters, what is copied by a click. A state is a shape and a word, never a colour alone.
import { html, memo, useRef, useState } from "../lib.js";

const TONES = {
  online: "good",
  succeeded: "good",
  applied: "good",
  running: "good",
  active: "good",
  offline: "bad",
  conflict: "bad",
  failed: "bad",
  lost: "bad",
  dead: "bad",
  parked: "bad",
  stopped: "bad",
  unhealthy: "warn",
  degraded: "warn",
  paused: "hold",
  draining: "hold",
  stopping: "hold",
  cancelled: "hold",
  waiting: "info",
  granted: "info",
  finishing: "info",
};

/** A state: its word with a mark whose shape depends on the tone. */
export const State = memo(({ value, tone, title }) => {
  const kind = tone || TONES[value] || "idle";
  return html`<span class=${`state ${kind}`} title=${title}><${Shape} kind=${kind} />${value}</span>`;
});

function Shape({ kind }) {
  const shapes = {
    good: html`<circle cx="6" cy="6" r="4" />`,
    bad: html`<path d="M6 1 11.5 10.5H.5z" />`,
    warn: html`<path d="M6 .8 11.2 6 6 11.2.8 6z" />`,
    hold: html`<path d="M2.5 2h2.5v8H2.5zM7 2h2.5v8H7z" />`,
    info: html`<circle cx="6" cy="6" r="3.4" class="ring" />`,
    idle: html`<path d="M2 5h8v2H2z" />`,
  };
  return html`<svg class="shape" viewBox="0 0 12 12" aria-hidden="true">${shapes[kind]}</svg>`;
}

/** What came in or went out, as bars; a number says the newest sum. */
export const Spark = memo(({ values, label, tone = "in" }) => {
  const bars = values.slice(-60);
  const top = Math.max(1, ...bars);
  const minute = bars.slice(-6).reduce((sum, value) => sum + value, 0);
  const hasBars = bars.some((value) => value > 0);
  const path = bars
    .map((value, index) => (value ? `M${index * 2} 20v${-Math.max(1.5, (value / top) * 19).toFixed(1)}h1.5V20z` : ""))
    .join("");
  return html`<span class=${`spark ${tone}`} title=${`${label}: ${minute} in the last minute; the bars are the last 10 minutes`}>
    <svg viewBox="0 0 120 20" preserveAspectRatio="none" role="img" aria-label=${`${label} in the last 10 minutes`}>
      <path class="base" d="M0 19.5H120" />${hasBars && html`<path class="bars" d=${path} />`}
    </svg>
    <span class="num">${minute}<small>/min ${tone}</small></span>
  </span>`;
});

/** A part of a whole, with both numbers. */
export const Meter = memo(({ used, of, label }) => {
  if (of == null) return html`<span class="faint">–</span>`;
  const share = of > 0 ? Math.min(1, (used || 0) / of) : 0;
  const full = of > 0 && used >= of;
  return html`<span class=${`meter ${full ? "full" : ""}`} title=${`${used ?? 0} of ${of} ${label}`}>
    <svg viewBox="0 0 40 6" preserveAspectRatio="none" aria-hidden="true">
      <rect class="rail" width="40" height="6" rx="3" />
      ${share > 0 && html`<rect class="fill" width=${40 * share} height="6" rx="3" />`}
    </svg>
    <span class="num">${used ?? "–"}/${of}</span>
  </span>`;
});

/** A text that one click copies. Where the browser refuses, the text is selected, to be copied by hand. */
export function Copyable({ text, label }) {
  const field = useRef(null);
  const [state, setState] = useState("Copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("Copied");
    } catch {
      const range = document.createRange();
      range.selectNodeContents(field.current);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      setState("Selected: press Ctrl+C");
    }
    setTimeout(() => setState("Copy"), 4000);
  };
  return html`<div class="copyable">
    <code ref=${field} tabIndex="0" role="textbox" aria-readonly="true" aria-multiline="true" aria-label=${label}>${text}</code>
    <button type="button" class="button" onClick=${copy} aria-label=${`Copy ${label}`}><span aria-live="polite">${state}</span></button>
  </div>`;
}

/** Names, the first few in view and all in the title. */
export const Names = memo(({ names, most = 3, view = null }) => {
  if (!names.length) return html`<span class="faint">none</span>`;
  const shown = names.slice(0, most);
  const more = names.length - shown.length;
  return html`<span class="names" title=${names.join(", ")}>
    ${shown.map((name) => (view ? html`<a key=${name} class="tag" href=${view(name)}>${name}</a>` : html`<span key=${name} class="tag">${name}</span>`))}
    ${more > 0 && html`<span class="faint">+${more}</span>`}
  </span>`;
});
