// Runs before the page is drawn: takes the reader's theme, so that nothing flashes.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  let chosen = "";
  const apply = () => { root.dataset.theme = chosen || (dark.matches ? "dark" : "light"); };
  window.sweepTheme = {
    isDark: () => root.dataset.theme === "dark",
    toggle: () => { chosen = root.dataset.theme === "dark" ? "light" : "dark"; apply(); },
    onPaper: (paper) => { if (paper) root.dataset.theme = "light"; else apply(); },
    onSystemChange: (then) => dark.addEventListener("change", () => { apply(); then(); }),
  };
  apply();
})();
