"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // ---- light and dark: what the system says until somebody chooses
  const theme = document.querySelector("button.theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const shown = () => { theme.setAttribute("aria-pressed", String(dark())); };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; shown(); });
  system.addEventListener("change", shown);
  shown();

  // ---- an answer: its direction, its step, its list
  function bind(answer) {
    const all = (selector) => [...answer.querySelectorAll(selector)];
    const text = answer.querySelector(".now-text");
    let phase = "forward", at = -1;
    const steps = () => all(`.steps .phase[data-phase=${phase}] details[data-step]`);
    const visible = (element) => element.getClientRects().length > 0;

    function stops(number) {
      return all(`.way .phase[data-phase=${phase}] .stop`).filter((stop) => stop.dataset.steps.split(" ").includes(number));
    }
    function show(next) {
      phase = next;
      at = -1;
      for (const part of all(".phase")) part.classList.toggle("shown", part.dataset.phase === phase);
      for (const button of all("button[data-phase]")) button.setAttribute("aria-pressed", String(button.dataset.phase === phase));
      mark(null);
      for (const picture of all(`.way .phase[data-phase=${phase}] svg`)) {
        const first = picture.querySelector(".stop");
        if (first) first.setAttribute("tabindex", "0");
      }
      text.textContent = "Choose a box, or press → to walk through the steps.";
      text.parentElement.classList.add("empty");
    }
    function mark(number) {
      for (const stop of all(".stop")) { stop.classList.remove("current"); stop.setAttribute("tabindex", "-1"); }
      for (const step of all("details.current")) step.classList.remove("current");
      if (number === null) return;
      for (const stop of stops(number)) { stop.classList.add("current"); stop.setAttribute("tabindex", "0"); }
    }
    function choose(index, focus) {
      const list = steps();
      if (!list.length) return;
      at = Math.max(0, Math.min(index, list.length - 1));
      const step = list[at], number = step.dataset.step;
      mark(number);
      step.classList.add("current");
      text.replaceChildren();
      text.parentElement.classList.remove("empty");
      const head = document.createElement("b");
      head.textContent = `Step ${at + 1} of ${list.length}: ${step.querySelector(".place").textContent} `;
      const facts = document.createElement("span");
      facts.className = "facts";
      facts.textContent = [...step.querySelectorAll("dt")].map((name) => `${name.textContent}: ${name.nextElementSibling.textContent}`).join(" · ");
      text.append(head, step.querySelector(".said").textContent, document.createElement("br"), facts);
      const stop = stops(number).find(visible);
      if (stop && focus) stop.focus({ preventScroll: true });
      if (stop) stop.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    function open() {
      const step = steps()[at];
      if (!step) return;
      step.open = true;
      const summary = step.querySelector("summary");
      summary.focus({ preventScroll: true });
      summary.scrollIntoView({ block: "center" });
    }
    const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    answer.querySelector(".way").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || !event.target.closest("svg")) return;
      if (event.key in MOVES) choose(at + MOVES[event.key], true);
      else if (event.key === "Home") choose(0, true);
      else if (event.key === "End") choose(Infinity, true);
      else if (event.key === "Enter" || event.key === " ") { if (at < 0) pick(event.target.closest(".stop")); open(); }
      else return;
      event.preventDefault();
    });
    function pick(stop) {
      if (!stop) return;
      const numbers = stop.dataset.steps.split(" ");
      const list = steps();
      const current = list[at] && numbers.indexOf(list[at].dataset.step);
      const next = numbers[current === undefined || current < 0 ? 0 : (current + 1) % numbers.length];
      choose(list.findIndex((step) => step.dataset.step === next), true);
    }
    answer.addEventListener("click", (event) => {
      const stop = event.target.closest(".stop");
      if (stop) return pick(stop);
      const button = event.target.closest("button");
      if (!button) return;
      if (button.dataset.phase) show(button.dataset.phase);
      else if (button.dataset.move) choose(at + Number(button.dataset.move), false);
      else if (button.classList.contains("open-all")) openAll(button);
      else if (button.classList.contains("copy")) copy(button);
    });
    function openAll(button) {
      const open = button.getAttribute("aria-pressed") !== "true";
      for (const step of all(".steps details, .chains details")) step.open = open;
      button.setAttribute("aria-pressed", String(open));
      button.textContent = open ? "Close all" : "Open all";
    }
    async function copy(button) {
      const commands = button.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(commands.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(commands); // no clipboard here: it is at least selected
        button.textContent = "Selected";
      }
    }
    show("forward");
  }
  window.nattrace = { bind };
  for (const answer of document.querySelectorAll("article.answer")) bind(answer);

  // ---- on paper everything is open
  let closed = [];
  addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("details:not([open])")]; for (const d of closed) d.open = true; });
  addEventListener("afterprint", () => { for (const d of closed) d.open = false; });
  root.dataset.ready = "yes";
})();
