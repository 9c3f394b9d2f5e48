// Inside Airflow's UI the page is in a sandboxed frame of the same origin, which may neither navigate the window around
// it nor open another one. A link that leads out of the page is therefore followed by the document around the frame.
"use strict";

(() => {
  if (window.parent === window) return;
  const folder = new URL("./", document.currentScript.src);

  const leadsOut = (link) =>
    /^https?:$/.test(link.protocol) && (link.origin !== folder.origin || !link.pathname.startsWith(folder.pathname));

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (event.defaultPrevented || event.button !== 0 || link === null || link.download || !leadsOut(link)) return;
    event.preventDefault();
    const outside = window.parent.document;
    const copy = outside.createElement("a");
    copy.href = link.href;
    if (event.ctrlKey || event.metaKey || event.shiftKey || link.target === "_blank") copy.target = "_blank";
    copy.rel = "noopener";
    outside.body.append(copy);
    copy.click();
    copy.remove();
  });
})();
