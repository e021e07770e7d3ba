// Filtering, searching, sorting and moving among the side-by-sides. The page reads without it.
(() => {
  "use strict";
  const list = document.getElementById("list");
  const controls = document.getElementById("controls");
  if (!list || !controls) return;

  const numStated = Number(list.dataset.stated);
  const rows = Array.from(list.querySelectorAll(":scope > .row"), (element, given) => ({
    element,
    given,
    ...JSON.parse(element.dataset.facts),
    question: element.querySelector(".question").textContent,
    words: element.textContent.toLowerCase(),
  }));
  const tagSelects = Array.from(controls.querySelectorAll("select[data-tag]"));
  const tally = document.getElementById("tally");
  const nothing = document.getElementById("nothing");
  const orders = {
    given: (a, b) => a.given - b.given,
    hardest: (a, b) => a.right - b.right || a.given - b.given,
    easiest: (a, b) => b.right - a.right || a.given - b.given,
    question: (a, b) => a.question.localeCompare(b.question) || a.given - b.given,
  };

  function moved(row, status, comparison) {
    if (status === "all" && comparison === "stated") return true;
    return Object.entries(row.flips).some(
      ([index, value]) =>
        (status === "all" || value === status) &&
        (comparison === "stated" ? Number(index) < numStated : index === comparison),
    );
  }

  function shown() {
    return Array.from(list.children).filter((element) => !element.hidden);
  }

  function apply() {
    const status = controls.elements.moved.value;
    const comparison = controls.elements.comparison ? controls.elements.comparison.value : "stated";
    const words = controls.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const fits =
        moved(row, status, comparison) &&
        tagSelects.every((select) => !select.value || row.tags[select.dataset.tag] === select.value) &&
        words.every((word) => row.words.includes(word));
      row.element.hidden = !fits;
      row.element.tabIndex = -1;
      count += fits;
    }
    rows.sort(orders[controls.elements.sort.value]);
    list.append(...rows.map((row) => row.element));
    // One row is reached by Tab, the others by the arrow keys from there.
    if (count) shown()[0].tabIndex = 0;
    tally.value = count === rows.length ? `${count} questions` : `${count} of ${rows.length} questions`;
    nothing.hidden = count > 0;
  }

  function move(from, by) {
    const visible = shown();
    const next = visible[Math.min(visible.length - 1, Math.max(0, visible.indexOf(from) + by))];
    if (!next) return;
    for (const element of visible) element.tabIndex = -1;
    next.tabIndex = 0;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest", behavior: "auto" });
  }

  const steps = { ArrowDown: 1, ArrowRight: 1, j: 1, ArrowUp: -1, ArrowLeft: -1, k: -1, Home: -Infinity, End: Infinity };
  list.addEventListener("keydown", (event) => {
    const from = event.target.closest(".row");
    if (!from || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(from, steps[event.key]);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    event.preventDefault();
    controls.elements.words.focus();
  });
  controls.addEventListener("input", apply);
  controls.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => {
    controls.reset();
    apply();
    controls.elements.words.focus();
  });

  controls.hidden = false;
  apply();
})();
