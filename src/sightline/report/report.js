// Filtering, searching, sorting and moving among the side-by-sides. The page reads without it.
(() => {
  "use strict";
  const list = document.getElementById("list");
  const controls = document.getElementById("controls");
  if (!list || !controls) return;

  const PAGE = Number(list.dataset.page);
  const facts = JSON.parse(document.getElementById("facts").content.textContent);
  const rest = document.getElementById("rest");
  // Only rows that a reader has come to are part of the page; the others wait in a template, which costs nothing.
  const elements = [...list.children, ...rest.content.children];
  const rows = elements.map((element, given) => ({ element, given, ...facts.rows[given] }));
  const selects = Array.from(controls.querySelectorAll("select"));
  const named = (name) => selects.find((select) => select.name === name);
  const tagSelects = selects.filter((select) => select.name.startsWith("tag:"));
  const tally = document.getElementById("tally");
  const nothing = document.getElementById("nothing");
  const more = document.getElementById("more");
  const wordsOf = (row) => (row.words ??= row.element.textContent.toLowerCase());
  const questionOf = (row) => (row.question ??= row.element.querySelector(".question").textContent);
  const orders = {
    given: (a, b) => a.given - b.given,
    hardest: (a, b) => a.right - b.right || a.given - b.given,
    easiest: (a, b) => b.right - a.right || a.given - b.given,
    question: (a, b) => questionOf(a).localeCompare(questionOf(b)) || a.given - b.given,
  };
  let found = [];

  function moved(row, status, comparison) {
    if (status === "all" && comparison === "stated") return true;
    return Object.entries(row.flips).some(
      ([index, value]) =>
        (status === "all" || value === status) &&
        (comparison === "stated" ? Number(index) < facts.stated : index === comparison),
    );
  }

  // A metric asks for questions that it applies to; a model, an answer and a mistake ask for one and the same answer.
  function answered(row, { model, metric, answer, kind }) {
    if (!model && !metric && !answer && !kind) return true;
    const marks = metric ? [row.marks[facts.metrics.indexOf(metric)]] : row.marks;
    const places = model ? [facts.models.indexOf(model)] : Array.from(facts.models.keys());
    return places.some(
      (place) =>
        row.kinds[place] !== "-" &&
        (!kind || parseInt(row.kinds[place], 16) === Number(kind)) &&
        (!(metric || answer) || marks.some((mark) => mark[place] !== "-" && (!answer || mark[place] === answer))),
    );
  }

  function apply() {
    const value = (name) => (named(name) ? named(name).value : "");
    const asked = Object.fromEntries(["model", "metric", "answer", "kind"].map((name) => [name, value(name)]));
    const words = controls.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = rows.filter(
      (row) =>
        moved(row, controls.elements.moved.value, value("comparison") || "stated") &&
        (!value("data") || row.data === value("data")) &&
        (!value("template") || row.template === value("template")) &&
        tagSelects.every((select) => !select.value || row.tags[select.name.slice(4)] === select.value) &&
        answered(row, asked) &&
        words.every((word) => wordsOf(row).includes(word)),
    );
    found.sort(orders[controls.elements.sort.value]);
    list.replaceChildren();
    show(PAGE);
    // One row is reached by Tab, the others by the arrow keys from there.
    if (found.length) found[0].element.tabIndex = 0;
    const total = rows.length.toLocaleString("en");
    tally.value =
      found.length === rows.length ? `${total} questions` : `${found.length.toLocaleString("en")} of ${total} questions`;
    nothing.hidden = found.length > 0;
    const hidden = controls.querySelectorAll("details select");
    const set = Array.from(hidden).filter((select) => select.value).length;
    controls.querySelector("details .set-here").textContent = set ? ` (${set})` : "";
  }

  function show(count) {
    const next = found.slice(list.children.length, list.children.length + count).map((row) => row.element);
    for (const element of next) element.tabIndex = -1;
    list.append(...next);
    const left = found.length - list.children.length;
    more.hidden = left <= 0;
    more.querySelector("button").textContent = `Show ${Math.min(PAGE, left)} more of ${found.length.toLocaleString("en")}`;
  }

  function move(from, by) {
    const here = Array.prototype.indexOf.call(list.children, from);
    const target = Math.min(found.length - 1, Math.max(0, here + by));
    if (target >= list.children.length) show(target + 1 - list.children.length);
    const next = list.children[target];
    if (!next) return;
    for (const element of list.querySelectorAll(":scope > [tabindex='0']")) element.tabIndex = -1;
    next.tabIndex = 0;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  // A number of a table leads to the answers behind it.
  function showAnswers(wanted) {
    controls.reset();
    for (const [name, value] of Object.entries(wanted)) {
      if (name === "moved") controls.elements.moved.value = value;
      const select = named(name);
      if (!select) continue;
      select.value = value;
      if (select.closest("details")) select.closest("details").open = true;
    }
    apply();
    document.getElementById("answers").scrollIntoView({ behavior: "instant" });
    if (found.length) found[0].element.focus({ preventScroll: true });
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
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-show]");
    if (!link) return;
    event.preventDefault();
    showAnswers(JSON.parse(link.dataset.show));
  });
  controls.addEventListener("input", () => {
    apply();
    // Whoever filters from far below would see the end of what is left, or nothing.
    if (list.getBoundingClientRect().top < 0) document.getElementById("answers").scrollIntoView({ behavior: "instant" });
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => {
    controls.reset();
    apply();
    controls.elements.words.focus();
  });
  more.querySelector("button").addEventListener("click", () => show(PAGE));
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) show(PAGE);
  }, { rootMargin: "1200px" }).observe(more);

  controls.hidden = false;
  apply();
})();
