// A modal dialog: the browser's own element keeps the focus inside, closes with Escape and returns the focus.
import { html, useEffect, useRef } from "../lib.js";

export function Dialog({ title, close, children, locked = false }) {
  const element = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => {
      if (before?.isConnected) before.focus();
    };
  }, []);
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onCancel=${(event) => {
    event.preventDefault();
    if (!locked) close();
  }}>
    <header><h2 id="dialog-title">${title}</h2>
      <button type="button" class="button plain close" aria-label="Close" disabled=${locked} onClick=${close}>
        <svg viewBox="0 0 12 12" aria-hidden="true"><path d="M2 2l8 8M10 2l-8 8" /></svg>
      </button>
    </header>
    ${children}
  </dialog>`;
}
