// Judging answers. What is judged is kept in this browser until the server has it on disk; every text is set as text.
(() => {
  "use strict";
  const at = (id) => document.getElementById(id);
  const prefix = `sightline-review/${document.body.dataset.storage}/`;
  const choices = {
    label: [["correct", "Correct"], ["incorrect", "Incorrect"], ["cannot_say", "Cannot say"]],
    preference: [["left", "A is better"], ["neither", "Neither"], ["right", "B is better"], ["cannot_say", "Cannot say"]],
  };
  const otherTask = { label: "preference", preference: "label" };
  const inWords = { label: "single answers", preference: "pairs side by side" };
  const longestWaitSeconds = 10;
  let reviewer = "";
  let task = "label";
  let items = [];
  let here = 0;
  let since = 0;
  let sawReference = false;
  let showsReference = false;
  let sending = false;
  let waitSeconds = 1;

  // What is not on the server's disk yet. One key each, so that two windows cannot overwrite each other.
  const inMemory = new Map();
  const unsent = {
    keep(judgement) {
      inMemory.set(judgement.id, judgement);
      try {
        localStorage.setItem(prefix + judgement.id, JSON.stringify(judgement));
      } catch {
        say("this browser keeps nothing: do not close the page before all is saved", true);
      }
    },
    drop(judgement) {
      inMemory.delete(judgement.id);
      try {
        localStorage.removeItem(prefix + judgement.id);
      } catch {
        // It was never kept there.
      }
    },
    all() {
      const found = new Map(inMemory);
      try {
        for (const [key, text] of Object.entries(localStorage)) {
          if (key.startsWith(prefix)) found.set(key.slice(prefix.length), JSON.parse(text));
        }
      } catch {
        // What is in memory is all there is.
      }
      return Array.from(found.values()).sort((a, b) => (a.id < b.id ? -1 : 1));
    },
    waiting() {
      return this.all().filter((one) => !one.refused);
    },
  };

  function say(words, waiting = false) {
    at("status").textContent = words;
    at("status").classList.toggle("waiting", waiting);
  }

  // Ids sort by time, so that judgements of one answer arrive in the order in which they were made.
  function newId() {
    const random = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0"));
    return `${Date.now().toString().padStart(14, "0")}-${random.join("")}`;
  }

  async function send() {
    if (sending) return;
    sending = true;
    let refused = "";
    try {
      for (let left = unsent.waiting(); left.length; left = unsent.waiting()) {
        let reply;
        try {
          reply = await fetch("judgements", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify(left[0]),
          });
        } catch {
          reply = null;
        }
        if (reply && reply.ok) {
          unsent.drop(left[0]);
          waitSeconds = 1;
        } else if (reply && [400, 409].includes(reply.status)) {
          refused = (await reply.json()).error;
          unsent.keep({ ...left[0], refused });
        } else {
          const why = reply ? (await reply.json().catch(() => ({}))).error || `error ${reply.status}` : "the server does not answer";
          say(`${left.length} not saved yet: ${why}; kept in this browser, trying again`, true);
          setTimeout(send, 1000 * waitSeconds);
          waitSeconds = Math.min(longestWaitSeconds, 2 * waitSeconds);
          return;
        }
      }
      const kept = unsent.all().length;
      if (kept) say(`${kept} could not be stored (${refused || unsent.all()[0].refused}); kept in this browser`, true);
      else say(items.some((item) => item.verdict) ? "saved" : "");
    } finally {
      sending = false;
    }
  }

  function element(name, text, classes = "") {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = classes;
    return made;
  }

  function show(section) {
    for (const id of ["start", "judge", "done"]) at(id).hidden = id !== section;
    at("bar").hidden = section === "start";
  }

  function showItem(index) {
    here = index;
    const item = items[here];
    show("judge");
    at("pictures").replaceChildren(...item.pictures.map((key, i) => picture(key, i, item.pictures.length)));
    at("before").hidden = !item.before.length;
    at("before").textContent = item.before.map((turn) => `${turn.who === "model" ? "Model" : "Person"}: ${turn.text}`).join("\n");
    at("question").textContent = item.question;
    at("answers").classList.toggle("two", item.answers.length > 1);
    at("answers").replaceChildren(...item.answers.map((text, i) => answer(text, item.answers.length > 1 ? `Answer ${"AB"[i]}` : "Answer")));
    at("reference").textContent = item.reference;
    sawReference = showsReference;
    showReference();
    at("verdicts").replaceChildren(...choices[task].map(([verdict, words], i) => choice(verdict, words, i + 1)));
    showProgress();
    scrollTo(0, 0);
    at("question").focus({ preventScroll: true });
    since = performance.now();
    for (const next of items.slice(here + 1, here + 3)) for (const key of next.pictures) new Image().src = `pictures/${key}`;
  }

  function picture(key, index, total) {
    const button = element("button", "");
    const image = document.createElement("img");
    button.type = "button";
    image.alt = total > 1 ? `picture ${index + 1} of ${total}` : "the picture";
    image.addEventListener("error", () => button.replaceWith(element("p", "The picture is gone, or is not what the models saw.", "missing")));
    image.src = `pictures/${key}`;
    button.append(image);
    button.addEventListener("click", () => enlarge(image.src));
    return button;
  }

  function enlarge(source) {
    at("large-picture").src = source;
    at("large").showModal();
  }

  function answer(text, title) {
    const box = element("article", "", "answer");
    const words = element("p", text || "no answer: the text is empty", text ? "" : "empty");
    words.dir = "auto";
    box.append(element("h3", title), words);
    return box;
  }

  function choice(verdict, words, number) {
    const button = element("button", "", verdict === "cannot_say" ? "aside" : "");
    button.type = "button";
    button.append(element("kbd", String(number)), words);
    button.setAttribute("aria-pressed", String(items[here].verdict === verdict));
    button.addEventListener("click", () => decide(verdict));
    return button;
  }

  function showReference() {
    at("reference").hidden = !showsReference;
    at("reveal").setAttribute("aria-expanded", String(showsReference));
    sawReference = sawReference || showsReference;
  }

  function showProgress() {
    const judged = items.filter((item) => item.verdict).length;
    at("place").value = `${here + 1} of ${items.length}`;
    at("who").textContent = `${judged} judged · ${reviewer}`;
    at("progress").setAttribute("aria-valuemax", String(items.length));
    at("progress").setAttribute("aria-valuenow", String(judged));
    at("filled").style.width = `${(100 * judged) / items.length}%`;
  }

  function decide(verdict) {
    const item = items[here];
    item.verdict = verdict;
    unsent.keep({
      id: newId(),
      reviewer,
      item: item.item,
      verdict,
      seconds: (performance.now() - since) / 1000,
      saw_reference: sawReference,
    });
    say("saving");
    send();
    for (const [i, [name]] of choices[task].entries()) at("verdicts").children[i].setAttribute("aria-pressed", String(name === verdict));
    showProgress();
    const next = nextOpen(here + 1);
    if (next === -1) finish();
    else showItem(next);
  }

  function nextOpen(from) {
    const after = items.findIndex((item, i) => i >= from && !item.verdict);
    return after === -1 ? items.findIndex((item) => !item.verdict) : after;
  }

  async function finish() {
    show("done");
    const count = items.length;
    at("done-words").textContent = `${reviewer}, you have judged all ${count} ${inWords[task]}. Thank you.`;
    at("other").textContent = `Go on with ${inWords[otherTask[task]]}`;
    at("other").hidden = !document.querySelector("[name=task][value=preference]");
    at("done-title").focus();
    await send();
    showAgreement(at("agreed"));
  }

  async function showAgreement(place) {
    const reply = await fetch("agreement").catch(() => null);
    if (!reply || !reply.ok) return;
    const found = await reply.json();
    place.replaceChildren();
    if (!found.reviewers.length) return;
    for (const [what, name] of [["labels", "single answers"], ["preferences", "pairs"]]) {
      const { alpha, num_shared: shared } = found[what];
      if (!shared) continue;
      const words = alpha === null ? "cannot be told from chance: all judgements are the same" : `Krippendorff's alpha ${alpha.toFixed(2).replace("-", "−")}`;
      place.append(element("p", `Agreement on ${shared} ${name} that two or more judged: ${words}.`));
    }
    const table = document.createElement("table");
    const head = document.createElement("tr");
    for (const title of ["Reviewer", "Single answers", "Pairs"]) head.append(element("th", title, "by"));
    table.append(head);
    for (const one of found.reviewers) {
      const row = document.createElement("tr");
      const name = element("td", one.name);
      name.dir = "auto";
      row.append(name, element("td", String(one.labels)), element("td", String(one.preferences)));
      table.append(row);
    }
    place.append(table);
  }

  async function begin(chosen) {
    at("refused").hidden = true;
    reviewer = at("name").value.trim();
    task = chosen;
    // Before the server is asked: what is sent while it answers is in neither its answer nor here afterwards.
    const mine = new Map(unsent.all().filter((one) => one.reviewer === reviewer).map((one) => [one.item, one.verdict]));
    const address = `queue?task=${task}&reviewer=${encodeURIComponent(reviewer)}`;
    const reply = await fetch(address).catch(() => null);
    if (!reply || !reply.ok) {
      at("refused").textContent = reply ? (await reply.json()).error : "The server does not answer; start `sightline review` again.";
      at("refused").hidden = false;
      return;
    }
    items = (await reply.json()).items;
    for (const item of items) item.verdict = mine.get(item.item) || item.verdict;
    try {
      localStorage.setItem("sightline-review/name", reviewer);
    } catch {
      // The name is typed again next time.
    }
    send();
    const next = nextOpen(0);
    if (next === -1) finish();
    else showItem(next);
  }

  at("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    if (at("name").value.trim()) begin(new FormData(at("enter")).get("task"));
  });
  at("other").addEventListener("click", () => begin(otherTask[task]));
  at("again").addEventListener("click", () => showItem(0));
  at("reveal").addEventListener("click", toggleReference);
  at("close").addEventListener("click", () => at("large").close());
  at("large-picture").addEventListener("click", () => at("large").close());
  at("leave").addEventListener("click", () => {
    show("start");
    showAgreement(at("so-far"));
    at("name").focus();
  });

  function toggleReference() {
    showsReference = !showsReference;
    showReference();
  }

  document.addEventListener("keydown", (event) => {
    if (at("judge").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    if (at("large").open) {
      if (event.key.toLowerCase() === "z") at("large").close();
      return;
    }
    const chosen = choices[task][Number(event.key) - 1];
    const key = event.key.toLowerCase();
    if (chosen && !event.repeat) decide(chosen[0]);
    else if (key === "arrowleft" && here > 0) showItem(here - 1);
    else if (key === "arrowright" && here < items.length - 1) showItem(here + 1);
    else if (key === "r") toggleReference();
    else if (key === "z" && at("pictures").querySelector("img")) enlarge(at("pictures").querySelector("img").src);
    else return;
    event.preventDefault();
  });

  try {
    at("name").value = localStorage.getItem("sightline-review/name") || "";
  } catch {
    // A browser that keeps nothing asks for the name.
  }
  at("name").focus();
  send();
  showAgreement(at("so-far"));
})();
