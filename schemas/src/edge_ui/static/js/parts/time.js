// A moment in words; the exact instant is in the title. The words change by themselves, each second at most.
import { serverNow } from "../api.js";
import { exact, relative, shortSpan } from "../format.js";
import { html, memo, useEffect, useState } from "../lib.js";

const waiting = new Set();
setInterval(() => {
  if (!document.hidden) for (const look of waiting) look();
}, 1000);

/** The component is rendered only when the words change. */
function Moment({ at, words }) {
  const make = () => words((serverNow() - Date.parse(at)) / 1000);
  const [text, set] = useState(make);
  useEffect(() => {
    const look = () => set(make());
    look();
    waiting.add(look);
    return () => waiting.delete(look);
  }, [at, words]);
  return html`<time dateTime=${at} title=${exact(at)}>${text}</time>`;
}

/** "3 minutes ago" */
export const Ago = memo(({ at, none = "–" }) => (at ? html`<${Moment} at=${at} words=${relative} />` : html`<span class="faint">${none}</span>`));

/** "3 min 20 s", how long something lasts already. */
export const Age = memo(({ at, none = "–" }) => (at ? html`<${Moment} at=${at} words=${shortSpan} />` : html`<span class="faint">${none}</span>`));
