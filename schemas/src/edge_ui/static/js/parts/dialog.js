// A modal dialog: the browser's own element keeps the focus inside, closes with Escape and returns the focus.
import { html, useLayoutEffect, useRef } from "../lib.js";

export function Dialog({ title, close, children, opener = null, locked = false }) {
  const element = useRef(null);
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog.showModal();
    // The window gets the focus otherwise, and a person at the keyboard begins at the top again. Nothing outside can have
    // the focus while the dialog is open.
    return () => {
      dialog.close();
      if (opener?.isConnected) opener.focus();
    };
  }, []);
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onCancel=${(event) => {
    event.preventDefault();
    if (!locked) close();
  }}>
    <header><h2 id="dialog-title">${title}</h2>
      <button type="button" class="button plain close" aria-label="Close the dialog" disabled=${locked} onClick=${close}>
        <svg viewBox="0 0 12 12" aria-hidden="true"><path d="M2 2l8 8M10 2l-8 8" /></svg>
      </button>
    </header>
    ${children}
  </dialog>`;
}
