// Says what is known of a token, and lets arrow keys move from one to the next. The page reads without it.
(() => {
  "use strict";
  const readout = document.getElementById("readout");
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

  function tell(token) {
    readout.hidden = !token;
    if (token) readout.textContent = token.title;
  }

  const main = document.querySelector("main");
  main.addEventListener("mouseover", (event) => tell(event.target.closest(".tokens .t")));
  main.addEventListener("mouseleave", () => tell(document.activeElement.closest(".tokens .t")));
  main.addEventListener("focusin", (event) => tell(event.target.closest(".tokens .t")));
  main.addEventListener("focusout", () => tell(null));
  main.addEventListener("keydown", (event) => {
    const from = event.target.closest(".tokens .t");
    if (!from || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const all = Array.from(from.parentElement.querySelectorAll(".t"));
    const next = all[Math.min(all.length - 1, Math.max(0, all.indexOf(from) + steps[event.key]))];
    from.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
})();
