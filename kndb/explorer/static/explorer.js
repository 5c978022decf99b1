// Makes pages smoother; without it, all of them work the same. Nothing is fetched but pages of this server.
"use strict";

// Choosing in the context bar shows the page at once.
for (const form of document.querySelectorAll("form[data-changes]")) {
  form.addEventListener("change", (event) => {
    // Another model has other methods, refinements and versions, and another method other refinements.
    const others = { model: ["method", "refinement", "version"], method: ["refinement"] }[event.target.name] || [];
    for (const name of others) if (form.elements[name]) form.elements[name].selectedIndex = 0;
    form.requestSubmit();
  });
}

// Sorting, filtering and paging put another table in place of the one there; "back" and the address stay right.
async function swap(address, ids, push) {
  const shown = ids.map((id) => document.getElementById(id));
  shown.forEach((one) => one && one.classList.add("busy"));
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    shown.forEach((old, place) => {
      const fresh = page.getElementById(ids[place]);
      if (old && fresh) old.replaceWith(document.adoptNode(fresh));
    });
    if (push) history.pushState({}, "", address);
    else history.replaceState({}, "", address);
    return true;
  } catch {
    location.assign(address);
    return false;
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swaps]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  const id = link.dataset.swaps;
  const what = link.textContent.trim().replace(/[▲▼]/g, "").trim();
  swap(link.href, [id], true).then(() => {
    const again = [...document.querySelectorAll(`#${CSS.escape(id)} a[data-swaps]`)];
    const same = again.find((one) => one.textContent.replace(/[▲▼]/g, "").trim() === what) || again[0];
    if (same) same.focus({ preventScroll: true });
  });
});

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-swaps]");
  if (!form) return;
  event.preventDefault();
  const address = new URL(form.action);
  address.search = new URLSearchParams(new FormData(form)).toString();
  swap(address.href, [form.dataset.swaps], true);
});

addEventListener("popstate", () => location.reload());

// What takes a model comes by itself: its place says so until it is there, or why it is not.
async function fill(place) {
  const told = place.querySelector("[role=status]");
  const link = told.querySelector("a");
  told.textContent = place.dataset.busy;
  place.setAttribute("aria-busy", "true");
  let wrong = "The server can't be reached.";
  try {
    const answer = await fetch(place.dataset.later, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(place.id);
    if (answer.ok && fresh) {
      place.replaceWith(document.adoptNode(fresh));
      for (const one of fresh.querySelectorAll("[data-later]")) await fill(one);
      return;
    }
    const warning = page.querySelector("#blocks .warning");
    wrong = warning ? warning.textContent : `The server did not answer as it should (${answer.status}).`;
  } catch {
    // The server was stopped, or this page is being left.
  }
  place.removeAttribute("aria-busy");
  told.className = "warning";
  told.textContent = `${wrong} `;
  told.append(link);
}

(async () => {
  for (const place of document.querySelectorAll("[data-later]")) await fill(place);
})();

// A form that changes the store is sent once, and says that it was.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[method=post]");
  const button = form && form.querySelector("button");
  if (!button) return;
  setTimeout(() => {
    button.disabled = true;
    button.textContent = "Working …";
  });
});

addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// The search page answers as one types.
for (const form of document.querySelectorAll("form[data-typing]")) {
  const field = form.querySelector("input[type=search]");
  let waiting = 0;
  let last = field.value;
  field.setAttribute("autocomplete", "off");
  if (!field.value) field.focus();
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      if (field.value === last) return;
      const asked = (last = field.value);
      const address = new URL(form.action);
      address.search = new URLSearchParams(new FormData(form)).toString();
      const answer = await fetch(address, { credentials: "same-origin" });
      if (!answer.ok || asked !== field.value) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const old = document.getElementById("blocks");
      const fresh = page.getElementById("blocks");
      const kept = form.closest("section");
      for (const child of [...old.children]) if (child !== kept) child.remove();
      for (const child of [...fresh.children].slice(1)) old.append(document.adoptNode(child));
      history.replaceState({}, "", address);
    }, 150);
  });
}

// Figures say what is pointed at or reached by keyboard; arrows go from cell to cell.
for (const figure of document.querySelectorAll("figure")) {
  const readout = figure.querySelector(".readout");
  const picture = figure.querySelector("svg");
  if (!readout || !picture) continue;
  readout.hidden = false;
  readout.textContent = "Point at a part of the figure, or reach it with Tab and the arrow keys.";
  const columns = JSON.parse(picture.dataset.columns || "[]");
  // What a cell without anything in it says: it is no element of its own.
  const empty = (event) => {
    const row = event.target.closest("g[data-row]");
    if (!row || !event.target.classList.contains("q0")) return "";
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    const column = columns[Math.floor((at.x - picture.dataset.left) / picture.dataset.width)];
    const words = { "{row}": row.dataset.name, "{column}": column };
    return column && picture.dataset.empty.replace(/{row}|{column}/g, (one) => words[one]);
  };
  const say = (event) => {
    const part = event.target.closest("a, .said");
    const said = part ? part.querySelector("title").textContent : empty(event);
    if (said && said !== readout.textContent) readout.textContent = said;
  };
  picture.addEventListener("pointerover", say);
  picture.addEventListener("pointermove", say);
  picture.addEventListener("focusin", say);
  const place = (part) => [Number(part.parentNode.dataset.row), Number(part.dataset.column)];
  const cells = new Map();
  for (const part of picture.querySelectorAll("a[data-column]")) {
    cells.set(place(part).join(), part);
    part.setAttribute("tabindex", cells.size === 1 ? "0" : "-1");
  }
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  picture.addEventListener("keydown", (event) => {
    const part = event.target.closest("a[data-column]");
    const step = steps[event.key];
    if (!part || !step) return;
    event.preventDefault();
    let [row, column] = place(part);
    for (let tries = 0; tries < 512; tries += 1) {
      row += step[0];
      column += step[1];
      const next = cells.get([row, column].join());
      if (next) {
        part.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
        return;
      }
    }
  });
}
