"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);
  const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, more);
  const changes = [];

  async function ask(path, options) {
    const response = await fetch(path, { cache: "no-store", ...options });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    return found;
  }
  function problem(error) { $(".problem").textContent = error ? error.message : ""; }

  // ---- changes
  function example() { $("#change").placeholder = $("#kind").selectedOptions[0].dataset.example; }
  $("#kind").addEventListener("change", example);
  example();
  function list() {
    $(".changes").replaceChildren(...changes.map((change, i) => {
      const item = make("li");
      const drop = make("button", "Remove", { type: "button" });
      drop.setAttribute("aria-label", `remove ${change.kind} ${change.text}`);
      drop.addEventListener("click", () => { changes.splice(i, 1); list(); run(); });
      item.append(make("code", `${change.kind} ${change.text}`), drop);
      return item;
    }));
  }
  function add(kind, text) { changes.push({ kind, text }); list(); run(); }
  function typed() {
    const text = $("#change").value.trim();
    if (!text) return $("#change").focus();
    $("#change").value = "";
    add($("#kind").value, / at \S+$/.test(text) ? text : `${text} at ${$("#at").value}`);
  }
  $(".add").addEventListener("click", typed);
  $("#change").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); typed(); } });
  $("#flush").addEventListener("change", () => run());

  // ---- the answer, and the one with the changes beside it
  let latest = 0;
  async function run() {
    const flow = $("#flow").value.trim();
    if (!flow) return;
    const mine = ++latest;
    problem(null);
    $(".busy").textContent = "asking …";
    try {
      const body = JSON.stringify({ flow, edits: changes, flush: $("#flush").checked });
      const found = await ask("why", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      if (mine === latest) show(found);
    } catch (error) {
      if (mine === latest) { $(".answers").replaceChildren(); problem(error); }
    } finally {
      if (mine === latest) $(".busy").textContent = "";
    }
  }
  function show(found) {
    const box = $(".answers");
    box.classList.toggle("two", found.then !== null);
    const parts = found.then === null ? [[null, found.now]] : [["As it is", found.now], ["With the changes", found.then]];
    box.replaceChildren(...parts.map(([title, html]) => {
      const part = make("div");
      part.innerHTML = html; // made and escaped by the server that made this page; the policy runs nothing in it
      if (title) part.prepend(make("h2", title, { className: "which" }));
      return part;
    }));
    for (const answer of box.querySelectorAll("article.answer")) window.nattrace.bind(answer);
    box.dataset.asked = String(latest);
  }
  $("form.ask").addEventListener("submit", (event) => { event.preventDefault(); run(); });

  // ---- tables
  let table = null, offset = 0, asking = 0;
  const region = $(".tables .scroll");
  async function rows(start) {
    const mine = ++asking, name = table, text = $("#text").value;
    problem(null);
    $(".looking").textContent = "looking …"; // many rules are read when somebody looks through them for the first time
    try {
      const found = await ask(`table?${new URLSearchParams({ name, text, offset: start })}`);
      if (mine !== asking) return; // somebody wants another one meanwhile
      offset = start + found.rows.length;
      region.dataset.shown = "";
      if (start === 0) {
        const head = make("thead"), line = make("tr");
        line.append(...found.columns.map((name) => make("th", name, { scope: "col" })));
        if (table === "rules") line.append(make("th", "", { scope: "col", ariaLabel: "without it" }));
        head.append(line);
        const body = make("table");
        body.append(head, make("tbody"));
        region.replaceChildren(body);
      }
      region.querySelector("tbody").append(...found.rows.map((row) => line(row, found.columns)));
      if (!offset) region.append(make("p", "nothing", { className: "dim" }));
      $(".more").hidden = !found.more;
      region.dataset.shown = `${name} ${text}`;
    } catch (error) {
      problem(error);
    } finally {
      if (mine === asking) $(".looking").textContent = "";
    }
  }
  function line(row, columns) {
    const found = make("tr");
    found.append(...row.map((value) => make("td", value)));
    if (table === "rules") {
      const get = (name) => row[columns.indexOf(name)];
      const without = make("button", "try without", { type: "button" });
      without.setAttribute("aria-label", `try without rule ${get("rule")} of ${get("table")} ${get("chain")} on ${get("host")}`);
      without.addEventListener("click", () => add("delete", `-t ${get("table")} ${get("chain")} ${get("rule")} at ${get("host")}`));
      const cell = make("td");
      cell.append(without);
      found.append(cell);
    }
    return found;
  }
  for (const button of document.querySelectorAll("button[data-table]")) {
    button.addEventListener("click", () => {
      table = button.dataset.table;
      for (const other of document.querySelectorAll("button[data-table]")) other.setAttribute("aria-pressed", String(other === button));
      $(".find").hidden = false;
      rows(0);
    });
  }
  let wait;
  $("#text").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(() => rows(0), 150); });
  $(".more").addEventListener("click", () => rows(offset));
})();
