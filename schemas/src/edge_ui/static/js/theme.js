// Runs before anything is painted, so that a chosen theme does not flash. "auto" follows the system.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("edge-theme");
  } catch {
    // Storage is refused, for example in a frame: the system's theme is used.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
