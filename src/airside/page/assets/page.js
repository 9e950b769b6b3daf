// Keeps an open page current, and copies texts. Without it the page is whole, and reloads by hand.
"use strict";

const said = document.getElementById("said");

function say(text) {
  if (said && said.textContent !== text) said.textContent = text;
}

// Buttons that need a script are hidden in the document.
function showButtons(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = false;
}

function morph(before, after) {
  if (window.Idiomorph) {
    window.Idiomorph.morph(before, after, { ignoreActiveValue: true });
  } else if (!before.contains(document.activeElement)) {
    before.replaceWith(after);
  }
}

function refreshFrom(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const verdict = document.querySelector("#verdict .verdict")?.textContent;
  for (const before of document.querySelectorAll("[data-live][id]")) {
    const after = fresh.getElementById(before.id);
    if (!after) continue;
    showButtons(after);
    if (before.outerHTML !== after.outerHTML) morph(before, after);
  }
  const now = document.querySelector("#verdict .verdict")?.textContent;
  if (now && now !== verdict) say(now);
  document.dispatchEvent(new CustomEvent("airside:refreshed"));
}

// A page that takes the agent long is asked for less often: a hundredth of the time at most.
const REST = 100;
const MOST_REST_MILLISECONDS = 10000;
let loading = false;
let wanted = false;

async function load(where) {
  try {
    const answer = await fetch(where, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.ok) refreshFrom(await answer.text());
  } catch {
    // The agent is away: the stream tells when it is back.
  }
}

async function refresh() {
  if (loading) {
    wanted = true;
    return;
  }
  loading = true;
  const started = performance.now();
  await load(location.href);
  const rest = Math.min(REST * (performance.now() - started), MOST_REST_MILLISECONDS);
  setTimeout(() => {
    loading = false;
    if (wanted) {
      wanted = false;
      refresh();
    }
  }, rest);
}

function refreshProgress() {
  if (document.getElementById("running")) load("/ui/running");
}

const REOPEN_MILLISECONDS = 30000;
let stream = null;

function listen() {
  if (stream || document.hidden || !document.querySelector("[data-live]")) return;
  stream = new EventSource("/ui/events");
  let opened = false;
  stream.addEventListener("open", () => {
    if (opened) refresh();
    opened = true;
    document.documentElement.dataset.stream = "open";
  });
  stream.addEventListener("change", refresh);
  stream.addEventListener("progress", refreshProgress);
  stream.addEventListener("error", () => {
    document.documentElement.dataset.stream = "closed";
    if (stream?.readyState !== EventSource.CLOSED) return; // it connects again by itself
    stream = null;
    setTimeout(listen, REOPEN_MILLISECONDS);
  });
}

// A page that nobody looks at costs the agent nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.close();
    stream = null;
    return;
  }
  refresh();
  listen();
});
addEventListener("pagehide", () => {
  stream?.close();
  stream = null;
});

async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea"); // without TLS there is no clipboard API
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await copy(button.parentElement.querySelector("code").textContent);
    say(document.body.dataset.copied);
  } catch {
    getSelection().selectAllChildren(button.parentElement.querySelector("code"));
  }
  button.focus();
});

showButtons(document);
listen();
