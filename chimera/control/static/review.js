// The review desk beyond its keys: choosing several cards, undo with its time, the next card fetched ahead.
"use strict";

const chosen = new Set();
const ahead = new Map();
const AHEAD_MS = 10000;

// --- several cards at once ---------------------------------------------------------------------------------------------

function choose(box) {
  if (box.checked) chosen.add(box.value);
  else chosen.delete(box.value);
  choices();
}

function choices() {
  const boxes = [...document.querySelectorAll("#queue input[name=card]")];
  for (const gone of [...chosen].filter((card) => !boxes.some((box) => box.value === card))) chosen.delete(gone);
  const kind = boxes.find((box) => chosen.has(box.value))?.dataset.kind;
  for (const box of boxes) {
    box.checked = chosen.has(box.value);
    box.closest("li").classList.toggle("unlike", kind !== undefined && box.dataset.kind !== kind);
  }
  const form = document.getElementById("batch");
  if (!form) return;
  form.classList.toggle("some", chosen.size > 0);
  form.querySelector(".count").textContent = String(chosen.size);
}

// The card that is open may be chosen as soon as the desk knows that it was opened: when it answered who else looks at it.
function opened(path) {
  const open = document.querySelector("#queue li.open input[name=card]");
  if (open && path.startsWith(`/review/${open.value}/looking`)) open.disabled = false;
}

function flip() {
  const box = document.querySelector("#queue li.open input[name=card]");
  if (!box || box.disabled) return;
  box.checked = !box.checked;
  choose(box);
}

// --- undo --------------------------------------------------------------------------------------------------------------

function adopt() {
  const form = document.querySelector("#desk .flash form.undo");
  const tray = document.getElementById("tray");
  if (!form || !tray) return;
  form.dataset.until = String(performance.now() + Number(form.dataset.left));
  tray.prepend(form);
  while (tray.children.length > 4) tray.lastElementChild.remove();
  tick();
}

function tick() {
  for (const form of document.querySelectorAll("#tray form.undo")) {
    const left = Number(form.dataset.until) - performance.now();
    if (left <= 0) form.remove();
    else {
      form.querySelector("progress").value = left;
      form.querySelector(".left").textContent = `${Math.ceil(left / 1000)} s`;
    }
  }
}

setInterval(tick, 250);

// --- the next card, fetched ahead --------------------------------------------------------------------------------------

async function fetchAhead() {
  const next = document.querySelector("#queue li.open + li a[data-card]") ?? document.querySelector("#queue li:not(.open) a[data-card]");
  if (!next) return;
  const url = next.getAttribute("hx-get");
  if (ahead.has(url)) return;
  ahead.clear();
  ahead.set(url, null);
  try {
    const answer = await fetch(url, { headers: { "HX-Request": "true" }, priority: "low" });
    if (answer.ok && ahead.has(url)) ahead.set(url, { at: performance.now(), text: await answer.text() });
  } catch {
    ahead.delete(url);
  }
}

document.addEventListener("htmx:beforeRequest", (event) => {
  // What was fetched ahead is another login's as soon as a password was shown with a decision.
  if (event.detail.requestConfig.verb === "post") ahead.clear();
  const link = event.target;
  if (!(link instanceof HTMLAnchorElement) || !link.dataset.card) return;
  const kept = ahead.get(link.getAttribute("hx-get"));
  ahead.clear();
  if (!kept || performance.now() - kept.at > AHEAD_MS) return;
  event.preventDefault();
  htmx.swap("#desk", kept.text, { swapStyle: "outerHTML" });
});

// --- when something new stands on the page -----------------------------------------------------------------------------

document.addEventListener("change", (event) => {
  if (event.target.matches("#queue input[name=card]")) choose(event.target);
});

// One element that stays hears the server. Those that come and go with each card would be held in memory by the connection,
// with all of the card, until it says something to them again.
document.addEventListener("htmx:sseMessage", (event) => {
  ahead.clear();
  htmx.trigger(document.body, `told:${event.detail.type}`);
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.id === "others" && event.detail.successful) opened(event.detail.pathInfo.requestPath);
  if (event.target.closest?.("form.undo")) event.target.closest("form.undo").remove();
});

document.addEventListener("htmx:load", (event) => {
  if (event.target.id === "desk" || event.target.id === "queue" || event.target === document.body) {
    choices();
    adopt();
    const open = document.querySelector("#queue li.open");
    open?.scrollIntoView({ block: "nearest" });
    if (document.querySelector("#decide")) setTimeout(fetchAhead, 150);
  }
});
