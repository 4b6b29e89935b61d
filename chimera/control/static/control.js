// Keys of the review desk. Without this file everything works by mouse and tab.
"use strict";

const typing = (where) => where.closest("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]") !== null;
const press = (id) => document.getElementById(id)?.click();

function toggle(button) {
  const drawer = document.getElementById(button.getAttribute("aria-controls"));
  drawer.hidden = !drawer.hidden;
  button.setAttribute("aria-expanded", String(!drawer.hidden));
  if (!drawer.hidden) drawer.querySelector("textarea, input")?.focus();
}

function move(step) {
  const cards = [...document.querySelectorAll("#queue a[data-card]")];
  const open = cards.findIndex((card) => card.closest("li").classList.contains("open"));
  cards[Math.min(Math.max(open + step, 0), cards.length - 1)]?.click();
}

function reason(number) {
  const chips = document.querySelectorAll("#rejecting:not([hidden]) input[name=reason_code], .settle input[name=outcome]");
  if (!chips[number - 1]) return false;
  chips[number - 1].checked = true;
  (document.getElementById("reject") ?? chips[number - 1]).focus();
  return true;
}

// Money takes a password: the keys that decide lead there first, where none is typed.
function unshown() {
  const field = document.getElementById("password");
  if (!field || field.value) return false;
  field.focus();
  return true;
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  a: () => unshown() || press("approve"),
  e: () => press("open-edit"),
  r: () => unshown() || press("open-reject"),
  h: () => unshown() || press("hold"),
  x: () => flip(),
  u: () => document.querySelector("form.undo button")?.click(),
  "/": () => document.getElementById("search")?.focus(),
  "?": () => document.getElementById("help")?.showModal(),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[aria-controls]");
  if (button) toggle(button);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing(event.target)) return event.target.blur();
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  if (/^[1-9]$/.test(event.key) && reason(Number(event.key))) return event.preventDefault();
  if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
});
